"""One session on disk over thousands of turns and many processes: its speed, its bytes, what it knows at the end.

long_session.py       arguments, the order           long_session_turns.py   one process, turn by turn
long_session_play.py  the processes and their ends   long_session_report.py  tables
The conversation is that of scripts/long-chat (long_chat.toml, long_chat_talk.py), with its first facts alone.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from long_chat_talk import read_scenario
from long_session_play import Settings, play
from long_session_report import report
from one_line_parser import OneLineParser

from edge_sir import EdgeSirError, Options, UserError
from edge_sir.errors import ConfigError


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done; 2 a mistake of the user's; 1 a failure of the chat; 130 Ctrl-C."""
    args = _parser().parse_args(arguments)
    try:
        _make(args.out)
        if args.what == "play":
            settings = Settings.of(
                read_scenario(args.talk),
                n_facts=args.facts,
                talk=str(args.talk.resolve()),
                model=args.model,
                budget=args.budget,
                turns=args.turns,
                processes=args.processes,
                max_tokens=args.max_tokens,
                threads=args.threads,
                seed=args.seed,
                on_disk=args.archive_on_disk,
            )
            play(args.out, settings, say=_say)
        text = report(args.out)
        (args.out / "REPORT.md").write_text(text, encoding="utf-8")
        print(text, end="")
    except EdgeSirError as error:
        print(f"long-session: {error}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    except KeyboardInterrupt:
        print("long-session: stopped; run it again to go on", file=sys.stderr)
        return 130
    return 0


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {folder}: {error.strerror}; give another --out") from None


def _say(text: str) -> None:
    print(f"long-session: {text}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="scripts/long-session",
        description="Plays one session through many processes, of which every other one is killed after its last turn: "
        "facts in the first 50 turns, small talk, and the facts asked for at the end. A run that was cut goes on where "
        "its session stands.",
        allow_abbrev=False,
    )
    parser.add_argument("what", choices=("play", "report"), help="play: what is missing; report: of what is there")
    parser.add_argument("--out", type=Path, default=Path("long-session"), metavar="DIR", help="(default: %(default)s)")
    parser.add_argument("--model", default=Options().model, metavar="M", help="(default: %(default)s)")
    parser.add_argument("--budget", type=int, default=512, metavar="N", help="cells (default: %(default)s)")
    parser.add_argument(
        "--turns", type=int, default=2000, metavar="N", help="questions included (default: %(default)s)"
    )
    parser.add_argument("--processes", type=int, default=10, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--facts", type=int, default=10, metavar="N", help="the first ones (default: %(default)s)")
    parser.add_argument("--max-tokens", type=int, default=14, metavar="N", help="of a reply (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the talk (default: %(default)s)")
    parser.add_argument(
        "--archive-on-disk",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="evicted cells are written, too (default: yes)",
    )
    parser.add_argument(
        "--talk",
        type=Path,
        default=Path(__file__).with_name("long_chat.toml"),
        metavar="FILE",
        help="another conversation, written as scripts/long_chat.toml",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
