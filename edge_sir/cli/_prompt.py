"""Reading a person's lines: with prompt_toolkit on a terminal that can, with input() on any other."""

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from edge_sir.chat import Chat
from edge_sir.cli._help import HELP

if TYPE_CHECKING:
    from prompt_toolkit.completion import Completer
    from prompt_toolkit.document import Document
    from prompt_toolkit.history import History
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

__all__ = ["PROMPT", "PlainReader", "RichReader", "rich_reader"]

PROMPT = ">>> "
_CONTINUED = "... "
_FENCE = '"""'


def _is_open(text: str) -> bool:
    """Whether a message that began with three quotes still waits for the three that end it."""
    text = text.strip()
    return text.startswith(_FENCE) and (len(text) < 2 * len(_FENCE) or not text.endswith(_FENCE))


def _content(text: str) -> str:
    fenced = text.strip()
    return fenced[len(_FENCE) : -len(_FENCE)].strip("\n") if fenced.startswith(_FENCE) and not _is_open(text) else text


class PlainReader:
    """input(), which brings editing keys and history where there is a readline."""

    shows_state = False

    def __init__(self) -> None:
        self.typed = False
        self._in_line: Callable[[], str] = str  # nobody can tell without a readline
        with contextlib.suppress(ImportError):
            import readline

            self._in_line = readline.get_line_buffer

    def read(self) -> str:
        self.typed = False
        text = ""
        while True:
            try:
                text = self._line(PROMPT)
                while _is_open(text):
                    text += "\n" + self._line(_CONTINUED)
                return _content(text)
            except KeyboardInterrupt:
                if not text and not self._in_line():
                    raise
                self.typed, text = True, ""
                print(flush=True)

    def _line(self, prompt: str) -> str:
        if sys.stdout.isatty():
            return input(prompt)
        print(prompt, end="", file=sys.stderr, flush=True)  # standard output may be a file of replies
        return input()


def rich_reader(chat: Chat) -> "RichReader | None":
    """A reader with a toolbar; None where the terminal cannot move its cursor, or the output is no terminal."""
    if os.environ.get("TERM", "dumb") in ("dumb", "unknown") or not sys.stdout.isatty():
        return None
    return RichReader(chat)


class RichReader:
    """prompt_toolkit: editing keys, history on disk, completion of commands, occupancy in a toolbar."""

    shows_state = True

    def __init__(self, chat: Chat) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.filters import Condition

        self.typed = False
        self._chat = chat
        self._session: PromptSession[str] = PromptSession(
            history=_history(),
            completer=_completer(),
            complete_while_typing=False,
            enable_history_search=True,
            key_bindings=self._keys(),
            multiline=Condition(lambda: _is_open(self._session.default_buffer.text)),
            prompt_continuation=_CONTINUED,
            bottom_toolbar=self._toolbar,
            enable_open_in_editor=False,
        )
        self._session.default_buffer.on_text_insert += self._note_typing

    def read(self) -> str:
        self.typed = False
        return _content(self._session.prompt(PROMPT))

    def _note_typing(self, _: object) -> None:
        self.typed = True

    def _keys(self) -> "KeyBindings":
        from prompt_toolkit.key_binding import KeyBindings

        keys = KeyBindings()

        @keys.add("c-c")
        def _interrupt(event: "KeyPressEvent") -> None:
            buffer = event.current_buffer
            if not buffer.text:
                event.app.exit(exception=KeyboardInterrupt, style="class:aborting")
                return
            self.typed = True  # also if it came from the history
            buffer.reset(append_to_history=bool(buffer.text.strip()))  # to be had back with the arrow key

        return keys

    def _toolbar(self) -> str:
        session = self._chat.session
        n, most = len(session.ledger), session.budget.n_cells
        full = round(10 * n / most)
        pinned = int(session.ledger["pinned"].sum())
        parts = [f"{n}/{most} cells", f"turn {session.turn}"]
        parts += [f"{pinned} pinned"] if pinned else []
        n_evicted = self._chat.evictions.n_evicted
        parts += [f"{n_evicted} evicted"] if n_evicted else []
        if shutil.get_terminal_size().columns >= 70:
            parts[0] += f" {'#' * full}{'.' * (10 - full)}"
            parts.append("/help")
        return " " + "  ".join(parts)


def _completer() -> "Completer":
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion

    class Commands(Completer):
        """Names of commands, at the beginning of a line."""

        def get_completions(self, document: "Document", complete_event: CompleteEvent) -> Iterable[Completion]:
            text = document.text_before_cursor.lstrip()
            if text.startswith("/"):
                for name, (arguments, _) in HELP.items():
                    if f"/{name}".startswith(text):
                        yield Completion(f"/{name}", -len(text), display=f"/{name} {arguments}".strip())

    return Commands()


def _history() -> "History":
    """Lines of earlier conversations, readable by their owner alone; in memory where the disk refuses."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    path = Path(platformdirs.user_state_dir("edge-sir")) / "history"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # sessions are in it, too
        path.touch(mode=0o600)
        path.read_bytes()[:1]
    except OSError:
        return InMemoryHistory()

    class OnDisk(FileHistory):
        """A disk that fills up later must not end the conversation."""

        def store_string(self, string: str) -> None:
            with contextlib.suppress(OSError):
                super().store_string(string)

    return OnDisk(str(path))
