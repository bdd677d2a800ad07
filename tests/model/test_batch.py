"""Batches on real engines: `Model.batch` against one chat after another, in parallel, left early, and async."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tiny_gguf import write_llama

import edge_sir
from edge_sir.batch.measure import Way
from edge_sir.batch.request import BatchRequest
from edge_sir.batch.result import BatchResult
from edge_sir.batch.terms import seed_of
from edge_sir.engine import Slice, SliceResult
from edge_sir.errors import BudgetError, ConfigError, SessionError
from edge_sir.llama.engine import LlamaEngine
from edge_sir.memory.transcript import Message

TERMS: dict[str, Any] = {"threads": 1, "quiet": True}
OF_DIALOGUES: dict[str, Any] = {"budget": 192, "max_tokens": 16, "temperature": 0.8, "seed": 11, "recall": "cells"}
SYSTEM = Message(0, "system", "You are a gardener by the river. Answer in one short sentence, and name a plant.")
SAYINGS = (
    "My name is Ada, and my garden lies behind the old mill.",
    "What grows there in May, when the river is high?",
    "The soil is heavy, and the hares eat what is young.",
    "Which tree gives shade but lets the rain through?",
    "Remind me: what is my name, and where is my garden?",
)


def requests(n: int, n_turns: int = 5) -> list[BatchRequest]:
    """Dialogues that differ from the first word on; of four, three have the same system prompt."""
    out = []
    for i in range(n):
        said = tuple(f"Letter {i}. {SAYINGS[(i + turn) % len(SAYINGS)]}" for turn in range(n_turns))
        before = (SYSTEM,) if i % 4 else ()
        before += (Message(1, "user", "Good morning."), Message(1, "assistant", "Good morning to you.")) * (i % 2)
        out.append(BatchRequest(f"letter {i}", before, said))
    return out


def one_by_one(model: edge_sir.Model, asked: BatchRequest, **options: Any) -> list[str]:
    """What a chat of its own says."""
    messages = list(asked.messages)
    own = {"system": messages.pop(0).text} if messages and messages[0].role == "system" else {}
    options |= own | {"seed": seed_of(options["seed"], asked.custom_id)} | dict(asked.terms)
    with model.chat(positions="gaps", **options) as chat:
        for message in messages:
            chat.add(message.role, message.text)
        return [chat.reply(text).text for text in asked.said]


def texts(results: list[BatchResult]) -> dict[str, list[str]]:
    assert [one.error for one in results] == [None] * len(results)
    return {one.custom_id: [reply.text for reply in one.replies] for one in results}


@pytest.fixture
def model(tiny_llama_path: Path) -> Iterator[edge_sir.Model]:
    with edge_sir.load(tiny_llama_path, **TERMS) as loaded:
        yield loaded


@pytest.mark.parametrize("kind", ["tiny", pytest.param("smollm2", marks=pytest.mark.model)])
def test_one_at_a_time_is_one_chat_after_another_to_the_last_token(
    kind: str, tiny_llama_path: Path, request: pytest.FixtureRequest
) -> None:
    path = tiny_llama_path if kind == "tiny" else request.getfixturevalue("smollm2_path")
    with edge_sir.load(path, **TERMS) as model:
        results = list(model.batch(requests(4), parallel=1, **OF_DIALOGUES))
        assert sum(one.edge_sir["evicted"] for one in results) > 100
        assert {one.edge_sir["shared"] > 0 for one in results} == {True, False}
        alone = {asked.custom_id: one_by_one(model, asked, **OF_DIALOGUES) for asked in requests(4)}
        assert texts(results) == alone


@pytest.mark.parametrize("way", ["packed", "read again"])
@pytest.mark.parametrize("streams", [True, False])
def test_at_the_trained_length_positions_begin_anew_and_the_result_says_so(
    way: str, streams: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each dialogue has three times as many tokens as positions were trained; YaRN's keys cannot be moved."""
    scaled = {"rope_scaling": ("yarn", 4.0)} if way == "read again" else {}
    path = write_llama(tmp_path / "short.gguf", n_ctx_train=192, **scaled)  # type: ignore[arg-type]
    ends: list[int] = []
    real = LlamaEngine.decode

    def decode(self: LlamaEngine, slices: Sequence[Slice]) -> list[SliceResult]:
        ends.extend(piece.p0 + len(piece.tokens) for piece in slices)
        return real(self, slices)

    terms: dict[str, Any] = {"budget": 96, "max_tokens": 4, "temperature": 0.0, "recall": "off"}
    asked = [replace(one, messages=()) for one in requests(6, 12)]
    with edge_sir.load(path, **TERMS) as model:
        monkeypatch.setattr(LlamaEngine, "decode", decode)
        if not streams:
            found = model._sharing_options
            monkeypatch.setattr(model, "_sharing_options", lambda n: replace(found(n), streams=False))
        results = list(model.batch(asked, parallel=3, **terms))
        one = list(model.batch(asked, parallel=1, **terms))
    assert 180 < max(ends) <= 192
    assert texts(results) == texts(one)
    for result in results:
        facts = result.edge_sir
        assert (facts["positions"], facts["budget"]) == ("gaps", 96)
        n_fed = facts["read"] + facts["shared"] + facts["written"]
        assert n_fed > 3 * 192 and facts["renumbered"] > (n_fed - 192) // 192
    assert {r.custom_id: r.edge_sir["renumbered"] for r in one} == {
        r.custom_id: r.edge_sir["renumbered"] for r in results
    }


