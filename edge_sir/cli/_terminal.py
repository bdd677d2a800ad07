"""A chat with a person at a terminal: prompt, streaming, notes, commands."""

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import Protocol

from edge_sir.chat import Chat
from edge_sir.cli._commands import Outcome, is_command, perform, undone_view
from edge_sir.cli._losses import Losses, shown
from edge_sir.cli._prompt import PlainReader, rich_reader
from edge_sir.cli._views import colours, print_view
from edge_sir.errors import EdgeSirError, PoisonedError
from edge_sir.reply import Piece

__all__ = ["talk"]

_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"
_N_TURNS = 4  # that a note names; /memory shows all


class _Reader(Protocol):
    """Reads what the person says. shows_state: the occupancy is in sight while it waits."""

    shows_state: bool

    def read(self) -> str: ...


def talk(chat: Chat, losses: Losses, *, quiet: bool) -> None:
    """Holds the conversation until the person leaves."""
    reader: _Reader = rich_reader(chat) or PlainReader()
    if not quiet:
        spec = chat.engine.spec
        _dim(f"{spec.model}, {chat.session.budget.n_cells} cells, {chat.session.mode} ({spec.why})")
        _dim("Ctrl-C stops a reply, Ctrl-D leaves, /help shows what else there is")
    while (text := _ask(reader)) is not None:
        if not text.strip():
            continue
        try:
            if _turn(chat, text):
                return
        except KeyboardInterrupt:
            print(_style("assistant"), flush=True)
            if chat.last_reply is None:
                _dim("stopped while reading; what you typed goes in with your next message")
        except PoisonedError:
            raise
        except EdgeSirError as error:
            sys.stdout.flush()
            print(f"{'' if is_command(text) else chr(10)}edge-sir: {shown(str(error))}", file=sys.stderr)
        if not quiet:
            _note(chat, losses.take(_N_TURNS), always=not reader.shows_state and not is_command(text))
        losses.clear()


def _turn(chat: Chat, text: str) -> bool:
    """Does what one line asks for; True to leave."""
    if not is_command(text):
        chat.last_reply = None
        _show_reply(chat.stream(text[1:] if text.startswith("//") else text))
        return False
    outcome = perform(chat, text)
    if outcome.pieces is not None:
        chat.last_undo = None
        _show_reply(outcome.pieces)
        if chat.last_undo is not None and chat.last_undo.lost:
            print_view(undone_view(chat.last_undo))
    else:
        _show(outcome)
    return outcome.leave


def _show(outcome: Outcome) -> None:
    if outcome.as_json:
        print(json.dumps(outcome.document, ensure_ascii=False), flush=True)
    else:
        print_view(outcome.view)


def _ask(reader: _Reader) -> str | None:
    """What the person says next; None when they leave (Ctrl-D, or Ctrl-C twice)."""
    for warned in (False, True):
        try:
            return reader.read()
        except EOFError:
            print()
            return None
        except KeyboardInterrupt:
            print("" if warned else "\nCtrl-C once more or Ctrl-D leaves", flush=True)
    return None


def _show_reply(reply: Iterator[Piece]) -> None:
    with contextlib.ExitStack() as closing:
        if hasattr(reply, "close"):
            closing.callback(reply.close)
        role = "assistant"
        for piece in reply:
            if piece.role != role:
                print(f"\n{_style(piece.role)}", end="")
                role = piece.role
            print(shown(piece.text) if sys.stdout.isatty() else piece.text, end="", flush=True)
        if role != "assistant":
            print(_style("assistant"), end="")
    print(flush=True)


def _note(chat: Chat, lost: str, *, always: bool) -> None:
    """One line after a turn: occupancy, where no toolbar shows it, and what was let go."""
    session = chat.session
    occupied = f"[{len(session.ledger)}/{session.budget.n_cells} cells]" if always else ""
    if occupied or lost:
        _dim(" ".join(part for part in (occupied, lost) if part))


def _style(role: str) -> str:
    if not colours(sys.stdout.isatty()):
        return ""
    return _DIM if role == "thought" else _PLAIN


def _dim(text: str) -> None:
    print(f"{_DIM}{text}{_PLAIN}" if colours(sys.stderr.isatty()) else text, file=sys.stderr, flush=True)
