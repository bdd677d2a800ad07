"""The command line: one module per subcommand, each with `add_parser` and `run`."""

import argparse
import importlib.metadata
import logging
import os
import re
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any, NoReturn

from edge_sir.cli import batch, chat, config, doctor, eval, models, replay, serve, sessions
from edge_sir.cli._flags import refuse_unknown
from edge_sir.cli._losses import folded
from edge_sir.errors import EdgeSirError, UserError

__all__ = ["main"]


class _Parser(argparse.ArgumentParser):
    """Complaints in one line, without the usage text."""

    _words: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's; notes what was given, for a complaint."""
        self._words = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def flags(self) -> list[str]:
        """Those that it takes, as they are written."""
        return [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]

    def error(self, message: str) -> NoReturn:
        message += self._looks_like_a_flag(message)
        line = f"edge-sir: {message} (`{self.prog} --help` shows the options)"
        print(folded(line, sys.stderr), file=sys.stderr)
        raise SystemExit(2)

    def _looks_like_a_flag(self, message: str) -> str:
        """What stands where a value is missing, if that begins as flags do."""
        found = re.match(r"argument (--[\w-]+): expected one argument", message)
        if found is None or found[1] not in self._words[:-1]:
            return ""
        value = self._words[self._words.index(found[1]) + 1]
        meant = "no name begins with '-'" if found[1] == "--session" else f"write {found[1]}={value} if it is the value"
        return f", and {value!r} reads as a flag; {meant}"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a subcommand and returns its exit code: 0 done, 2 a mistake of the user's, 1 an engine failure.

    130 after Ctrl-C. A bug ends in a traceback.
    """
    parser = _Parser(prog="edge-sir", description="A conversation without end in a fixed KV cache.")
    parser.add_argument("--version", action="version", version=f"edge-sir {importlib.metadata.version('edge-sir')}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    for module in (chat, sessions, serve, batch, models, doctor, config, eval, replay):
        module.add_parser(subparsers)
    # A kill ends like Ctrl-C: files are written, what is open is closed.
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        signal.signal(number, _terminate)
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # whatever bytes come in, whatever a terminal cannot show
    handler = logging.StreamHandler()
    handler.addFilter(lambda record: record.name != "llama.cpp")  # what matters of it comes back as an exception
    logging.basicConfig(format="edge-sir: %(message)s", level=logging.ERROR, handlers=[handler])
    try:
        args, unknown = parser.parse_known_args(argv)
        if unknown:
            refuse_unknown(unknown[0], args.command, subparsers.choices[args.command].flags())
        return int(args.run(args))
    except EdgeSirError as error:
        # What it quotes (a file name, an argument) may hold line breaks and control codes.
        line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(error))
        print(folded(f"edge-sir: {line}", sys.stderr), file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has left; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # our own files are checked before: this is a full disk, a terminal that went away
        print(f"edge-sir: {error}", file=sys.stderr)
        if sys.stdout is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
