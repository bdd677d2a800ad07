"""A person at a pseudo terminal, who types and reads."""

import errno
import fcntl
import os
import re
import select
import struct
import subprocess
import termios
import time

PROMPT = ">>> "
INTERRUPT, END = "\x03", "\x04"
ENDLESS = ("--max-tokens", "1000000", "--temperature", "0")
# The child makes the pseudo terminal its own, or Ctrl-C would reach nobody.
LAUNCH = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "edge_sir", *sys.argv[1:]])
"""
ABLE = {"TERM": "xterm-256color"}
TOOLBAR = r"(\d+)/96 cells"
CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>()][0-9A-B]?|\x1b\][^\x07]*\x07")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


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
    return CODES.sub("", person.seen[start:])
