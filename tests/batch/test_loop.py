"""Many dialogues on the toy: each as if alone, by exact order of steps, and none harmed by another."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from dialogues import N_SLICE, WORDS, Watched, alone, by_id, request, run, some_requests, terms

from edge_sir.batch.dialogue import Dialogue
from edge_sir.batch.loop import BatchLoop
from edge_sir.batch.request import BatchRequest
from edge_sir.batch.result import BatchResult, RequestError
from edge_sir.batch.terms import seed_of
from edge_sir.engine import Slice
from edge_sir.errors import ComputeError, NoSlotError, ShiftError

SYSTEM = [("system", "You are Ada, and you speak of gardens, rivers and boats, in this order, and of nothing else.")]


def without_order(facts: Any) -> dict[str, Any]:
    """What a result says of its dialogue, but who read its opening."""
    return {**facts, "read": facts["read"] + facts["shared"], "shared": 0}


# ---- as if alone -------------------------------------------------------------------------------


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("recall", ["off", "cells", "text"])
@pytest.mark.parametrize("n_seq", [1, 2, 5])
def test_each_dialogue_is_as_if_alone(n_seq: int, recall: str, streams: bool) -> None:
    requests = some_requests(15, seed=n_seq, recall=recall)
    found = by_id(run(requests, Watched(n_seq, streams=streams)))
    n_evicted = n_recalled = 0
    for asked in requests:
        chat, expected = alone(asked, Watched(1))
        result = found[asked.custom_id]
        assert result.error is None
        assert result.replies == expected.replies
        stats = chat.session.stats
        facts = result.edge_sir
        assert (facts["read"] + facts["shared"], facts["written"]) == (stats.tokens_in, stats.tokens_out)
        assert (facts["resident"], facts["evicted"]) == (len(chat.session.ledger), stats.evicted)
        n_evicted, n_recalled = n_evicted + facts["evicted"], n_recalled + facts["recalled"]
    assert n_evicted and bool(n_recalled) == (recall != "off")


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("can_pack", [True, False])
def test_so_it_is_where_positions_reach_the_trained_length(can_pack: bool, streams: bool) -> None:
    requests = some_requests(10, seed=7, recall="text", max_tokens=12, budget=120)
    found = by_id(run(requests, Watched(4, n_ctx_train=170, can_pack=can_pack, streams=streams)))
    for asked in requests:
        _, expected = alone(asked, Watched(1, n_ctx_train=170, can_pack=can_pack))
        assert found[asked.custom_id].replies == expected.replies
    assert sum(one.edge_sir["renumbered"] for one in found.values()) > 2


def test_results_do_not_depend_on_who_else_is_there() -> None:
    requests = some_requests(12, seed=3)
    one, four = (by_id(run(requests, Watched(n))) for n in (1, 4))
    backwards = by_id(run(requests[::-1], Watched(3)))
    for custom_id, result in one.items():
        for other in (four, backwards):
            assert replace(other[custom_id], edge_sir={}) == replace(result, edge_sir={})
            assert without_order(other[custom_id].edge_sir) == without_order(result.edge_sir)


def test_a_slice_is_as_long_as_was_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    real, sizes = Dialogue.next_slice, []

    def watched(self: Dialogue) -> Slice | None:
        n = self.n_next
        piece = real(self)
        assert piece is not None and len(piece.tokens) == n
        sizes.append(n)
        return piece

    monkeypatch.setattr(Dialogue, "next_slice", watched)
    run(some_requests(12, seed=4, recall="text"), Watched(3))
    assert max(sizes) == N_SLICE and min(sizes) == 1


def test_the_random_stream_is_the_seeds_and_the_ids() -> None:
    assert seed_of(5, "a") == seed_of(5, "a") == 3130972114
    assert len({seed_of(seed, name) for seed in (0, 1) for name in ("a", "b", "\ud800", "")}) == 8
    same = [request("a", "Hello."), request("b", "Hello.")]
    first = by_id(run(same, Watched(2), temperature=2.0))
    assert first["a"].replies != first["b"].replies
    assert by_id(run(same[:1], Watched(2), temperature=2.0))["a"].replies == first["a"].replies
    assert by_id(run(same[:1], Watched(2), temperature=2.0, seed=6))["a"].replies != first["a"].replies


# ---- step by step ------------------------------------------------------------------------------


def test_two_dialogues_step_by_step() -> None:
    engine = Watched(2)
    asked = [request("a", "Hi", max_tokens=2), request("b", "Hello, Ada, how are you?", max_tokens=1)]
    assert [one.custom_id for one in run(asked, engine)] == ["a", "b"]
    assert engine.steps == [
        {0: 1},  # <s>, which the other one shares
        {0: 21},  # the message and the opening of the reply; beside it 4 tokens are free, and b's slice has 24
        {0: 1, 1: 24},
        {0: 1, 1: 19},
        {0: 2, 1: 1},  # an end marker has two tokens
        {1: 2},
    ]


def test_with_streams_each_slice_of_several_tokens_is_a_decode_of_its_own() -> None:
    engine = Watched(2, streams=True)
    asked = [request("a", "Hi", max_tokens=2), request("b", "Hello, Ada, how are you?", max_tokens=1)]
    assert [one.custom_id for one in run(asked, engine)] == ["b", "a"]
    assert engine.steps == [{0: 1}, {0: 21}, {1: 24}, {1: 19}, {0: 1, 1: 1}, {1: 2}, {0: 1}, {0: 2}]


def test_while_one_writes_another_reads_in_the_same_decode() -> None:
    engine = Watched(2)
    run([request("a", "Hi", max_tokens=30), request("b", " ".join(WORDS))], engine)
    assert {0: 1, 1: N_SLICE} in engine.steps
    assert all(sum(step.values()) <= engine.spec.n_batch for step in engine.steps)


def test_what_is_free_is_taken_at_once_and_requests_are_asked_for_when_they_are_needed() -> None:
    taken = []

    def source() -> Iterator[BatchRequest]:
        for asked in some_requests(30):
            taken.append(asked.custom_id)
            yield asked

    engine = Watched(3, n_batch=3 * N_SLICE)
    n_busy, n = [], 0
    with BatchLoop(source(), terms(), engine) as loop:
        while not loop.is_over:
            n += len(loop.step())
            assert len(taken) <= n + 3
            n_busy += [len(step) for step in engine.steps[len(n_busy) :]] if n <= 27 else []
    assert len(taken) == 30
    assert n_busy.count(3) >= len(n_busy) - 5  # but for who waits for an opening that another reads


# ---- openings ----------------------------------------------------------------------------------


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("n_seq", [1, 2, 4])
def test_a_shared_system_prompt_is_decoded_once(n_seq: int, streams: bool) -> None:
    requests = [request(f"{i}", f"Number {i}.", messages=SYSTEM, budget=150) for i in range(9)]
    engine = Watched(n_seq, streams=streams)
    results = run(requests, engine)
    n_opening = 2 + len("system\n") + len(SYSTEM[0][1]) + 2  # <s><|im_start|> ... <|im_end|> and a line break
    assert sorted(one.edge_sir["shared"] for one in results) == [0] + [n_opening] * 8
    n_decoded = sum(one.edge_sir["read"] + one.edge_sir["written"] for one in results)
    assert sum(sum(step.values()) for step in engine.steps) == n_decoded
    for asked in requests:
        assert by_id(results)[asked.custom_id].replies == alone(asked, Watched(1))[1].replies


def test_other_scores_share_no_opening() -> None:
    requests = [
        request(p, messages=SYSTEM, policy=p, budget=150) for p in ("sir", "streaming", "entropy", "sir:decay=1")
    ]
    shared = {one.custom_id: one.edge_sir["shared"] for one in run(requests, Watched(4))}
    assert shared["sir"] == shared["streaming"] == shared["entropy"] == 0 < shared["sir:decay=1"]


# ---- cells -------------------------------------------------------------------------------------


def test_budgets_that_do_not_fit_together_are_held_one_after_another() -> None:
    requests = [request(name, "Hello.", budget=budget) for name, budget in (("a", 200), ("b", 60), ("c", 100))]
    engine = Watched(3, 300)
    results = run(requests, engine)
    assert not any(one.error for one in results)
    assert {0, 1} in [set(step) for step in engine.steps]
    assert not any({0, 1, 2} == set(step) for step in engine.steps)


def test_a_budget_beyond_all_cells_is_refused_and_the_others_go_on() -> None:
    found = by_id(run([request("a", budget=301), request("b")], Watched(2, 300)))
    assert found["a"].error == RequestError(
        "invalid_request_error",
        "a budget of 301 cells exceeds the 300 cells that a dialogue can have; use --budget 300 or less here, or more "
        "for all",
    )
    assert found["b"].error is None and found["b"].replies


def test_the_cells_of_all_are_free_in_the_end() -> None:
    engine = Watched(3)
    run(some_requests(9), engine)
    assert [engine.pos_range(seq) for seq in range(3)] == [(-1, -1)] * 3
    for seq in range(3):
        engine.claim(seq, 160)


# ---- mistakes and failures ---------------------------------------------------------------------

WRONG: dict[str, tuple[BatchRequest | BatchResult | dict[str, Any], str]] = {
    "an unknown policy": (request("x", policy="sri"), "unknown policy 'sri'"),
    "a term of loading": (request("x", threads=3), "'threads' cannot differ between dialogues"),
    "nothing said": (replace(request("x"), said=()), "nothing is said that could be answered"),
    "a long system prompt": (request("x", messages=[("system", "word " * 40)]), "the system prompt"),
    "a role": (request("x", messages=[("robot", "Hello.")]), "a message's role is one of"),
    "no room for a pin": (request("x", messages=[("user", "Hi"), ("system", "word " * 30)]), "this system message"),
    "an object": ({"custom_id": "x", "body": {"messages": 7}}, "'messages' must be a list"),
    "a line that holds none": (BatchResult("x", (), error=RequestError("a", "torn")), "torn"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_mistake_is_its_own_result_and_harms_nobody(what: str) -> None:
    wrong, complaint = WRONG[what]
    others = [request("a", "Hello.", "Again."), request("b", "Bye.")]
    found = by_id(run([others[0], wrong, others[1]], Watched(2)))
    error = found["x"].error
    assert error is not None and complaint in error.message and "\n" not in error.message
    assert what == "a line that holds none" or error.code == "invalid_request_error"
    for asked in others:
        assert found[asked.custom_id].replies == alone(asked, Watched(1))[1].replies


def test_an_object_is_a_line_of_openais() -> None:
    document = {"custom_id": "x", "body": {"messages": [{"role": "user", "content": "Hello."}], "max_tokens": 3}}
    [found] = run([document], Watched(1))
    assert found.replies == alone(request("x", "Hello.", max_tokens=3), Watched(1))[1].replies


@pytest.mark.parametrize("error", [ComputeError("broken"), NoSlotError("full")])
def test_a_decode_that_fails_for_one_sequence_ends_that_dialogue_alone(error: Exception) -> None:
    engine = Watched(3)
    requests = [request(name, "Hello there.", "And again.", "More.") for name in "abcde"]
    results: list[BatchResult] = []
    with BatchLoop(requests, terms(), engine) as loop:
        while not loop.is_over:
            results += loop.step()
            if len(engine.steps) == 12:  # b writes
                assert engine.steps[-1][1] == 1
                engine.failing = {1: error}
            if any(one.error for one in results):
                engine.failing = {}
    found = by_id(results)
    assert found["b"].error == RequestError("server_error", str(error))
    assert found["b"].replies == alone(requests[1], Watched(1))[1].replies[: len(found["b"].replies)]
    for asked in requests:
        if asked.custom_id != "b":
            assert found[asked.custom_id].replies == alone(asked, Watched(1))[1].replies


def test_what_fails_together_is_decoded_alone() -> None:
    engine = Watched(3)
    engine.failing = {-1: ComputeError("together")}
    requests = some_requests(6)
    found = by_id(run(requests, engine))
    assert max(map(len, engine.steps)) == 3
    for asked in requests:
        assert found[asked.custom_id].replies == alone(asked, Watched(1))[1].replies


def test_where_the_cells_of_all_are_wrong_nobody_gets_a_result() -> None:
    engine = Watched(2)
    with BatchLoop(some_requests(6), terms(), engine) as loop:
        loop.step()
        engine.failing = {0: ShiftError("wrong keys")}
        with pytest.raises(ShiftError):
            list(loop)


def test_what_the_source_raises_goes_to_the_caller() -> None:
    def source() -> Iterator[BatchRequest]:
        yield request("a")
        raise OSError("the disk is broken")

    with pytest.raises(OSError, match="disk"):
        run(source(), Watched(1))


def test_left_early_nothing_goes_on() -> None:
    engine = Watched(3)
    with BatchLoop(some_requests(20), terms(), engine) as loop:
        next(iter(loop))
    n = len(engine.steps)
    assert loop.is_over and list(loop) == [] and len(engine.steps) == n
