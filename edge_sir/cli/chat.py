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

from edge_sir.chat import Chat, Reply
from edge_sir.cli._commands import complaint, is_command, perform
from edge_sir.cli._counts import shortcomings
from edge_sir.cli._flags import add_flags, from_args
from edge_sir.cli._idle import Idle
from edge_sir.cli._losses import Losses, recall_line, shown
from edge_sir.cli._options import CliOptions
from edge_sir.cli._resumed import keeps_limit, session_lines
from edge_sir.cli._views import print_view
from edge_sir.errors import ConfigError, UserError
from edge_sir.runtime import open_chat

__all__ = ["add_parser", "run"]


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


def run(args: argparse.Namespace) -> int:
    """Holds the conversation until the input ends; returns the exit code."""
    options = from_args(args).options
    logging.getLogger("edge_sir").setLevel(logging.ERROR if options.quiet else logging.WARNING)
    with _stats_file(options.stats) as write_stats, open_chat(options) as chat:
        losses = Losses(chat)
        try:
            if sys.stdin is not None and sys.stdin.isatty() and not options.json_output:
                # Half a second of imports that no pipe should pay for.
                from edge_sir.cli._terminal import talk

                talk(chat, losses, quiet=options.quiet, idle=_idle(chat, options))
                code = 0
            else:
                code = _answer_lines(chat, losses, options)
            write_stats(chat)
        except BaseException:  # Ctrl-C and kill, too; they may have come while the figures were written
            write_stats(chat)
            raise
    return code


def _idle(chat: Chat, options: CliOptions) -> Idle | None:
    """Saves the cells of a session while its person does not type: a resume then has nothing to read again."""
    saves = options.session is not None and not options.read_only
    return Idle(lambda: chat.snapshot()) if saves else None


# ---- piped ---------------------------------------------------------------------------------------


def _answer_lines(chat: Chat, losses: Losses, options: CliOptions) -> int:
    """One turn per line; returns the exit code: 2 if a command was refused."""
    code = 0
    for line in [] if options.quiet else session_lines(chat):
        print(line, file=sys.stderr, flush=True)
    for text in _lines():
        if options.commands and is_command(text):
            try:
                outcome = perform(chat, text)
            except UserError as error:
                print(f"edge-sir: {shown(complaint(error))}", file=sys.stderr, flush=True)
                code = 2
                losses.clear()  # what a transcript that was refused midway evicted was taken back with it
                continue
            if outcome.leave:
                break
            if outcome.stream is not None:
                for _ in outcome.stream:
                    pass
                _print_reply(chat, outcome.stream.reply, losses, options)
            elif options.json_output or outcome.as_json:
                document = outcome.document
                if options.json_output:
                    forgot = losses.listed()
                    document = {"command": text.split()[0]} | document | ({"forgot": forgot} if forgot else {})
                print(json.dumps(document, ensure_ascii=False), flush=True)
            else:
                print_view(outcome.view)
        else:
            said = text[1:] if options.commands and text.startswith("//") else text
            _print_reply(chat, chat.reply(said), losses, options)
        lost = losses.take()
        if lost and not options.quiet:
            print(lost, file=sys.stderr, flush=True)
    return code


def _print_reply(chat: Chat, reply: Reply, losses: Losses, options: CliOptions) -> None:
    if options.json_output:
        record: dict[str, object] = {"turn": reply.turn, "text": reply.text}
        record |= {"resident": reply.resident, "evicted": reply.evicted, "finish": reply.finish}
        record["forgot"] = losses.listed()
        if reply.thought:
            record["thought"] = reply.thought
        record["recalled"] = [r.as_dict() for r in reply.recalled]
        print(json.dumps(record, ensure_ascii=False), flush=True)
    else:
        print(reply.text, flush=True)
    notes = (recall_line(reply.recalled), shortcomings(reply, chat.max_tokens, keeps_limit(chat)))
    for note in notes if not options.quiet else ():
        if note:
            print(note, file=sys.stderr, flush=True)


def _lines() -> Iterator[str]:
    """The user's turns: lines of standard input as text, whatever bytes they hold; empty ones are no turns.

    A byte-order mark before the first is none of its text.
    """
    if sys.stdin is None:  # closed by the caller
        return
    for i, line in enumerate(sys.stdin.buffer):
        text = line.decode("utf-8-sig" if i == 0 else "utf-8", "replace").strip("\r\n")
        if text.strip():
            yield text


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
        text = json.dumps(dataclasses.asdict(chat.run_stats()), indent=2)
        _part(self.path).write_text(text + "\n", encoding="utf-8")
        _part(self.path).replace(self.path)


def _part(path: Path) -> Path:
    """Written first and then renamed, so that nobody reads half a file."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")
