"""What commands say when turns were taken back, of pins, stops and long messages. On the toy."""

import pytest
from chatting import evict, make_chat, told

from edge_sir.core.ledger import ROLES
from edge_sir.errors import ConfigError


def test_a_turn_that_was_taken_back_is_no_date() -> None:
    chat = make_chat(["Fine."] * 4)
    chat.reply("My name is Ada.")
    chat.reply("And?")
    ledger = chat.session.ledger
    evict(chat, (ledger["role"] == ROLES.index("user")) & (ledger["turn"] == 1))
    assert "gone since turn 2" in told(chat, "/memory find Ada")[1]
    chat.undo()
    with pytest.raises(ConfigError, match=r"\(turn 1 went in a turn that was taken back\)"):
        chat.pin("My name")
    chat.reply("So?")
    chat.forget("Fine")
    assert "gone since a turn that was taken back" in told(chat, "/memory find name")[1]
    when = [row.split("  ")[0] for row in told(chat, "/memory why 1")[1:]]
    assert [w for w in when if w.endswith("back") or w.startswith("turn")] == ["a turn that was taken back", "turn 2"]
    assert "in a turn that was taken back" not in "".join(told(chat, "/memory why"))  # turn 1 lost more since
    chat.undo()
    assert str(chat.memory().removed[0]) == "1 sentence of turn 1 in a turn that was taken back"
