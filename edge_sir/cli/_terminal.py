"""A chat with a person at a terminal: prompt, streaming, notes, commands."""

import contextlib
import json
import shutil
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from edge_sir.chat import Chat, ReplyStream
from edge_sir.cli._commands import Outcome, back_of, complaint, cost_of, is_command, perform
from edge_sir.cli._counts import cut, empty
from edge_sir.cli._idle import Idle
from edge_sir.cli._losses import N_TURNS, Losses, folded, recall_line, shown
from edge_sir.cli._prompt import PlainReader, rich_reader
from edge_sir.cli._resumed import keeps_limit, last_lines, session_lines
from edge_sir.cli._views import colours, print_view
from edge_sir.errors import EdgeSirError, PoisonedError
from edge_sir.text.reply import Piece

if TYPE_CHECKING:
    from edge_sir.cli._wrap import Wrapped

__all__ = ["talk"]

_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


class _Reader(Protocol):
    """Reads what the person says.

    shows_state: the occupancy is in sight while it waits. typed: something was typed since `read` was called. Ctrl-C
    clears what stands in the line; with nothing in it, `read` raises KeyboardInterrupt.
    """

    shows_state: bool
    typed: bool

    def read(self) -> str: ...


def talk(chat: Chat, losses: Losses, *, quiet: bool, idle: Idle | None = None) -> None:
    """Holds the conversation until the person leaves. idle: what is done while the person does not type."""
    reader: _Reader = rich_reader(chat) or PlainReader()
    if not quiet:
        cells, mode = chat.session.budget.n_cells, chat.session.mode  # why this mode: `edge-sir doctor`
        _dim(f"{chat.engine.spec.model}, {cells} cells, {chat.session.policy.spec}, positions {mode}")
        for line in session_lines(chat):
            _dim(line)
        for line in last_lines(chat, shutil.get_terminal_size().columns):
            _dim(line)
        _dim("Ctrl-C stops a reply, Ctrl-D leaves, /help shows what else there is")
    while (text := _ask(reader, idle)) is not None:
        if not text.strip():
            continue
        if text.lstrip().startswith("/") and "\n" not in text:  # a slip of the space bar; pasted lines stay as they are
            text = text.lstrip()
        outcome = Outcome()
        try:
            outcome = _asked(chat, text)
            _do(outcome, wrap=reader.shows_state, quiet=quiet)
            if outcome.leave:
                return
            if not quiet:
                _note_cut(chat, outcome.stream)
        except KeyboardInterrupt:
            print(_style("assistant"), flush=True)
            if not quiet:
                _note_cut(chat, outcome.stream)
            if chat.awaits:
                _dim("stopped while reading; what you typed goes in with your next message")
            elif chat.session.turn == 0 and is_command(text):
                _dim("stopped; the conversation is empty")
        except PoisonedError:
            raise
        except EdgeSirError as error:
            _complain(error, start="" if is_command(text) else "\n")
        if chat.session.turn == 0:
            losses.clear()  # a transcript that was refused or stopped midway took back what it had evicted
        if not quiet:
            _note(chat, losses, always=not reader.shows_state and not is_command(text))
        losses.clear()


def _asked(chat: Chat, text: str) -> Outcome:
    """What one line asks for; a reply is yet to be streamed."""
    if is_command(text):
        return perform(chat, text)
    return Outcome(stream=chat.stream(text[1:] if text.startswith("//") else text))


def _do(outcome: Outcome, *, wrap: bool, quiet: bool) -> None:
    if outcome.stream is None:
        _show(outcome)
        return
    _show_reply(outcome.stream, wrap=wrap)
    if not quiet and (line := recall_line(outcome.stream.reply.recalled)):
        _dim(line)
    undone = getattr(outcome.stream, "undone", None)
    for line in () if undone is None else (back_of(undone), cost_of(undone)):
        if line:
            _dim(line)


def _show(outcome: Outcome) -> None:
    if outcome.as_json:
        print(json.dumps(outcome.document, ensure_ascii=False), flush=True)
    else:
        print_view(outcome.view)


