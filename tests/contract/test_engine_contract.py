"""What every engine must do, toy or llama.cpp: decoding, scores and the sampler. Memory: test_memory_contract."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from engines import (
    ALL,
    N_BATCH,
    N_CTX,
    N_SEQ_MAX,
    SHARING,
    Kind,
    apart,
    kind_of,
    piece,
    ranges,
    read,
    rows_of,
    some_tokens,
)

from edge_sir.core import scores
from edge_sir.engine import Engine, SamplingParams
from edge_sir.errors import BatchError, NoSlotError

NEEDS = scores.SCORE_NAMES


@pytest.fixture(params=ALL)
def kind(request: pytest.FixtureRequest) -> Kind:
    return kind_of(request)


@pytest.fixture
def engine(kind: Kind) -> Engine:
    return kind.make()


# ---- what a batch may be -----------------------------------------------------------------------


@pytest.mark.parametrize("p0", [0, 9, 11, 100])
def test_a_sequence_continues_only_at_its_largest_position_plus_one(engine: Engine, p0: int) -> None:
    read(engine, 0, some_tokens(engine, 10))
    with pytest.raises(BatchError):
        read(engine, 0, [21], p0)
    assert engine.pos_range(0) == (0, 9)


def test_an_empty_sequence_may_start_anywhere(kind: Kind, engine: Engine) -> None:
    tokens = some_tokens(engine, 20)
    far = read(engine, 1, tokens, 1000)
    assert engine.pos_range(1) == (1000, 1019)
    assert apart(far, read(engine, 0, tokens)) < kind.moved


def test_holes_between_resident_positions_are_legal(engine: Engine) -> None:
    read(engine, 0, some_tokens(engine, 30))
    engine.remove(0, 5, 12)
    engine.remove(0, 20, 21)
    read(engine, 0, some_tokens(engine, 3))
    assert engine.pos_range(0) == (0, 32)


BAD_BATCHES: dict[str, Callable[[int], list[Any]]] = {
    "nothing at all": lambda _: [],
    "an empty slice": lambda _: [piece(1, [], 0)],
    "an empty slice beside a full one": lambda _: [piece(1, [21], 0), piece(2, [], 0)],
    "too many tokens": lambda _: [piece(1, np.full(N_BATCH + 1, 21), 0)],
    "too many tokens in all": lambda _: [piece(1, np.full(N_BATCH, 21), 0), piece(2, [21], 0)],
    "two slices of a sequence": lambda _: [piece(1, [21], 0), piece(1, [22], 1)],
    "a token beyond the vocabulary": lambda n_vocab: [piece(1, [21, n_vocab], 0)],
    "a negative token": lambda _: [piece(1, [21, -1], 0)],
    "a target beyond the vocabulary": lambda n_vocab: [piece(1, [21], 0, targets=[n_vocab], needs=["surprisal"])],
    "a negative position": lambda _: [piece(1, [21], -1)],
    "a negative sequence": lambda _: [piece(-1, [21], 0)],
    "a sequence too many": lambda _: [piece(N_SEQ_MAX, [21], 0)],
    "a good slice before a bad one": lambda _: [piece(1, [21], 0), piece(0, [21], 99)],
}


@pytest.mark.parametrize("bad", BAD_BATCHES)
def test_a_bad_batch_is_refused_and_changes_nothing(kind: Kind, engine: Engine, bad: str) -> None:
    tokens = some_tokens(engine, 10)
    read(engine, 0, tokens)
    before = ranges(engine)
    with pytest.raises(BatchError):
        engine.decode(BAD_BATCHES[bad](engine.spec.n_vocab))
    assert ranges(engine) == before
    after = read(engine, 0, [33])
    assert apart(after, read(kind.make(), 0, [*tokens, 33])) < kind.same


@pytest.mark.parametrize("kind", SHARING, indirect=True)
def test_without_free_cells_nothing_changes_and_room_helps(engine: Engine) -> None:
    read(engine, 0, some_tokens(engine, N_CTX - 5))
    before = ranges(engine)
    with pytest.raises(NoSlotError):
        read(engine, 1, some_tokens(engine, 6))
    assert ranges(engine) == before
    engine.remove(0, 10, 11)
    read(engine, 1, some_tokens(engine, 6))
    assert engine.pos_range(1) == (0, 5)


# ---- what comes back ---------------------------------------------------------------------------


def test_scores_are_those_of_the_logits_of_single_tokens(kind: Kind, engine: Engine) -> None:
    tokens = some_tokens(engine, 40)
    rows = rows_of(kind.make(), 0, tokens)
    got: list[np.ndarray] = []
    for at in (slice(0, 1), slice(1, 8), slice(8, 40)):
        part, following = tokens[at], [*tokens[at.start + 1 : at.stop + 1], -1][: at.stop - at.start]
        [result] = engine.decode([piece(0, part, at.start, targets=following, needs=NEEDS)])
        got.append(np.stack([result.scores[name] for name in NEEDS]))
    surprisal, entropy, self_repeat = np.concatenate(got, axis=1)
    assert apart(surprisal[:-1], scores.surprisal(rows[:-1], tokens[1:])) < kind.same
    assert apart(entropy, scores.entropy(rows)) < kind.same
    assert apart(self_repeat, scores.surprisal(rows, tokens)) < kind.same
    assert surprisal[:-1].std() > 1  # the figures say something


def test_an_unknown_target_has_no_surprisal(engine: Engine) -> None:
    [result] = engine.decode([piece(0, [21, 22, 23], 0, targets=[22, -1, -1], needs=NEEDS)])
    assert np.isnan(result.scores["surprisal"]).tolist() == [False, True, True]
    assert not np.isnan(result.scores["entropy"]).any()


@pytest.mark.parametrize("needs", [(), ("entropy",), ("surprisal", "self_repeat")])
def test_only_scores_that_are_needed_come_back(engine: Engine, needs: tuple[str, ...]) -> None:
    [result] = engine.decode([piece(0, [21, 22], 0, targets=[22, 23], needs=needs)])
    assert set(result.scores) == set(needs)
    assert all(row.shape == (2,) and row.dtype == np.float32 for row in result.scores.values())


@pytest.mark.parametrize("needs", [(), NEEDS])
def test_logits_come_only_when_asked_for(engine: Engine, needs: tuple[str, ...]) -> None:
    [result] = engine.decode([piece(0, [21, 22], 0, needs=needs, logits=False)])
    assert result.logits is None
    [result] = engine.decode([piece(0, [23, 24], 2, needs=needs)])
    assert result.logits is not None
    assert result.logits.shape == (engine.spec.n_vocab,)
    assert result.logits.dtype == np.float32


def test_logits_are_the_callers_to_keep(engine: Engine) -> None:
    logits = read(engine, 0, some_tokens(engine, 8))
    before = logits.copy()
    read(engine, 0, some_tokens(engine, 30, seed=1))
    assert np.array_equal(logits, before)


def test_slices_of_three_sequences_in_one_decode_equal_each_alone(kind: Kind, engine: Engine) -> None:
    streams = {seq: some_tokens(engine, 25, seed=seq) for seq in (0, 2, 3)}
    alone = {seq: rows_of(kind.make(), seq, tokens) for seq, tokens in streams.items()}
    done = dict.fromkeys(streams, 0)
    steps = np.random.default_rng(7)
    for _ in range(6):
        sizes = {seq: int(steps.integers(1, 5)) for seq in steps.permutation(list(streams)).tolist()}
        batch = []
        for seq, n in sizes.items():
            at, tokens = done[seq], streams[seq]
            batch.append(piece(seq, tokens[at : at + n], at, targets=tokens[at + 1 : at + n + 1], needs=["surprisal"]))
            done[seq] += len(batch[-1].tokens)
        for part, result in zip(batch, engine.decode(batch), strict=True):
            rows = alone[part.seq][part.p0 : done[part.seq]]
            assert result.logits is not None
            assert apart(result.logits, rows[-1]) < kind.same
            assert apart(result.scores["surprisal"], scores.surprisal(rows, part.targets)) < kind.same


def test_slices_with_and_without_outputs_mix(kind: Kind, engine: Engine) -> None:
    alone = {seq: rows_of(kind.make(), seq, [30 + seq, 40]) for seq in range(4)}
    results = engine.decode(
        [
            piece(0, [30, 40], 0, logits=False),
            piece(1, [31, 40], 0, needs=["entropy"], logits=False),
            piece(2, [32, 40], 0),
            piece(3, [33, 40], 0, needs=["entropy"]),
        ]
    )
    assert [result.logits is None for result in results] == [True, True, False, False]
    for seq in (2, 3):
        assert apart(results[seq].logits, alone[seq][-1]) < kind.same
    for seq in (1, 3):
        assert apart(results[seq].scores["entropy"], scores.entropy(alone[seq])) < kind.same


def test_time_is_counted(engine: Engine) -> None:
    read(engine, 0, some_tokens(engine, 8))
    before = engine.times.decode_s
    read(engine, 0, some_tokens(engine, 8))
    assert engine.times.decode_s > before > 0


# ---- the sampler -------------------------------------------------------------------------------


def draws(engine: Engine, params: SamplingParams, logits: np.ndarray, n: int = 20) -> list[int]:
    sampler = engine.sampler(params)
    try:
        return [sampler.sample(logits) for _ in range(n)]
    finally:
        sampler.close()


@pytest.fixture
def logits(engine: Engine) -> np.ndarray:
    """A row with two likely tokens, 50 and 60, one that may come, 70, and a floor."""
    row = np.full(engine.spec.n_vocab, -20.0, np.float32)
    row[[50, 60, 70]] = [2.0, 1.9, 0.0]
    return row


def test_temperature_zero_is_greedy(engine: Engine, logits: np.ndarray) -> None:
    assert draws(engine, SamplingParams(temperature=0, repeat_penalty=1), logits, 3) == [50, 50, 50]


def test_a_seed_repeats_its_draws_and_another_does_not(engine: Engine, logits: np.ndarray) -> None:
    first, again, other = (draws(engine, SamplingParams(temperature=1, seed=s), logits) for s in (5, 5, 6))
    assert first == again != other
    assert len({*first}) > 1


def test_the_logits_that_were_sampled_from_are_not_changed(engine: Engine, logits: np.ndarray) -> None:
    before = logits.copy()
    draws(engine, SamplingParams(temperature=1, repeat_penalty=1.3), logits, 3)
    assert np.array_equal(logits, before)


def test_a_repetition_penalty_makes_accepted_tokens_less_likely(engine: Engine, logits: np.ndarray) -> None:
    sampler = engine.sampler(SamplingParams(temperature=0, repeat_penalty=1.5))
    assert sampler.sample(logits) == 50
    assert sampler.sample(logits) == 60  # drawing a token accepts it
    sampler.close()
    sampler = engine.sampler(SamplingParams(temperature=0, repeat_penalty=1.5), [50])
    assert sampler.sample(logits) == 60
    sampler.close()


@pytest.mark.parametrize("penalty", [{"frequency_penalty": 0.15}, {"presence_penalty": 0.15}])
def test_the_other_penalties_count_what_was_drawn(engine: Engine, logits: np.ndarray, penalty: dict) -> None:
    params = SamplingParams(temperature=0, repeat_penalty=1, **penalty)
    drawn = draws(engine, params, logits, 4)
    assert drawn[:2] == [50, 60]
    assert drawn[2:] == [50, 60] if "frequency_penalty" in penalty else [50, 50]


@pytest.mark.parametrize("params", [SamplingParams(seed=4, temperature=1.5), SamplingParams(temperature=0)])
def test_a_sampler_goes_on_where_another_one_was(engine: Engine, logits: np.ndarray, params: SamplingParams) -> None:
    whole = draws(engine, params, logits, 30)
    first = engine.sampler(params)
    begun = [first.sample(logits) for _ in range(11)]
    saved = json.loads(json.dumps(first.state()))
    first.close()
    second = engine.sampler(SamplingParams(**saved["params"]), saved["drawn"])
    assert begun + [second.sample(logits) for _ in range(19)] == whole
    second.close()


def test_the_penalty_forgets_what_is_long_past(engine: Engine, logits: np.ndarray) -> None:
    sampler = engine.sampler(SamplingParams(temperature=0, repeat_penalty=1.5, repeat_last_n=2), [50, 90, 91])
    assert sampler.sample(logits) == 50
    sampler.close()


@pytest.mark.parametrize("kind", ["tiny_llama"], indirect=True)  # the toy knows temperature only
@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=1, top_k=1, top_p=1, min_p=0, repeat_penalty=1),
        SamplingParams(temperature=1, top_k=0, top_p=0.3, min_p=0, repeat_penalty=1),
        SamplingParams(temperature=1, top_k=0, top_p=1, min_p=0.95, repeat_penalty=1),
        SamplingParams(temperature=0.005, top_k=0, top_p=1, min_p=0, repeat_penalty=1),
    ],
    ids=["top_k", "top_p", "min_p", "temperature"],
)
def test_each_step_of_the_chain_narrows_the_draw(engine: Engine, logits: np.ndarray, params: SamplingParams) -> None:
    assert set(draws(engine, params, logits)) == {50}


def test_closing_twice_does_nothing(engine: Engine) -> None:
    sampler = engine.sampler(SamplingParams())
    sampler.close()
    sampler.close()
    engine.close()
    engine.close()
