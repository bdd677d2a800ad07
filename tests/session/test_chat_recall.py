"""A chat that recalls: what was evicted and matches a message is resident while its turn runs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chatting import make_chat, transcript
from driving import agrees

from edge_sir.chat import Chat
from edge_sir.core.ledger import FRAME
from edge_sir.core.plan import EvictionPlan
from edge_sir.errors import ComputeError
from edge_sir.recall.store import ByteStore
from edge_sir.testing import ToyEngine
from edge_sir.trace.record import Trace, read_trace
from edge_sir.trace.replay import replay

FACT = "My sister Ottilie keeps bees in Bergen."
QUESTION = "Where does Ottilie keep her bees?"


def forgetful(policy: str = "streaming", **options: Any) -> Chat:
    """A chat in 240 cells to which the fact was said, and whose cells it has left."""
    chat = make_chat(["Noted."] + ["Fine."] * 40, policy=policy, budget=240, recall="cells", **options)
    chat.reply(FACT)
    for i in range(10):
        chat.reply(f"Today is day {i}, and it rains a lot.")
    assert "Ottilie" not in transcript(chat) and "bees" not in transcript(chat)
    return chat


@pytest.mark.parametrize("positions", ["packed", "gaps"])
def test_what_a_message_asks_about_is_resident_while_its_turn_runs(positions: str) -> None:
    chat = forgetful(positions=positions)
    before = transcript(chat)
    stream = chat.stream(QUESTION)
    next(stream)
    assert FACT in transcript(chat) and agrees(chat.session)
    assert len(chat.session.ledger) <= 240
    for _ in stream:
        pass
    assert [(r.turn, r.text.removesuffix(" Noted.")) for r in stream.reply.recalled] == [(1, FACT)]
    assert not chat.session.is_recalling and FACT not in transcript(chat) and agrees(chat.session)
    assert transcript(chat).startswith(before[: len("<s>")]) and QUESTION in transcript(chat)


def test_a_follow_up_recalls_what_the_question_before_it_recalled() -> None:
    chat = forgetful()
    assert [r.turn for r in chat.reply(QUESTION).recalled] == [1]
    assert FACT not in transcript(chat)
    stream = chat.stream("And since when?")
    next(stream)
    assert FACT in transcript(chat)
    stream.close()
    assert chat.reply("Hello there!").recalled == ()
    assert chat.reply("And since when?").recalled == ()


def test_where_nothing_matches_nothing_changes() -> None:
    chat = forgetful()
    restored = chat.session.stats.restored
    assert chat.reply("Hello there!").recalled == ()
    assert chat.session.stats.restored == restored


def test_a_chat_that_does_not_recall_keeps_nothing() -> None:
    chat = make_chat(["Fine."] * 40, policy="streaming", budget=240)
    for i in range(10):
        chat.reply(f"{FACT} {i}")
    assert chat.stats().archive_bytes == 0 and chat.reply(QUESTION).recalled == ()


def test_what_is_kept_outside_the_cells_is_counted() -> None:
    chat = forgetful()
    recall = chat._recall
    chat.reply("Hello there!")  # a message is looked for
    assert chat.stats().archive_bytes == recall.archive.n_bytes + recall._index.n_bytes
    assert recall.archive.n_bytes > 1000 and recall._index.n_bytes > 1000
    chat.clear()
    assert chat.stats().archive_bytes == 0


@pytest.mark.parametrize("ends", ["closed", "cancelled by the next call", "dropped"])
def test_a_stream_that_is_left_early_leaves_nothing_recalled(ends: str) -> None:
    chat = forgetful()
    stream = chat.stream(QUESTION)
    next(stream)
    assert chat.session.is_recalling
    if ends == "closed":
        stream.close()
    elif ends == "dropped":
        del stream
    chat.reply("Something else.")
    assert not chat.session.is_recalling and not chat.session.ledger["recalled"].any() and agrees(chat.session)


def test_an_error_while_the_message_is_read_leaves_nothing_half_recalled() -> None:
    chat = forgetful()
    chat.engine.fail_next = ComputeError("the machine is on fire")
    with pytest.raises(ComputeError):
        chat.reply(QUESTION)
    chat.engine.fail_next = None
    assert chat.reply("Something else.").text == "Fine."
    assert not chat.session.is_recalling and agrees(chat.session)


def test_an_undone_turn_is_not_recalled_any_more() -> None:
    chat = make_chat(["Noted."] + ["Fine."] * 40, policy="streaming", budget=240, recall="cells")
    for i in range(6):
        chat.reply(f"Today is day {i}, and it rains a lot.")
    turn = chat.reply(FACT).turn
    chat.reply("A short one.")
    chat.truncate(turn)
    for i in range(10):
        chat.reply(f"Today is day {i}, and it snows a lot.")
    assert chat.reply(QUESTION).recalled == ()


def test_what_is_forgotten_is_not_in_the_archive() -> None:
    chat = forgetful()
    chat.forget(FACT)
    assert chat.reply(QUESTION).recalled == ()
    chat.reply(FACT)
    assert not any(b"Ottilie" in np.asarray(p.saved.columns["token"], np.uint8).tobytes() for p in chat._recall.archive)


def test_what_has_left_the_store_is_read_again_as_text() -> None:
    chat = forgetful()
    chat._recall.archive._store.bound = 0
    try:
        reply = chat.reply(QUESTION)
        (recalled,) = reply.recalled
        assert "Bergen" in recalled.text and agrees(chat.session)
        assert reply.n_read > len(QUESTION) + len(recalled.text) and not chat.session.is_recalling
    finally:
        chat._recall.archive._store.bound = ByteStore(10**9).bound


def test_a_trace_records_what_would_be_resident_without_recalls(tmp_path: Path) -> None:
    traced = [tmp_path / "recalls.jsonl", tmp_path / "plain.jsonl"]
    for path, recall in zip(traced, ("cells", "off"), strict=True):
        chat = make_chat(["Noted."] + ["Fine."] * 40, policy="streaming", budget=240, recall=recall, trace=Trace(path))
        chat.reply(FACT)
        for i in range(10):
            chat.reply(f"Today is day {i}, and it rains a lot.")
        chat.reply(QUESTION)
        chat.reply("And now to something else.")
        chat.close()
    for path in traced:
        assert replay(read_trace(path)).as_recorded
    recalls, plain = ([r.get("born") for r in read_trace(path)] for path in traced)
    assert recalls == plain


def test_pins_leave_a_recall_less_room_and_no_error() -> None:
    chat = make_chat(["Noted."] + ["Fine."] * 40, policy="streaming", budget=240, recall="cells")
    chat.reply(FACT)
    pinned = chat.add("user", "Pinned, since it matters: " + "x" * 125, pinned=True)
    for i in range(10):
        chat.reply(f"Day {i}.")
    assert chat.session.n_recallable < 60
    reply = chat.reply(QUESTION)
    assert sum(r.n_tokens for r in reply.recalled) < 60 and agrees(chat.session)
    assert pinned in chat.session.ledger["turn"]


def test_markers_alone_are_not_recalled() -> None:
    chat = make_chat(["Noted."] + ["Fine."] * 40, policy="streaming", budget=240, recall="cells")
    chat.reply(FACT)
    ledger = chat.session.ledger
    markers = np.flatnonzero((ledger["role"] == FRAME) & (ledger["turn"] == 1))
    chat.session.evict(EvictionPlan(markers, ledger.epoch, "room"))
    assert len(markers) > 4 and chat.reply(QUESTION).recalled == ()


@pytest.mark.parametrize("n_free", [0, 1, 40, 100])
def test_a_policy_that_never_evicts_is_given_what_finds_free_cells(n_free: int) -> None:
    chat = forgetful()
    n_message = len(f"<user\n{QUESTION}>\n<assistant\nFine.>\n")
    chat.set_policy("keep-all")  # before the budget, or that brings back what was evicted
    chat.set_budget(len(chat.session.ledger) + n_message + 8 + n_free)
    before = chat.session.ledger["born"].tolist()
    reply = chat.reply(QUESTION)
    assert reply.text == "Fine." and agrees(chat.session) and not chat.session.is_recalling
    assert chat.session.ledger["born"].tolist()[: len(before)] == before
    assert sum(r.n_tokens for r in reply.recalled) <= n_message + 8 + n_free


@pytest.mark.parametrize("error", [ComputeError("no memory for that"), MemoryError()])
def test_what_cannot_be_saved_with_its_cells_is_kept_as_text(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    save, failures = ToyEngine.save, [error]

    def fails(*args: Any) -> bytes:
        if failures:
            raise failures.pop()
        return save(*args)

    monkeypatch.setattr(ToyEngine, "save", fails)
    chat = forgetful()
    assert not failures
    stream = chat.stream(QUESTION)
    for _ in zip(range(3), stream, strict=False):
        assert "bees in Bergen." in transcript(chat)
    stream.close()
    assert not chat.session.is_recalling and agrees(chat.session)


def half_evicted(fact: str, **options: Any) -> Chat:
    """A chat under a policy that keeps some words of the fact."""
    chat = make_chat(["Noted."] + ["Fine."] * 40, policy="sir", budget=240, **options)
    chat.reply(fact)
    for i in range(10):
        chat.reply(f"Today is day {i}, and it rains a lot.")
    assert "Bergen" in transcript(chat) and fact not in transcript(chat)
    return chat


@pytest.mark.parametrize("recall", ["cells", "text"])
def test_a_sentence_that_lost_some_of_its_words_comes_back_whole(recall: str) -> None:
    chat = half_evicted(FACT, recall=recall)
    stream = chat.stream(QUESTION)
    next(stream)
    assert FACT in transcript(chat)
    stream.close()
    assert [r.text for r in stream.reply.recalled] == [FACT] and agrees(chat.session)


def test_of_a_sentence_that_is_too_long_to_be_read_again_the_beginning_is() -> None:
    fact = "My sister Ottilie keeps bees in Bergen where it rains and rains and rains and rains and rains."
    chat = half_evicted(fact, recall="text")
    stream = chat.stream(QUESTION)
    next(stream)
    [recalled] = chat._turn.recalled if chat._turn is not None else ()
    assert fact.startswith(recalled.text) and len(recalled.text) > 30 and recalled.text in transcript(chat)
    assert recalled.n_tokens <= 240 // 4
    stream.close()
    assert agrees(chat.session)


def test_a_trace_counts_text_that_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "text.jsonl"
    chat = make_chat(["Noted."] + ["Fine."] * 40, policy="streaming", budget=240, recall="text", trace=Trace(path))
    n_read = sum(r.n_tokens for r in chat.reply(FACT).recalled)
    for i in range(10):
        n_read += sum(r.n_tokens for r in chat.reply(f"Today is day {i}, and it rains a lot.").recalled)
    n_read += sum(r.n_tokens for r in chat.reply(QUESTION).recalled)
    chat.close()
    replayed = replay(read_trace(path))
    assert replayed.as_recorded and replayed.recalled == n_read > len(FACT)
