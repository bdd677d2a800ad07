"""What commands say when turns were taken back, of pins, stops and long messages. On the toy."""

import re
from pathlib import Path

import pytest
from chatting import CODEC, evict, fill, make_chat, told

from edge_sir.cli._losses import Losses
from edge_sir.core.ledger import ROLES
from edge_sir.errors import ConfigError
from edge_sir.text.template import ChatTemplate


def test_a_turn_that_was_taken_back_is_no_date() -> None:
    chat = make_chat(["Fine."] * 4)
    chat.reply("My name is Ada.")
    chat.reply("And?")
    ledger = chat.session.ledger
    evict(chat, (ledger["role"] == ROLES.index("user")) & (ledger["turn"] == 1))
    assert "evicted in turn 2" in told(chat, "/memory find Ada")[1]
    chat.undo()
    with pytest.raises(ConfigError, match=r"\(turn 1 was dropped in a turn that was taken back\)"):
        chat.pin("My name")
    chat.reply("So?")
    chat.forget("Fine")
    assert "evicted in a turn that was taken back" in told(chat, "/memory find name")[1]
    when = [row.split("  ")[0] for row in told(chat, "/memory why 1")[1:]]
    assert [w for w in when if w.endswith("back") or w.startswith("turn")] == ["a turn that was taken back", "turn 2"]
    assert "in a turn that was taken back" not in "".join(told(chat, "/memory why"))  # turn 1 lost more since
    chat.undo()
    assert str(chat.memory().removed[0]) == "1 sentence of turn 1 in a turn that was taken back"


def test_the_system_prompt_of_a_template_is_shown_without_its_word_and_never_to_be_said_again() -> None:
    text = (
        "{% if messages[0].role != 'system' %}<|im_start|>system\nYou help.<|im_end|>\n{% endif %}"
        + CODEC.CHAT_TEMPLATE
    )
    template = ChatTemplate(text.replace("{{ bos_token }}", ""), bos="", eos=CODEC.eos_text)
    chat = make_chat(["Fine."], template=template)
    chat.reply("Hello there.")
    assert told(chat, "/pin 0")[1].split() == ["turn", "0", "19", "system:", "You", "help."]
    assert told(chat, "/system") == ["no system prompt of yours (/system TEXT); the template's own: You help."]
    evict(chat, chat.session.ledger["token"] == ord("h"))
    assert "evicted already" not in "".join(told(chat, "/pin 0")) and "evicted already" in "".join(told(chat, "/pin 1"))


def test_who_had_pins_is_told_that_they_are_not_in_what_was_saved(tmp_path: Path) -> None:
    chat = make_chat(["Fine."] * 2, system="Be kind.")
    chat.reply("Hello there.")
    assert told(chat, f"/save {tmp_path}/plain")[0] == f"saved 3 messages to {tmp_path}/plain"
    told(chat, "/clear")
    assert "pin" not in told(chat, f"/load {tmp_path}/plain")[0]
    chat.pin("Hello")
    assert told(chat, f"/save {tmp_path}/pinned")[0].endswith("; not the pins")
    told(chat, "/clear")
    assert told(chat, f"/load {tmp_path}/pinned")[0].endswith("; pins are not saved: /pin again what must stay")


def test_help_says_how_much_forget_takes_and_that_it_cannot_be_undone() -> None:
    text = told(make_chat(), "/help forget")[1]
    assert "every sentence that holds these words" in text and "cannot be undone" in text
    assert "not the pins" in told(make_chat(), "/help save")[1]


def test_why_has_a_head_and_one_row_per_turn_and_reason() -> None:
    chat = make_chat(budget=200)
    fill(chat, 6)
    for turn in chat.memory().turns[1:]:
        losses = [loss for loss in turn.losses if loss.n_content]
        _, head, *rows = told(chat, f"/memory why {turn.turn}")
        assert head.split() == ["IN", "TOKENS", "WHY"]
        went = [row.split("  ")[:2] for row in rows if not row.startswith("now")]
        assert [when for when, _ in went] == [f"turn {n}" for n in sorted({loss.turn_now for loss in losses})]
        assert -sum(int(n) for _, n in went) == turn.n_content_dropped
    assert any(len(turn.losses) > len({loss.turn_now for loss in turn.losses}) for turn in chat.memory())


def test_what_a_lower_budget_evicted_says_so() -> None:
    chat = make_chat(["Fine."] * 2, budget=256)
    chat.reply("Hello there. " * 6)
    told(chat, "/budget 80")
    assert "evicted because the budget was lowered" in told(chat, "/memory why 1")[2]
    chat.reply("And what now? " * 3)
    reasons = [row for row in told(chat, "/memory why 1") if "to make room" in row]
    assert len(reasons) == 1 and reasons[0].startswith("turn 2")


def test_a_message_too_long_for_its_cells_tells_how_much_of_itself_went() -> None:
    chat = make_chat(["Fine."] * 3, budget=128)
    losses = Losses(chat)
    chat.reply("Hello there.")
    chat.reply("And what then?")
    assert losses.line(0) == ""
    chat.reply("river stones " * 20)
    n_own = sum(loss.n_content for loss in chat.memory().turns[3].losses)
    assert n_own > 100
    told_of_all = losses.line(0)
    assert re.fullmatch(
        rf"evicted \d+ tokens of 3 turns, {n_own} of them of your last message \(/memory\)", told_of_all
    )
    losses.clear()
    chat.reply("So?")
    assert "message" not in losses.line(0)