def _ask(reader: _Reader, idle: Idle | None) -> str | None:
    """What the person says next; None when they leave (Ctrl-D, or Ctrl-C twice)."""
    warned = False
    while True:
        try:
            with idle or contextlib.nullcontext():
                text = reader.read()
            if idle is not None and idle.error is not None:
                _complain(idle.error)
                idle.error = None
            return text
        except EOFError:
            print()
            return None
        except KeyboardInterrupt:
            if warned and not reader.typed:
                print(flush=True)
                return None
            start = "" if reader.shows_state else "\n"  # where it ended the line itself
            print(f"{start}Ctrl-C once more or Ctrl-D leaves", flush=True)
            warned = True


class _Screen:
    """Where a reply is shown. answer: what of it was, thoughts not counted."""

    def __init__(self, wrap: bool) -> None:
        self.answer = ""
        self.role = "assistant"
        self._wrap = wrap
        self._wrapped = _wrapped() if wrap else None

    def show(self, piece: Piece) -> None:
        if piece.role != self.role:
            print(f"{self._wrapped.rest() if self._wrapped else ''}\n{_style(piece.role)}", end="")
            self.role, self._wrapped = piece.role, _wrapped() if self._wrap else None
        self.answer += piece.text if piece.role == "assistant" else ""
        text = shown(piece.text) if sys.stdout.isatty() else piece.text
        print(self._wrapped.push(text) if self._wrapped else text, end="", flush=True)

    def end(self) -> None:
        print(self._wrapped.rest() if self._wrapped else "", end="", flush=True)


def _show_reply(stream: ReplyStream, *, wrap: bool) -> None:
    screen = _Screen(wrap)
    with stream, _silent_keys() if wrap else contextlib.nullcontext():
        try:
            for piece in stream:
                screen.show(piece)
        except KeyboardInterrupt:
            stream.close()
            said = stream.text
            if said.startswith(screen.answer) and said != screen.answer:  # memory has it, though it was not shown
                screen.show(Piece(said[len(screen.answer) :], "assistant"))
            raise
        finally:
            screen.end()
        if screen.role != "assistant":
            print(_style("assistant"), end="")
    print(flush=True)


@contextlib.contextmanager
def _silent_keys() -> Iterator[None]:
    """What is typed during a reply waits for the prompt instead of standing in the middle of the text."""
    try:
        import termios

        fd = sys.stdin.fileno()
        before = termios.tcgetattr(fd)
    except (ImportError, OSError, ValueError):
        yield
        return
    silent = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
    try:
        termios.tcsetattr(fd, termios.TCSANOW, silent)
        yield
    finally:
        with contextlib.suppress(termios.error):  # the terminal went away
            termios.tcsetattr(fd, termios.TCSANOW, before)


def _wrapped() -> "Wrapped":
    from edge_sir.cli._wrap import Wrapped

    return Wrapped()


def _note(chat: Chat, losses: Losses, *, always: bool) -> None:
    """One line after a turn: occupancy, where no toolbar shows it, and what was evicted."""
    session, width = chat.session, shutil.get_terminal_size().columns
    texts = [losses.line(n) for n in range(N_TURNS, -1, -1)]
    lost = next((text for text in texts if len(text) < width - 20 * always), texts[-1])
    occupied = f"[{len(session.ledger)}/{session.budget.n_cells} cells]" if always else ""
    if occupied or lost:
        _dim(" ".join(part for part in (occupied, lost) if part))


def _note_cut(chat: Chat, stream: ReplyStream | None) -> None:
    """Says so if the reply did not end by itself, or if all that was shown of it was a thought, which does not stay."""
    if stream is None or not stream.is_finished:
        return
    reply = stream.reply
    nothing = empty(reply) if reply.n_thought and reply.finish != "cancelled" else ""
    notes = [part for part in (nothing, *cut(reply, chat.max_tokens, keeps_limit(chat))) if part]
    if notes:
        _dim(f"({'; '.join(notes)})")
    elif reply.finish == "cancelled":
        _dim("(stopped)")


def _complain(error: EdgeSirError, start: str = "") -> None:
    sys.stdout.flush()
    print(start + folded(f"edge-sir: {shown(complaint(error))}", sys.stderr), file=sys.stderr)


def _style(role: str) -> str:
    if not colours(sys.stdout.isatty()):
        return ""
    return _DIM if role == "thought" else _PLAIN


def _dim(text: str) -> None:
    text = folded(text, sys.stderr)
    print(f"{_DIM}{text}{_PLAIN}" if colours(sys.stderr.isatty()) else text, file=sys.stderr, flush=True)
