"""`edge-sir chat`: a conversation on the terminal, or one turn per line of piped input."""

import argparse
import contextlib
import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from edge_sir.chat import Chat
from edge_sir.cli._flags import add_flags, from_args, nearest_flag
from edge_sir.cli._losses import Losses
from edge_sir.errors import ConfigError
from edge_sir.options import Options
from edge_sir.runtime import open_chat

__all__ = ["add_parser", "refuse_unknown", "run"]

_PROMPT = ">>> "
_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the `chat` subcommand; its namespace carries `run`."""
    parser = subparsers.add_parser(
        "chat",
        help="talk to a model",
        description="Talks to a model in a fixed number of KV-cache cells. Without a terminal, each line of "
        "standard input is one user turn and only replies go to standard output.",
        allow_abbrev=False,
    )
    add_flags(parser)
    parser.set_defaults(run=run)


def refuse_unknown(word: str, command: str) -> NoReturn:
    """Raises ConfigError for an argument that no parser took."""
    hint = nearest_flag(word) if word.startswith("--") and command in ("chat", "config") else ""
    raise ConfigError(f"unknown argument '{word}'{hint}")


def run(args: argparse.Namespace) -> int:
    """Holds the conversation until the input ends; returns the exit code."""
    options = from_args(args).options
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a reply may hold what an old terminal cannot show
    with _stats_file(options.stats) as write_stats:
        losses = Losses()
        with open_chat(options, on_evict=losses.note) as chat:
            losses.codec = chat.codec
            try:
                if sys.stdin.isatty() and not options.json_output:
                    _talk(chat, losses, options)
                else:
                    _answer_lines(chat, losses, options)
            finally:
                write_stats(chat)
    return 0


# ---- piped ---------------------------------------------------------------------------------------


def _answer_lines(chat: Chat, losses: Losses, options: Options) -> None:
    for text in _lines():
        reply = chat.reply(text)
        if options.json_output:
            record: dict[str, object] = {"turn": reply.turn, "text": reply.text}
            record |= {"resident": reply.resident, "evicted": reply.evicted}
            if reply.thought:
                record["thought"] = reply.thought
            print(json.dumps(record, ensure_ascii=False), flush=True)
        else:
            print(reply.text, flush=True)
        lost = losses.take()
        if lost and not options.quiet:
            print(lost, file=sys.stderr, flush=True)


def _lines() -> Iterator[str]:
    """The user's turns: lines of standard input as text, whatever bytes they hold; empty ones are no turns."""
    for line in sys.stdin.buffer:
        text = line.decode("utf-8", "replace").strip("\r\n")
        if text.strip():
            yield text


# ---- on a terminal -------------------------------------------------------------------------------


def _talk(chat: Chat, losses: Losses, options: Options) -> None:
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - gives input() editing keys and history
    if not options.quiet:
        spec = chat.engine.spec
        _dim(f"{spec.model}, {chat.session.budget.n_cells} cells, {chat.session.mode} ({spec.why})")
        _dim("Ctrl-C stops a reply, Ctrl-D leaves")
    while (text := _ask()) is not None:
        if not text.strip():
            continue
        try:
            _show_reply(chat, text)
        except KeyboardInterrupt:
            print(flush=True)
        lost = losses.take()
        if not options.quiet:
            session = chat.session
            _dim(f"[{len(session.ledger)}/{session.budget.n_cells} cells]{' ' + lost if lost else ''}")


def _ask() -> str | None:
    """One line from the person; None when they leave (Ctrl-D, or Ctrl-C twice)."""
    for warned in (False, True):
        try:
            return input(_PROMPT)
        except EOFError:
            print()
            return None
        except KeyboardInterrupt:
            print("" if warned else "\nCtrl-C once more or Ctrl-D leaves")
    return None


def _show_reply(chat: Chat, text: str) -> None:
    with contextlib.closing(chat.stream(text)) as pieces:
        role = "assistant"
        for piece in pieces:
            if piece.role != role:
                print(f"\n{_style(piece.role)}", end="")
                role = piece.role
            print(piece.text, end="", flush=True)
        if role != "assistant":
            print(_style("assistant"), end="")
    print(flush=True)


def _style(role: str) -> str:
    if not _colours(sys.stdout.isatty()):
        return ""
    return _DIM if role == "thought" else _PLAIN


def _dim(text: str) -> None:
    print(f"{_DIM}{text}{_PLAIN}" if _colours(sys.stderr.isatty()) else text, file=sys.stderr, flush=True)


def _colours(on_terminal: bool) -> bool:
    return on_terminal and not os.environ.get("NO_COLOR")


# ---- figures -------------------------------------------------------------------------------------


@contextlib.contextmanager
def _stats_file(path: Path | None) -> "Iterator[_WriteStats]":
    """A function that writes the chat's figures to `path`. Checked at once: not after hours of talk."""
    if path is not None and (path.is_dir() or not os.access(path.parent, os.W_OK)):
        raise ConfigError(f"cannot write the figures to {path}; give --stats a file in a folder that can be written")
    yield _WriteStats(path)


@dataclasses.dataclass(frozen=True)
class _WriteStats:
    path: Path | None

    def __call__(self, chat: Chat) -> None:
        if self.path is None:
            return
        text = json.dumps(dataclasses.asdict(chat.stats()), indent=2)
        with tempfile.NamedTemporaryFile("w", dir=self.path.parent, delete=False, encoding="utf-8") as file:
            file.write(text + "\n")
        Path(file.name).replace(self.path)
