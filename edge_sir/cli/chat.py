"""`edge-sir chat`: a conversation on the terminal, or one turn per line of piped input."""

import argparse
import contextlib
import dataclasses
import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from edge_sir.chat import Chat
from edge_sir.cli._flags import add_flags, from_args, nearest_flag
from edge_sir.cli._losses import Losses, shown
from edge_sir.errors import ConfigError, EdgeSirError, PoisonedError
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
    logging.getLogger("edge_sir").setLevel(logging.ERROR if options.quiet else logging.WARNING)
    with _stats_file(options.stats) as write_stats:
        losses = Losses()
        with open_chat(options, on_evict=losses.note) as chat:
            losses.codec = chat.codec
            try:
                if sys.stdin is not None and sys.stdin.isatty() and not options.json_output:
                    _talk(chat, losses, options)
                else:
                    _answer_lines(chat, losses, options)
                write_stats(chat)
            except BaseException:  # Ctrl-C and kill, too; they may have come while the figures were written
                write_stats(chat)
                raise
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
    if sys.stdin is None:  # closed by the caller
        return
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
            print(_style("assistant"), flush=True)
            if chat.last_reply is None:
                _dim("stopped while reading; what you typed goes in with your next message")
        except PoisonedError:
            raise
        except EdgeSirError as error:
            print(f"\nedge-sir: {error}", file=sys.stderr)
        lost = losses.take()
        if not options.quiet:
            session = chat.session
            _dim(f"[{len(session.ledger)}/{session.budget.n_cells} cells]{' ' + lost if lost else ''}")


def _ask() -> str | None:
    """One line from the person; None when they leave (Ctrl-D, or Ctrl-C twice)."""
    for warned in (False, True):
        try:
            if sys.stdout.isatty():
                return input(_PROMPT)
            print(_PROMPT, end="", file=sys.stderr, flush=True)  # standard output may be a file of replies
            return input()
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
            print(shown(piece.text) if sys.stdout.isatty() else piece.text, end="", flush=True)
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
    if path is not None:
        try:
            path = path.expanduser().resolve()  # a link keeps pointing where it does
            if path.exists() and not path.is_file():  # a folder, or a device that must not become a file
                raise OSError
            _part(path).touch()
            _part(path).unlink()
        except (OSError, ValueError, RuntimeError):
            trouble = f"cannot write the figures to {path}"
            raise ConfigError(f"{trouble}; give --stats a file in a folder that can be written") from None
    yield _WriteStats(path)


@dataclasses.dataclass(frozen=True)
class _WriteStats:
    path: Path | None

    def __call__(self, chat: Chat) -> None:
        if self.path is None:
            return
        text = json.dumps(dataclasses.asdict(chat.stats()), indent=2)
        _part(self.path).write_text(text + "\n", encoding="utf-8")
        _part(self.path).replace(self.path)


def _part(path: Path) -> Path:
    """Written first and then renamed, so that nobody reads half a file."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")
