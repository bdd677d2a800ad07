"""What was tried in place of `sir`."""

import numpy as np
import pytest
from playing import FACT, QUESTION, chat, dialogue, play
from toy_model import toy_contexts

from edge_sir.core.policy import LedgerView
from edge_sir.errors import ConfigError
from edge_sir.eval.play.controls import arm_policy
from edge_sir.eval.play.tried import SirTried, bound
from edge_sir.policies.sir import Sir
from edge_sir.testing import ByteTokenizer, ToyEngine


def view(surprisal: list[float], **columns: list[int]) -> LedgerView:
    """Words of one token each, all the user's; by default in one turn, without gaps."""
    n = len(surprisal)
    usual = {"token": list(range(n)), "born": list(range(n)), "turn": [1] * n, "word": list(range(n)), "role": [2] * n}
    found = {name: np.asarray(columns.get(name, values)) for name, values in usual.items()}
    return LedgerView(found | {"surprisal": np.asarray(surprisal, np.float32)}, turn_now=3, epoch=0, n_must=1)


def test_it_is_a_policy_of_an_evaluation_alone() -> None:
    assert arm_policy("sir-tried:around=1,decay=0.9") == SirTried(around=1, decay=0.9)
    for spec in ("sir-tried:norms=1", "sir-tried:around=-1", "sir-tried:low_norm=2", "sir-tried:bonus=much"):
        with pytest.raises(ConfigError):
            arm_policy(spec)


def test_with_nothing_more_it_scores_as_sir_does() -> None:
    seen = view([1.0, 5.0, 2.0, 0.5])
    np.testing.assert_array_equal(SirTried().score(seen), Sir().score(seen))


def test_a_word_keeps_what_was_read_beside_it() -> None:
    seen = view([0.1, 0.1, 9.0, 0.1, 0.1, 0.1], born=[0, 1, 2, 3, 4, 9])
    near, far = SirTried(around=1).score(seen), SirTried(around=2).score(seen)
    best = Sir().score(seen)[2]
    assert near[1] == near[2] == near[3] == best and max(near[0], near[4], near[5]) < best
    assert (far[:5] == best).all() and far[5] < best


def test_digits_negations_and_ends_of_sentences_have_a_bonus_and_markers_none() -> None:
    codec = ByteTokenizer()
    tokens = [int(codec.encode(text, special=False)[0]) for text in "7.a7"]
    seen = view([1.0] * 4, token=tokens, role=[2, 2, 2, 0])
    policy = bound(SirTried(bonus=3, length_power=0, power=1), codec, ToyEngine(n_ctx=64), 0)
    assert isinstance(policy, SirTried)
    np.testing.assert_allclose(policy._weighted(seen), [4, 4, 1, 0])
    assert bound(Sir(), codec, ToyEngine(n_ctx=64), 0) == Sir()


def test_whole_turns_of_low_norm_stay_as_far_as_their_share_goes() -> None:
    seen = view([1.0] * 6, turn=[1, 1, 2, 2, 3, 3])
    norms = np.array([5.0, 5.0, 1.0, 2.0, 3.0, 3.0])
    for share, kept in ((0.34, {2}), (0.7, {2, 3}), (0.2, set())):
        scores = SirTried(low_norm=share, norms=lambda: norms).score(seen)
        assert set(np.asarray(seen["turn"])[np.isinf(scores)].tolist()) == kept


def test_rows_that_are_displaced_have_the_norms_that_they_had() -> None:
    norms = [np.array([1.0, 1.0, 5.0, 5.0])]
    policy = SirTried(low_norm=0.5, norms=lambda: norms[-1])
    whole = view([1.0] * 4, turn=[1, 1, 2, 2])
    assert np.isinf(policy.score(whole)).tolist() == [True, True, False, False]
    norms.append(np.array([5.0, 5.0]))
    assert np.isinf(policy.score(whole)).tolist() == [True, True, False, False]


def test_it_is_played() -> None:
    told = dialogue(*chat(2), FACT, *chat(10, "news"), QUESTION)
    rows = play(toy_contexts(), told, ["sir", "sir-tried:around=2", "sir-tried:bonus=5"], 160)
    assert len({row.logprobs for row in rows}) == 3 and all(row.resident <= 160 for row in rows)