@pytest.mark.model
def test_dialogues_held_together_are_those_held_one_after_another_token_by_token(
    smollm2_path: Path, import_script: Callable[[str], ModuleType]
) -> None:
    """Each has several times its budget. What is asked of real models is 95 % of the dialogues; of six that is all."""
    equal = import_script("batch_equal")
    asked = equal.requests(6, 4, n_words=12)
    terms = {"budget": 128, "max_tokens": 16, "temperature": 0.0, "repeat_penalty": 1.0}
    with edge_sir.load(smollm2_path, **TERMS) as model:
        one, four = (equal.run(model, asked, parallel, **terms) for parallel in (1, 4))
    for events in one.events.values():
        kinds = [event.kind for event in events]
        assert kinds.count("token") > 40 and kinds.count("eviction") > 3
    apart = {name: equal.first_difference(one.events[name], four.events[name]) for name in one.events}
    assert apart == dict.fromkeys(apart)  # else: of which kind it is, and how near the two were
    assert one.replies == four.replies


def test_left_early_everything_is_freed(model: edge_sir.Model) -> None:
    results = model.batch(requests(9), parallel=3, **OF_DIALOGUES)
    assert not model._engines  # nothing happens before the first is asked for
    next(results)
    assert len(model._engines) == 1
    results.close()  # type: ignore[attr-defined]
    assert not model._engines
    with pytest.raises(StopIteration):
        next(results)


def test_of_a_model_that_is_closed_in_mid_batch_no_dialogue_is_said_to_have_failed(model: edge_sir.Model) -> None:
    results = model.batch(requests(9), parallel=3, **OF_DIALOGUES)
    assert next(results).error is None
    model.close()
    with pytest.raises(SessionError, match="closed"):
        list(results)
    with pytest.raises(SessionError, match="closed"):
        model.batch([])


def test_what_is_wrong_with_all_of_them_is_raised_at_once(model: edge_sir.Model, tmp_path: Path) -> None:
    for parallel in (0, 256, 1.5, True, "all"):
        with pytest.raises(ConfigError, match="parallel is a number of dialogues"):
            model.batch([], parallel=parallel)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="temperature"):
        model.batch([], temperature=-1)
    with pytest.raises(ConfigError, match="'threads' says how a model is loaded"):
        model.batch([], threads=2)
    for name, value in (("session", "ada"), ("trace", tmp_path / "new")):
        with pytest.raises(ConfigError, match=f"'{name}' is one chat's"):
            model.batch([], **{name: value})
    with pytest.raises(BudgetError, match="was trained on"):
        list(model.batch([], budget=10**6))


