"""`edge-sir chat` on a terminal: the other end of a pseudo terminal types and reads."""

import errno
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

PROMPT = ">>> "
INTERRUPT, END = "\x03", "\x04"
ENDLESS = ("--max-tokens", "1000000", "--temperature", "0")
# The child makes the pseudo terminal its own, or Ctrl-C would reach nobody.
_LAUNCH = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "edge_sir", *sys.argv[1:]])
"""


class Terminal:
    """A person at a terminal; `seen` is all that was shown on it, `errors` a separate stderr (if there is one)."""

    def __init__(self, process: "subprocess.Popen[bytes]", fd: int) -> None:
        self.process, self._fd = process, fd
        self.seen = ""
        self._mark = 0

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def wait_for_prompt(self) -> str:
        """Reads until the prompt waits: Python loses a signal between showing it and waiting for a key."""
        shown = self.wait_for(f"(^|\n){PROMPT}")
        while self._read(0.3):
            pass
        return shown

    def settle(self, seconds: float = 1.5) -> None:
        """Lets readline take the terminal over: until then the kernel echoes keys, and drops them at a Ctrl-C."""
        while self._read(seconds):
            pass

    def wait_for(self, pattern: str, seconds: float = 40) -> str:
        """Reads until `pattern` comes, and returns what was shown since the last wait."""
        until = time.monotonic() + seconds
        while not (found := re.compile(pattern).search(self.seen, self._mark)):
            assert time.monotonic() < until, f"no {pattern!r} in {self.seen[self._mark :]!r}"
            if not self._read(0.1) and self.process.poll() is not None and not self._read(0):
                raise AssertionError(f"left without {pattern!r}: {self.seen[self._mark :]!r}")
        shown = self.seen[self._mark : found.end()]
        self._mark = found.end()
        return shown

    def wait_for_end(self) -> int:
        until = time.monotonic() + 40
        while self.process.poll() is None and time.monotonic() < until:
            self._read(0.1)
        while self._read(0):
            pass
        return self.process.wait(timeout=1)

    @property
    def errors(self) -> str:
        """What a stderr that is no terminal got; only after the end."""
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()

    def _read(self, seconds: float) -> bool:
        if not select.select([self._fd], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self._fd, 65536)
        except OSError as error:  # Linux says so when the other end is closed
            if error.errno != errno.EIO:
                raise
            return False
        self.seen += data.decode("utf-8", "replace")
        if b"\x1b[6n" in data:  # a terminal with a cursor says where it is
            self.type("\x1b[1;1R")
        return bool(data)

    def resize(self, columns: int) -> None:
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))


@pytest.fixture
def terminal(workdir: Path, clean_env: dict[str, str], talker_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Opens a terminal with `edge-sir chat *args` on it; stderr is a pipe unless `apart=False`."""
    with ExitStack() as closing:

        def start(*args: str, apart: bool = True, env: dict[str, str] | None = None) -> Terminal:
            ours, theirs = pty.openpty()
            closing.callback(os.close, ours)
            base = ("chat", "--model", str(talker_path), "--budget", "96", "--max-tokens", "8")
            process = subprocess.Popen(
                [sys.executable, "-c", _LAUNCH, *base, *args],
                stdin=theirs,
                stdout=theirs,
                stderr=subprocess.PIPE if apart else theirs,
                cwd=workdir,
                env=clean_env | (env or {}),
                start_new_session=True,
            )
            os.close(theirs)
            closing.enter_context(process)
            closing.callback(process.kill)
            return Terminal(process, ours)

        yield start


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
    assert re.fullmatch(r"\[\d+/96 cells\]", lines[2])
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
    assert re.search(r"\[\d+/64 cells\] let go \d+ tokens:? of (turn \d+ \(hello|\d+ turns \(/memory)", person.errors)


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


# ---- a terminal that can do more -----------------------------------------------------------------

ABLE = {"TERM": "xterm-256color"}
TOOLBAR = r"(\d+)/96 cells"
_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>()][0-9A-B]?|\x1b\][^\x07]*\x07")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def able(terminal: Callable) -> Callable:
    """A chat on a terminal with a cursor; its prompt has come."""

    def start(*args: str, env: dict[str, str] | None = None, **settings: object) -> Terminal:
        person = terminal(*args, env=ABLE | (env or {}), **settings)
        person.resize(80)
        ready(person)
        return person

    return start


def ready(person: Terminal) -> str:
    """Waits for the toolbar under a new prompt, and for silence."""
    shown = person.wait_for(TOOLBAR)
    while person._read(0.4):
        pass
    person._mark = len(person.seen)
    return shown


def enter(person: Terminal, text: str) -> str:
    """Types a line as keys and returns what was shown until the next prompt, without control codes."""
    start = len(person.seen)
    person.type(text + "\r")
    person.wait_for(r"\n")
    ready(person)
    return _CODES.sub("", person.seen[start:])


def test_the_toolbar_shows_the_occupancy(able: Callable) -> None:
    person = able()
    enter(person, "hello")
    enter(person, "hello")
    cells = [int(n) for n in re.findall(TOOLBAR, _CODES.sub("", person.seen))]
    assert cells[0] < cells[-1] <= 96
    person.type(END)
    assert person.wait_for_end() == 0
    assert "cells]" not in person.errors  # said once is enough


def test_commands_work_at_the_prompt(able: Callable) -> None:
    person = able()
    enter(person, "hello you there")
    assert "cells hold 1 of 1 turns" in enter(person, "/memory")
    assert "is in memory: turn 1" in enter(person, "/memory find you")
    assert "pinned" in enter(person, "/pin 1")
    assert "took back turn 1" in enter(person, "/undo")
    enter(person, "/foo")
    person.type("/bye\r")
    assert person.wait_for_end() == 0
    assert "unknown command /foo" in person.errors


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
    codes = {code for found in _COLOUR.findall(person.seen) for code in found[2:-1].split(";")}
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
