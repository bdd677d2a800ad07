"""What a model remembers of the beginning of a conversation that does not fit its cells, policy beside policy.

demo.py       arguments, the order        demo_talk.py   a conversation: read, played, judged
demo.toml     what is said and asked      demo_views.py  table, JSON, picture, Markdown
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from demo_talk import Played, Talk, play, read_talk
from demo_views import document, markdown, page, svg
from one_line_parser import OneLineParser
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from edge_sir import EdgeSirError, Options, UserError, open_chat
from edge_sir.errors import ConfigError
from edge_sir.options import gather

_POLICIES = ("sir", "streaming")
_BUDGET = 256
_LONGEST_REPLY = 64  # tokens
_WIDTH = 100  # of a table that goes to no terminal


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, whatever the score; 2 a mistake of the user's; 1 an engine failure; 130 Ctrl-C."""
    args = _parser().parse_args(arguments)
    logging.getLogger("llama.cpp").addHandler(logging.NullHandler())
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # whatever a terminal cannot show
    try:
        talk = read_talk(args.talk)
        for path in filter(None, (args.svg, args.markdown)):
            _check_writable(path)
        runs = [_options(args, policy) for policy in args.policy or _POLICIES]
        _show(args, talk, [_played(options, talk, quiet=args.quiet) for options in runs])
    except EdgeSirError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="scripts/demo",
        description="Tells a model ten facts, talks of other things until they no longer fit the cache, and asks for "
        "the facts: under each policy the same conversation, at temperature 0. Takes a few minutes on two cores.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--model", default=Options().model, metavar="M", help="name or GGUF file (default: %(default)s)"
    )
    parser.add_argument("--budget", type=int, default=_BUDGET, metavar="N", help="cells (default: %(default)s)")
    parser.add_argument(
        "--policy",
        action="append",
        metavar="SPEC",
        help=f"may be repeated (default: {' and '.join(_POLICIES)}); keep-all shows what the model can do at all",
    )
    parser.add_argument(
        "--talk",
        type=Path,
        default=Path(__file__).with_suffix(".toml"),
        metavar="FILE",
        help="another conversation, written as scripts/demo.toml",
    )
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads; 0 chooses")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write what is shown as a picture, too")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table as Markdown, too")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    return parser


def _check_writable(path: Path) -> None:
    """Raises ConfigError if no file can be written there: not after minutes."""
    target = path if path.exists() else path.absolute().parent
    if path.is_dir() or not os.access(target, os.W_OK):
        raise ConfigError(f"cannot write {path}; give a file in a folder that can be written")


def _options(args: argparse.Namespace, policy: str) -> Options:
    """Those of one conversation. The user's settings are left out: all see the same. Raises ConfigError."""
    given = {
        "model": args.model,
        "budget": args.budget,
        "policy": policy,
        "threads": args.threads,
        "temperature": 0,
        "max_tokens": _LONGEST_REPLY,
        "quiet": args.quiet,
    }
    return gather(Options, given, environ={}).options


def _played(options: Options, talk: Talk, *, quiet: bool) -> Played:
    with open_chat(options) as chat, _progress(talk, options.policy, quiet=quiet) as note:
        return play(chat, talk, options.policy, note)


@contextmanager
def _progress(talk: Talk, policy: str, *, quiet: bool) -> Iterator[Callable[[str], None]]:
    """A bar on a terminal's standard error, with what the user says; to be called before each thing that is said."""
    console = Console(stderr=True)
    columns = (TextColumn(policy), BarColumn(20), MofNCompleteColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("", total=len(talk.turns) + len(talk.questions), completed=-1)
        yield lambda text: bar.update(task, advance=1, description=text)


def _show(args: argparse.Namespace, talk: Talk, played: Sequence[Played]) -> None:
    for path, text in ((args.svg, svg), (args.markdown, markdown)):
        if path is not None:
            path.write_text(text(talk, played), encoding="utf-8")
    if args.json:
        print(json.dumps(document(talk, played), ensure_ascii=False))
        return
    console = Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False)
    console.print(page(talk, played))


if __name__ == "__main__":
    sys.exit(main())
