"""`load`: one model, several chats, and what is refused before llama.cpp is asked."""

import dataclasses
import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import edge_sir
from edge_sir.engine import SamplingParams
from edge_sir.errors import BudgetError, ConfigError, SessionError
from edge_sir.llama import ram

TERMS: dict[str, Any] = {"threads": 1, "quiet": True, "max_tokens": 8, "temperature": 0}
DIFFERENT: tuple[dict[str, Any], ...] = (
    {"budget": 160, "policy": "sir"},
    {"budget": 200, "policy": "streaming", "seed": 3},
)
SAYINGS = ("My name is Ada.", "What grows in a garden in May?", "And who am I?", "Name a colour.")


@pytest.fixture
def model(tiny_llama_path: Path) -> Iterator[edge_sir.Model]:
    with edge_sir.load(tiny_llama_path, **TERMS) as loaded:
        yield loaded


def talk(chats: list[edge_sir.Chat], *, turns: int = 4) -> list[list[str]]:
    """Turn by turn, all chats in each; what each of them said."""
    said: list[list[str]] = [[] for _ in chats]
    for turn in range(turns):
        for chat, own in zip(chats, said, strict=True):
            own.append(chat.reply(SAYINGS[(turn + len(own[0] if own else "")) % len(SAYINGS)]).text)
    return said


@pytest.mark.parametrize("kind", ["tiny", pytest.param("smollm2", marks=pytest.mark.model)])
def test_two_chats_at_once_say_what_each_would_say_alone(
    kind: str, tiny_llama_path: Path, request: pytest.FixtureRequest
) -> None:
    path = tiny_llama_path if kind == "tiny" else request.getfixturevalue("smollm2_path")
    alone = []
    for options in DIFFERENT:
        with edge_sir.load(path, **TERMS) as model, model.chat(**options) as chat:
            alone += talk([chat])
    with edge_sir.load(path, **TERMS) as model:
        chats = [model.chat(**options) for options in DIFFERENT]
        assert talk(chats) == alone
        assert [c.stats().budget for c in chats] == [160, 200]


@pytest.mark.parametrize("kind", ["tiny", pytest.param("smollm2", marks=pytest.mark.model)])
def test_two_chats_in_two_threads_say_what_each_would_say_alone(
    kind: str, tiny_llama_path: Path, request: pytest.FixtureRequest
) -> None:
    path = tiny_llama_path if kind == "tiny" else request.getfixturevalue("smollm2_path")
    with edge_sir.load(path, **TERMS) as model:
        alone = [talk([model.chat(**options)]) for options in DIFFERENT]
        chats = [model.chat(**options) for options in DIFFERENT]
        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(lambda chat: talk([chat]), chats)) == alone


def test_a_chat_takes_its_terms_from_load_unless_it_has_its_own(tiny_llama_path: Path) -> None:
    with edge_sir.load(tiny_llama_path, budget=128, system="Be kind.", **TERMS) as model:
        first, second = model.chat(), model.chat(budget=192, system="Be brief.")
        assert (first.stats().budget, first.system) == (128, "Be kind.")
        assert (second.stats().budget, second.system) == (192, "Be brief.")
        with pytest.raises(ConfigError, match="budgt"):
            model.chat(budgt=128)
        with pytest.raises(ConfigError, match="temperature"):
            model.chat(temperature=-1)
        with pytest.raises(ConfigError, match="'threads' says how a model is loaded"):
            model.chat(threads=2)
    with pytest.raises(ConfigError, match="'trace' is one chat's"):
        edge_sir.load(tiny_llama_path, trace="t")


def test_closing_the_model_closes_its_chats_and_streams(model: edge_sir.Model) -> None:
    chat = model.chat(budget=128)
    stream = chat.stream("Hi")
    next(stream)
    model.close()
    model.close()
    with pytest.raises(SessionError, match="the chat is closed"):
        next(stream)
    with pytest.raises(SessionError, match="the chat is closed"):
        chat.reply("Hi")
    with pytest.raises(SessionError, match="the model is closed"):
        model.chat()
    with pytest.raises(SessionError, match="the engine is closed"):
        chat.engine.pos_range(0)


def test_a_stream_that_outlives_its_chat_does_no_harm(tiny_llama_path: Path) -> None:
    """As in a function that returns out of the block while a stream lives."""

    def first_word() -> str:
        with edge_sir.open_chat(edge_sir.Options(model=str(tiny_llama_path), budget=128, **TERMS)) as chat:
            return next(chat.stream("Hi")).text

    assert isinstance(first_word(), str)
    gc.collect()


def test_a_closed_chat_leaves_the_model_to_others(model: edge_sir.Model) -> None:
    with model.chat(budget=128) as chat:
        first = chat.reply("Hi").text
    with model.chat(budget=128) as chat:
        assert chat.reply("Hi").text == first
        chat.set_budget(400)  # beyond its context: another one is opened
        assert chat.engine.spec.n_ctx == 512
        assert chat.reply("And?").finish in ("stop", "length")


def test_memory_that_is_not_there_is_refused_before_llama_cpp_is_asked(
    model: edge_sir.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = ram.context_bytes(model.header, 512, memory_options())
    monkeypatch.setattr(ram, "available_bytes", lambda: needed)
    with pytest.raises(BudgetError, match=r"takes \d+ MB, \d+ MB are free"):
        model.chat(budget=512)
    monkeypatch.setattr(ram, "available_bytes", lambda: needed + ram._SPARE)
    model.chat(budget=512).close()


def memory_options() -> Any:
    from edge_sir.llama.engine import EngineOptions

    return EngineOptions(threads=1)


def test_what_is_available_knows_the_limit_of_the_address_space() -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_AS)
    free = ram.available_bytes()
    assert free > 2**20
    try:
        import psutil

        resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + 10**9, before[1]))
        assert ram.available_bytes() <= 10**9
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_every_sampling_option_reaches_the_sampler(model: edge_sir.Model) -> None:
    chosen = {
        "temperature": 0.5,
        "top_k": 3,
        "top_p": 0.5,
        "min_p": 0.25,
        "seed": 7,
        "repeat_penalty": 2.0,
        "frequency_penalty": 0.5,
        "presence_penalty": -0.5,
        "repeat_last_n": 5,
    }
    of_one_reply = {"logit_bias", "grammar"}  # given with a message, never to a chat
    assert {*chosen} | of_one_reply == {field.name for field in dataclasses.fields(SamplingParams)}
    with model.chat(budget=128, **chosen) as chat:
        assert chat.sampling == SamplingParams(**chosen)