def watch_contexts(model: edge_sir.Model, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """Cells, sequences and threads of all contexts that are opened from now on."""
    opened: list[tuple[int, int, int]] = []
    real = model.open_engine

    def watched(n_cells: int, *, n_seq_max: int = 1, shares: bool = False, threads: int = 0) -> Any:
        opened.append((n_cells, n_seq_max, threads))
        return real(n_cells, n_seq_max=n_seq_max, shares=shares, threads=threads)

    monkeypatch.setattr(model, "open_engine", watched)
    return opened


def test_auto_takes_as_many_as_memory_holds(model: edge_sir.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    from edge_sir.llama import ram

    opened = watch_contexts(model, monkeypatch)
    free = ram.context_bytes(model.header, 900, model._sharing_options(4)) + ram._SPARE
    monkeypatch.setattr(ram, "available_bytes", lambda: free)
    monkeypatch.setattr("edge_sir.batch.contexts.choose", lambda ways, n_most: ways[-1])
    results = list(model.batch(requests(20, 1), **OF_DIALOGUES | {"recall": "off"}))
    assert len(results) == 20
    assert opened == [(n * 192, n, 0) for n in (16, 8, 4)]


@pytest.mark.parametrize("chosen", [(1, 2), (2, 1)])
def test_auto_holds_dialogues_in_the_way_that_was_chosen(
    tiny_llama_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, chosen: tuple[int, int]
) -> None:
    seen: list[Way] = []

    def choose(ways: Sequence[Way], n_most: int) -> Way:
        seen.extend(ways)
        assert n_most == 5
        return next(way for way in ways if (way.n_contexts, way.n_each) == chosen)

    monkeypatch.setattr("edge_sir.batch.contexts.choose", choose)
    with edge_sir.load(tiny_llama_path, threads=2, quiet=True) as model, caplog.at_level("INFO", "edge_sir.batch"):
        opened = watch_contexts(model, monkeypatch)
        found = texts(list(model.batch(requests(5, 1), **OF_DIALOGUES)))
        assert [(way.n_contexts, way.n_each) for way in seen] == [(1, 1), (1, 2), (1, 4), (1, 5), (2, 1), (2, 2)]
        assert opened[-chosen[0] :] == [(192 * chosen[1], chosen[1], chosen[0] - 1)] * chosen[0]
        assert not model._engines
        assert found == texts(list(model.batch(requests(5, 1), **OF_DIALOGUES)))
        assert len(seen) == 6  # measured once
        assert found.keys() == texts(list(model.batch(requests(5, 1), parallel=1, **OF_DIALOGUES))).keys()
        assert list(model.batch([], **OF_DIALOGUES)) == []
    [said] = [record.getMessage() for record in caplog.records if record.name == "edge_sir.batch"]
    assert said.startswith("tokens written a second: ") and said.count(" with ") == 6


def test_several_contexts_are_left_early_and_freed(tiny_llama_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_sir.batch.contexts.choose", lambda ways, n_most: ways[-1])
    with edge_sir.load(tiny_llama_path, threads=2, quiet=True) as model:
        results = model.batch(requests(9), **OF_DIALOGUES)
        next(results)
        assert len(model._engines) == 2
        results.close()  # type: ignore[attr-defined]
        assert not model._engines
        results = model.batch(requests(9), **OF_DIALOGUES)
        next(results)
        model.close()
        with pytest.raises(SessionError, match="closed"):
            list(results)


def test_as_async_other_tasks_go_on_and_leaving_frees_everything(model: edge_sir.Model) -> None:
    n_ticks = 0

    async def tick() -> None:
        nonlocal n_ticks
        while True:
            n_ticks += 1
            await asyncio.sleep(0)

    async def hold(n_most: int) -> list[BatchResult]:
        other, out = asyncio.create_task(tick()), []
        results = model.abatch(requests(6), parallel=2, **OF_DIALOGUES)
        async for one in results:
            out.append(one)
            if len(out) == n_most:
                break
        await results.aclose()  # type: ignore[attr-defined]
        other.cancel()
        assert not model._engines
        return out

    assert texts(asyncio.run(hold(6))) == texts(list(model.batch(requests(6), parallel=2, **OF_DIALOGUES)))
    assert n_ticks > 100
    assert len(asyncio.run(hold(2))) == 2


def test_a_batch_that_is_cancelled_frees_everything(model: edge_sir.Model) -> None:
    async def hold() -> None:
        async for _ in model.abatch(requests(50), parallel=2, **OF_DIALOGUES):
            pass

    async def cancel() -> None:
        task = asyncio.create_task(hold())
        await asyncio.sleep(0.5)
        assert len(model._engines) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert not model._engines
