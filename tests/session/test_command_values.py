"""What commands return, for whoever shows it: a terminal, a page, a server. On the toy."""

import dataclasses
import inspect
from pathlib import Path

import pytest
from chatting import SENTENCE, evict, fill, make_chat, thinned
from driving import agrees

from edge_sir.chat import commands
from edge_sir.core.ledger import ROLES
from edge_sir.errors import BudgetError, ConfigError


def test_every_value_is_frozen_and_nothing_is_printed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    chat = make_chat(["Fine."] * 4, system="Be kind.")
    chat.reply("My name is Ada.")
    values = [commands.memory(chat), commands.find(chat, "Ada"), commands.why(chat, 1), commands.pin(chat, 1)]
    values += [commands.unpin(chat), commands.budget(chat), commands.policy(chat), commands.system(chat)]
    values += [commands.stats(chat), commands.save(chat, tmp_path / "t"), commands.forget(chat, "Ada")]
    values += [commands.undo(chat)]
    assert commands.clear(chat) == 0
    values += [commands.load(chat, tmp_path / "t")]
    for value in values:
        assert dataclasses.is_dataclass(value)
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, dataclasses.fields(value)[0].name, None)
    assert capsys.readouterr() == ("", "")
    defined = {
        f.__name__ for _, f in inspect.getmembers(commands, inspect.isfunction) if f.__module__ == commands.__name__
    }
    assert defined <= set(commands.__all__)


def test_find_says_what_is_left_and_when_its_turn_lost_last() -> None:
    chat = thinned("Ada")
    found = commands.find(chat, "name is Ada")
    (match,), (loss,) = found.matches, found.lost
    assert (match.state, match.words, match.passage.said) == ("partly", ("name", "is"), SENTENCE)
    assert match.passage.message in {m.id for m in chat.transcript if m.role == "user"}
    assert loss is not None and (loss.turn, loss.turn_now, loss.why) == (1, 1, "room")
    commands.forget(chat, "Eve")
    gone = commands.find(chat, "Ada")
    assert gone.matches == () and [f.n_sentences for f in gone.forgotten] == [1]
    assert commands.find(chat, "Hello").lost == (loss,)  # of the same turn


def test_what_is_pinned_or_forgotten_is_counted() -> None:
    chat = thinned()
    pinned = commands.pin(chat, "My name is Ada")
    assert (pinned.n_resident, pinned.n_pinned, pinned.n_evicted) == (len(SENTENCE) - 5, len(SENTENCE) - 5, 6)
    with pytest.raises(ConfigError, match="nobody said"):
        commands.forget(chat, "Bob")
    forgotten = commands.forget(chat, 1)
    assert forgotten.n_pinned == pinned.n_pinned < forgotten.n_resident and forgotten.n_evicted == 6
    assert [p.role for p in forgotten.passages] == ["user", "assistant"]
    assert commands.losses(chat)[-1].state == "none" and agrees(chat.session)
    with pytest.raises(ConfigError, match="no turn 7; this conversation has turns 0 to 1"):
        commands.why(chat, 7)


def test_terms_are_shown_and_changed() -> None:
    chat = make_chat(["Fine."] * 9, budget=256)
    fill(chat, 3)
    before = len(chat.session.ledger)
    assert commands.budget(chat) == commands.BudgetNow(256, before, 512, 0)
    lower = commands.budget(chat, 100)
    assert (lower.budget, lower.resident, lower.evicted) == (100, 100, before - 100)
    with pytest.raises(BudgetError):
        commands.budget(chat, 9999)
    assert commands.policy(chat, "streaming").policy == "streaming" and "sir" in commands.policy(chat).names
    assert commands.system(chat) == commands.SystemNow(None, 0, "")
    assert commands.system(chat, "Be kind.").text == "Be kind." and commands.system(chat, "").text is None
    assert commands.stats(chat).conversation.budget == 100


def test_what_is_saved_is_loaded_one_by_one(tmp_path: Path) -> None:
    chat = make_chat(["Fine."] * 2)
    chat.reply("Hello there.")
    commands.pin(chat, 1)
    assert commands.save(chat, tmp_path / "t") == commands.Saved(tmp_path / "t", 2, True)
    assert commands.clear(chat) == 1
    seen: list[str] = []
    loaded = commands.load(chat, tmp_path / "t", lambda messages: (seen.append(m.role) or m for m in messages))
    assert seen == ["user", "assistant"]
    assert loaded == commands.Loaded(1, len(chat.session.ledger), 256, True)
    stream = commands.regenerate(chat)
    list(stream)
    assert stream.undone is not None and stream.undone.turn == 1
    user = (chat.session.ledger["role"] == ROLES.index("user")) & (chat.session.ledger["turn"] == 1)
    evict(chat, user)
    assert [turn.turn for turn in commands.losses(chat)] == [1]
