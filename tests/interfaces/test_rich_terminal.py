"""`edge-sir chat` on a terminal with a cursor: toolbar, editing keys, history."""

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path

from terminals import CODES, COLOUR, END, ENDLESS, INTERRUPT, TOOLBAR, Terminal, enter, ready


def test_the_toolbar_shows_the_occupancy(able: Callable) -> None:
    person = able()
    enter(person, "hello")
    enter(person, "hello")
    cells = [int(n) for n in re.findall(TOOLBAR, CODES.sub("", person.seen))]
    assert cells[0] < cells[-1] <= 96
    person.type(END)
    assert person.wait_for_end() == 0
    assert "cells]" not in person.errors  # said once is enough


def test_commands_work_at_the_prompt(able: Callable) -> None:
    person = able()
    enter(person, "hello you there")
    assert "cells hold 1 of 1 turns, all whole" in enter(person, "/memory")
    assert "is in memory: turn 1" in enter(person, "/memory find you")
    assert "pinned" in enter(person, "/pin 1")
    assert "took back turn 1" in enter(person, "/undo")
    enter(person, "/foo")
    person.type("/bye\r")
    assert person.wait_for_end() == 0
    assert "unknown command /foo" in person.errors


def test_a_long_complaint_is_broken_between_words(able: Callable) -> None:
    person = able(apart=False)
    person.resize(40)
    shown = enter(person, "/memory why nothing of the kind")
    told = shown[shown.index("edge-sir: ") :].replace("\r", "").split("\n")
    assert told[:2] == ["edge-sir: /memory takes [N] [--scores]", "[--json], find TEXT, or why [TURN]"]
    person.type(END)
    assert person.wait_for_end() == 0


def test_on_a_narrow_terminal_text_goes_below_its_cells(able: Callable) -> None:
    person = able()
    person.resize(40)
    enter(person, "hello you there")
    lines = [line.rstrip() for line in CODES.sub("", enter(person, "/help")).split("\n")]
    at = lines.index("/memory [N] [--scores] [--json]")
    assert lines[at + 1 : at + 3] == ["  what is resident, by turn (the newest", "  N); dropped turns are folded"]
    enter(person, "/pin 1")
    lines = [line.rstrip() for line in CODES.sub("", enter(person, "/memory")).split("\n")]
    assert "  hello you there" in lines
    person.type(END)
    assert person.wait_for_end() == 0


def test_a_refused_load_shows_no_progress(able: Callable, workdir: Path) -> None:
    person = able(apart=False)
    enter(person, "hello")
    enter(person, "/save t.txt")
    shown = CODES.sub("", enter(person, "/load t.txt"))
    assert "/clear it first" in shown and "reading" not in shown
    person.type(END)
    assert person.wait_for_end() == 0


def test_the_toolbar_begins_anew_with_the_conversation(able: Callable) -> None:
    person = able("--budget", "96")
    for _ in range(6):
        enter(person, "hello you there")
    assert re.search(r"\d+ evicted", _bar(person))
    enter(person, "/clear")
    assert "turn 0" in _bar(person) and "evicted" not in _bar(person)
    person.type(END)
    assert person.wait_for_end() == 0


def _bar(person: Terminal) -> str:
    """The last toolbar shown."""
    seen = CODES.sub("", person.seen)
    return seen[[m.start() for m in re.finditer(TOOLBAR, seen)][-1] :]


def test_three_quotes_hold_several_lines(able: Callable) -> None:
    person = able()
    person.type('"""one\r')
    person._read(0.5)
    person.type("two\r")
    person._read(0.5)
    assert "hello" not in enter(person, 'three"""')
    shown = enter(person, "/memory --json")
    document = json.loads(re.search(r"\{.*\}", shown.replace("\r\n", "")).group())  # type: ignore[union-attr]
    assert document["turns"][1]["said"][0]["text"] == "one\ntwo\nthree"


def test_ctrl_c_in_mid_reply_and_twice_at_the_prompt(able: Callable, workdir: Path) -> None:
    person = able(*ENDLESS, "--stats", "s.json")
    for _ in range(2):
        person.type("hello\r")
        person.wait_for(r"hello[^\n]*\n(?s:.{60})")
        person.type(INTERRUPT)
        ready(person)
    person.type(INTERRUPT)
    person.wait_for("once more")
    ready(person)
    person.type(INTERRUPT)
    assert person.wait_for_end() == 0
    assert json.loads((workdir / "s.json").read_text())["turns"] == 2
    assert "Traceback" not in person.seen + person.errors


def test_keys_pressed_during_a_reply_wait_for_the_prompt(able: Callable) -> None:
    person = able(*ENDLESS)
    person.type("hello\r")
    person.wait_for(r"hello[^\n]*\n(?s:.{60})")
    person.type("impatient")
    shown = person.wait_for(r"(?s:.{200})")
    assert "impatient" not in shown
    start = len(person.seen)
    person.type(INTERRUPT)
    ready(person)
    assert "^C" not in person.seen[start:]
    person.type(INTERRUPT)
    person.type(INTERRUPT)
    assert person.wait_for_end() == 0


def test_what_was_typed_before_ctrl_c_can_be_had_back(able: Callable) -> None:
    person = able()
    for text in ("precious words", "other things"):
        person.type(INTERRUPT)
        person.wait_for("once more")
        ready(person)
        person.type(text)
        person.wait_for(text.split()[1])
        start = len(person.seen)
        person.type(INTERRUPT)
        while person._read(0.5):
            pass
        assert "once more" not in person.seen[start:] and person.process.poll() is None
        person.type("\x1b[A")
        person.wait_for(text.split()[1])
        person.type(INTERRUPT)
        while person._read(0.5):
            pass
    person.type("x\x7f")  # typing counts, even if nothing is left of it
    person.type(INTERRUPT)
    person.wait_for("once more")
    ready(person)
    person.type(INTERRUPT)
    assert person.wait_for_end() == 0


def test_a_resize_redraws_and_goes_on(able: Callable) -> None:
    person = able()
    for columns in (40, 120):
        person.resize(columns)
        person.process.send_signal(signal.SIGWINCH)
        ready(person)
        enter(person, "hello")
    person.type(END)
    assert person.wait_for_end() == 0


def test_no_color_means_no_colours_here_either(able: Callable) -> None:
    person = able(env={"NO_COLOR": "1"}, apart=False)
    enter(person, "hello")
    enter(person, "/memory")
    codes = {code for found in COLOUR.findall(person.seen) for code in found[2:-1].split(";")}
    assert not [c for c in codes if c.isdigit() and (30 <= int(c) <= 38 or 40 <= int(c) <= 48 or int(c) >= 90)]


def test_a_kill_at_this_prompt_ends_the_run_too(able: Callable, workdir: Path) -> None:
    person = able("--stats", "s.json")
    enter(person, "hello")
    person.process.terminate()
    assert person.wait_for_end() == 143
    assert json.loads((workdir / "s.json").read_text())["turns"] == 1


def test_history_is_the_owners_alone(able: Callable, clean_env: dict[str, str]) -> None:
    person = able()
    enter(person, "hello")
    person.type(END)
    assert person.wait_for_end() == 0
    history = Path(clean_env["XDG_STATE_HOME"]) / "edge-sir" / "history"
    assert history.stat().st_mode & 0o077 == 0
    assert "+hello" in history.read_text()
