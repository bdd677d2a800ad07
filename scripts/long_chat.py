"""What a piped chat of hundreds of turns in a small cache knows at its end, arm beside arm; resumable.

long_chat.py       arguments, the order            long_chat_play.py    a run: a process, its rows
long_chat.toml     what is told and asked          long_chat_drift.py   how far keys have moved
long_chat_talk.py  the turns by seed, what is right long_chat_report.py  tables
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from long_chat_drift import drift
from long_chat_play import ARMS, Settings, play
from long_chat_report import report
from long_chat_talk import read_scenario
from one_line_parser import OneLineParser

from edge_sir import EdgeSirError, Options, UserError
from edge_sir.errors import ConfigError

_SEEDS = (1, 2)
_ORDER = ("sir", "sir-cells", "retrieval", "keep-all", "sir-text", "streaming", "streaming-equal")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done; 2 a mistake of the user's; 1 a failure of the chat; 130 Ctrl-C."""
    args = _parser().parse_args(arguments)
    logging.getLogger("llama.cpp").addHandler(logging.NullHandler())
    try:
        scenario = read_scenario(args.talk)
        _make(args.out)
        settings = Settings.of(scenario, args.model, args.budget, args.turns, args.max_tokens, args.threads)
        if args.what == "play":
            for seed in args.seed or _SEEDS:
                for name in args.arm or _ORDER:
                    _say(f"{name}, seed {seed}")
                    if play(args.out, name, seed, scenario, settings):
                        _write(args.out, scenario)
        if args.what == "drift":
            drift(args.out, scenario, settings, (args.seed or _SEEDS)[0], say=_say)
        print(_write(args.out, scenario), end="")
    except EdgeSirError as error:
        print(f"long-chat: {error}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    except KeyboardInterrupt:
        print("long-chat: stopped; run it again to go on", file=sys.stderr)
        return 130
    return 0


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {folder}: {error.strerror}; give another --out") from None


def _write(folder: Path, scenario: object) -> str:
    """Writes the report of all runs that are there, and returns it."""
    text = report(folder, scenario)  # type: ignore[arg-type]
    (folder / "REPORT.md").write_text(text, encoding="utf-8")
    return text


def _say(text: str) -> None:
    print(f"long-chat: {text}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="scripts/long-chat",
        description="Plays a piped chat of hundreds of turns: twenty facts, chatter, and the facts asked for at the "
        "end. A run that was killed is played again from its beginning; one that ended is kept. On one core a run "
        "takes about ten minutes, keep-all longer.",
        allow_abbrev=False,
    )
    parser.add_argument("what", choices=("play", "drift", "report"), help="play: the arms; drift: how far keys move")
    parser.add_argument("--out", type=Path, default=Path("long-chat"), metavar="DIR", help="(default: %(default)s)")
    parser.add_argument("--arm", action="append", choices=tuple(ARMS), help="may be repeated (default: all)")
    parser.add_argument("--seed", action="append", type=int, metavar="N", help="may be repeated (default: 1 and 2)")
    parser.add_argument("--model", default=Options().model, metavar="M", help="(default: %(default)s)")
    parser.add_argument("--budget", type=int, default=512, metavar="N", help="cells (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=400, metavar="N", help="questions included (default: %(default)s)")
    parser.add_argument("--max-tokens", type=int, default=24, metavar="N", help="of a reply (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads (default: %(default)s)")
    parser.add_argument(
        "--talk",
        type=Path,
        default=Path(__file__).with_suffix(".toml"),
        metavar="FILE",
        help="another conversation, written as scripts/long_chat.toml",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
