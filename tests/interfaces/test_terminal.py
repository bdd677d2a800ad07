"""`edge-sir chat` on a terminal: the other end of a pseudo terminal types and reads."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from templates import KINDS
from terminals import END, ENDLESS, INTERRUPT, PROMPT

# ---- talking -------------------------------------------------------------------------------------


def test_prompt_reply_and_occupancy(terminal: Callable) -> None:
    person = terminal()
    person.wait_for_prompt()
    for _ in range(2):
        person.type("hello\n")
        assert person.wait_for_prompt().replace("hello", "", 1).removesuffix(PROMPT).strip()
    person.type(END)
    assert person.wait_for_end() == 0
    lines = person.errors.splitlines()
    assert "96 cells" in lines[0] and "Ctrl-C" in lines[1]
    assert re.fullmatch(r"\[\d+/96 cells\]", lines[3])
    occupied = [int(n) for n in re.findall(r"\[(\d+)/96 cells\]", "\n".join(lines))]
    assert len(occupied) == 2 and 0 < occupied[0] < occupied[1] <= 96
    assert "cells" not in person.seen


def test_a_reply_is_shown_as_it_comes(terminal: Callable) -> None:
    person = terminal(*ENDLESS)
    person.wait_for_prompt()
    person.type("hello\n")
    shown = person.wait_for(r"hello\r?\n(?s:.{200})")
    shown += person.wait_for(r"(?s:.{200})")
    assert PROMPT not in shown


def test_what_was_forgotten_is_told(terminal: Callable) -> None:
    person = terminal("--budget", "64")
    person.wait_for_prompt()
    for _ in range(4):
        person.type("hello you there\n")
        person.wait_for_prompt()
    person.type(END)
    assert person.wait_for_end() == 0
    assert re.search(r"\[\d+/64 cells\] evicted \d+ tokens:? of (turn \d+ \(hello|\d+ turns \(/memory)", person.errors)


def test_a_reply_that_was_cut_is_marked(terminal: Callable) -> None:
    person = terminal()
    person.wait_for_prompt()
    for text in ("hello\n", "/memory\n"):
        person.type(text)
        person.wait_for_prompt()
    person.type(END)
    assert person.wait_for_end() == 0
    assert person.errors.count("(cut at 8 tokens; --max-tokens)") == 1


def test_a_reply_that_is_all_thought_is_marked(terminal: Callable, workdir: Path) -> None:
    """On a screen a thought looks like an answer, and nothing of it stays."""
    (thinks := workdir / "thinks.jinja").write_text(
        KINDS["a thought is opened"].replace("<|assistant|>", "<|im_start|>")
    )
    person = terminal("--chat-template", str(thinks))
    person.wait_for_prompt()
    person.type("hello\n")
    person.wait_for_prompt()
    person.type(END)
    assert person.wait_for_end() == 0
    assert person.errors.count("(empty after 8 tokens of thought; cut at 8 tokens; --max-tokens)") == 1


def test_blank_lines_are_no_turns(terminal: Callable, workdir: Path) -> None:
    person = terminal("--stats", "s.json")
    for text in ("\n", "   \n", "hello\n", END):
        person.wait_for_prompt()
        person.type(text)
    assert person.wait_for_end() == 0
    assert json.loads((workdir / "s.json").read_text())["turns"] == 1


def test_quiet_shows_nothing_but_replies(terminal: Callable) -> None:
    person = terminal("--quiet", "--budget", "64")
    person.wait_for_prompt()
    for _ in range(4):
        person.type("hello you there\n")
        person.wait_for_prompt()
    person.type(END)
    assert person.wait_for_end() == 0
    assert person.errors == ""


# ---- stopping ------------------------------------------------------------------------------------


def test_ctrl_c_stops_the_reply_and_nothing_else(terminal: Callable, workdir: Path) -> None:
    person = terminal(*ENDLESS, "--stats", "s.json")
    person.wait_for_prompt()
    for _ in range(3):
        person.type("hello\n")
        person.wait_for(r"hello\r?\n(?s:.{50})")
        person.type(INTERRUPT)
        person.wait_for_prompt()
    person.type(END)
    assert person.wait_for_end() == 0
    figures = json.loads((workdir / "s.json").read_text())
    assert figures["turns"] == 3 and figures["max_resident"] <= 96
    assert person.errors.count("/96 cells]") == 3
    assert "Traceback" not in person.seen


def test_ctrl_c_while_a_long_message_is_read(terminal: Callable, workdir: Path) -> None:
    """What was read of it stays; the rest goes in with the next turn, as after any error."""
    person = terminal("--chunk", "1", "--stats", "s.json")
    person.wait_for_prompt()
    person.type("hello you there " * 200 + "\n")  # below the 4096 bytes of a terminal's line
    time.sleep(0.2)
    person.type(INTERRUPT)
    person.wait_for_prompt()
    person.type("hello\n")
    person.wait_for_prompt()
    person.type(END)
    assert person.wait_for_end() == 0
    assert json.loads((workdir / "s.json").read_text())["max_resident"] <= 96
    assert "Traceback" not in person.seen + person.errors


def test_ctrl_c_while_a_transcript_is_read_leaves_nothing_of_it(terminal: Callable, workdir: Path) -> None:
    for name, text in (("long", "hello you there " * 4000), ("short", "hello")):
        (workdir / name).write_text(f"edge-sir transcript 1\n[1] user\n    hello\n[2] user\n    {text}\n")
    person = terminal("--chunk", "1")
    person.wait_for_prompt()
    person.type("/load long\n")
    time.sleep(0.5)
    person.type(INTERRUPT)
    person.wait_for_prompt()
    person.type("/load short\n")
    assert "read 2 turns" in person.wait_for_prompt()
    person.type(END)
    assert person.wait_for_end() == 0
    assert "stopped; the conversation is empty" in person.errors
    assert "what you typed" not in person.errors and "evicted" not in person.errors


def test_ctrl_d_leaves(terminal: Callable, workdir: Path) -> None:
    person = terminal("--stats", "s.json")
    person.wait_for_prompt()
    person.type(END)
    assert person.wait_for_end() == 0
    assert json.loads((workdir / "s.json").read_text())["turns"] == 0
    assert person.seen.endswith("\n")


def test_ctrl_c_twice_at_the_prompt_leaves(terminal: Callable, workdir: Path) -> None:
    person = terminal("--stats", "s.json")
    person.wait_for_prompt()
    person.type(INTERRUPT)
    assert "Ctrl-D" in person.wait_for("once more.*")
    person.wait_for_prompt()
    person.type(INTERRUPT)
    assert person.wait_for_end() == 0
    assert json.loads((workdir / "s.json").read_text())["turns"] == 0
    assert "Traceback" not in person.seen + person.errors


def test_ctrl_c_with_text_in_the_line_clears_it_only(terminal: Callable) -> None:
    person = terminal()
    person.wait_for_prompt()
    for _ in range(2):  # text resets the count
        person.type(INTERRUPT)
        person.wait_for("once more.*")
        person.wait_for_prompt()
        person.settle()
        person.type("abc")
        person.wait_for("abc")
        person.settle()
        person.type(INTERRUPT)
        assert "once more" not in person.wait_for_prompt()
    person.type("hello\n")
    person.wait_for_prompt()
    person.type(INTERRUPT)
    person.wait_for("once more.*")
    person.wait_for_prompt()
    person.type(INTERRUPT)
    assert person.wait_for_end() == 0


def test_a_blank_before_a_command_does_not_make_it_a_message(terminal: Callable, workdir: Path) -> None:
    person = terminal("--stats", "s.json")
    person.wait_for_prompt()
    person.type(" /pin\n")
    person.wait_for_prompt()
    person.type("  //stats\n")
    person.wait_for_prompt()
    person.type(END)
    assert person.wait_for_end() == 0
    assert "/pin TEXT|TURN: which?" in person.errors
    assert json.loads((workdir / "s.json").read_text())["turns"] == 1


def test_ctrl_c_once_does_not_leave(terminal: Callable) -> None:
    person = terminal()
    person.wait_for_prompt()
    for _ in range(2):
        person.type(INTERRUPT)
        person.wait_for("once more.*")
        person.wait_for_prompt()
        person.type("hello\n")
        person.wait_for_prompt()
    person.type(END)
    assert person.wait_for_end() == 0


def test_a_kill_at_the_prompt_ends_the_run(terminal: Callable, workdir: Path) -> None:
    person = terminal("--stats", "s.json")
    person.wait_for_prompt()
    person.process.terminate()
    assert person.wait_for_end() == 143
    assert (workdir / "s.json").exists()


# ---- looks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("env", "dim"), [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True)])
def test_notes_are_dim_unless_no_color_is_set(terminal: Callable, env: dict[str, str], dim: bool) -> None:
    person = terminal(apart=False, env=env)
    person.wait_for_prompt()
    person.type("hello\n")
    person.wait_for_prompt()
    person.type(END)
    assert person.wait_for_end() == 0
    assert ("\x1b[2m" in person.seen and "\x1b[0m" in person.seen) == dim
    if not dim:
        assert "\x1b" not in person.seen.replace("\x1b[?2004", "")


def test_a_stderr_that_is_no_terminal_gets_no_colours(terminal: Callable) -> None:
    person = terminal()
    person.wait_for_prompt()
    person.type(END)
    assert person.wait_for_end() == 0
    assert "\x1b" not in person.errors


def test_json_on_a_terminal_has_no_prompt(terminal: Callable) -> None:
    person = terminal("--json")
    person.type("hello\n")
    assert json.loads(person.wait_for(r'\{"turn".*\}').partition("\n")[2])["turn"] == 1
    person.type(END)
    assert person.wait_for_end() == 0
    assert PROMPT not in person.seen
