"""`edge-sir replay`: recorded evictions again, under other policies, with no model."""

import argparse
import json
import math
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from edge_sir.errors import ConfigError
from edge_sir.policies import from_spec
from edge_sir.trace.record import read_trace
from edge_sir.trace.replay import Moment, Replayed, replay

__all__ = ["add_parser", "run"]

_SHADES = " .:-=+*#%@"
_N_LINES = 12
_MOST_WIDENED = 4  # columns of the picture for one turn

_LEGEND = """
CELLS            the budget; where it was changed, the last one
MEAN USE         cells occupied, on average
TOKENS EVICTED   in those evictions, the template tokens around messages and thoughts included
TURNS LEFT       of which at least one word is in memory at the end; WHOLE: all of them
LIKE THE RECORD  exactly: each eviction took what it took in the chat; else how much of what either holds at the end
                 both hold"""
_SHADES_MEAN = (
    f"blank: nothing (evicted, or not said yet)   {' '.join(_SHADES[1:-1])} : from little to much of it   "
    f"{_SHADES[-1]} : whole"
)


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the `replay` subcommand; its namespace carries `run`."""
    parser = subparsers.add_parser(
        "replay",
        help="run recorded evictions again under other policies",
        description="Reads what `edge-sir chat --trace FILE` wrote and runs its evictions again, as they were and "
        "under each --policy, with no model. The words stay those of the record. If /clear began several "
        "conversations, it is the last one in which anything was said.",
        allow_abbrev=False,
    )
    parser.add_argument("trace", metavar="TRACE", help="file that `edge-sir chat --trace` wrote")
    parser.add_argument("--policy", action="append", default=[], metavar="SPEC", help="name[:key=value,...]; repeat it")
    parser.add_argument("--budget", type=int, metavar="N", help="another budget, in cells (default: as recorded)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--plot", metavar="FILE", help="write the picture as PNG (needs `pip install edge-sir[plots]`)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints a table and a picture of the cache over time, or with --json one document."""
    policies = [from_spec(spec) for spec in args.policy]
    if args.budget is not None and args.budget < 1:
        raise ConfigError(f"--budget must be at least 1, not {args.budget}")
    recorded = replay(read_trace(args.trace))
    runs = [recorded] if args.budget is None else [recorded, replay(read_trace(args.trace), None, args.budget)]
    runs += [replay(read_trace(args.trace), policy, args.budget) for policy in policies]
    if args.plot is not None:
        _write_png(Path(args.plot), runs)
    if args.json:
        print(json.dumps([_document(r, recorded) for r in runs], indent=2))
        return 0
    if recorded.parts > 1:
        print(
            f"edge-sir: the record holds {recorded.parts} conversations; this is number {recorded.part}",
            file=sys.stderr,
        )
    _print_table(runs, recorded)
    if not recorded.as_recorded:
        print("edge-sir: the recorded policy did not take the recorded tokens; was it changed since?", file=sys.stderr)
    if args.plot is None:
        width = shutil.get_terminal_size((100, 24)).columns
        for r in runs:
            print()
            print("\n".join(_picture(r, max(20, min(100, width) - 18))))
        print(f"\n{_SHADES_MEAN}")
    return 0


# ---- table ---------------------------------------------------------------------------------------


def _document(r: Replayed, recorded: Replayed) -> dict[str, object]:
    resident = dict(r.resident)
    return {
        "policy": r.policy,
        "budget": r.budget,
        "evictions": r.evictions,
        "evicted": r.evicted,
        "recalled": r.recalled,
        "max_resident": r.max_resident,
        "mean_resident": r.mean_resident,
        "turns": sum(n > 0 for turn, n in r.turns.items() if turn),
        "turns_resident": len(resident.keys() - {0}),
        "turns_whole": sum(n >= r.turns[turn] for turn, n in resident.items() if turn),
        "resident": resident,
        "in_common": _in_common(r, recorded),
        "as_recorded": r.as_recorded,
        "refused": r.refused,
        "part": r.part,
        "parts": r.parts,
        "seconds": r.seconds,
    }


def _in_common(r: Replayed, recorded: Replayed) -> float:
    """Share of all tokens that either holds at the end that both hold, rounded down: 1 is said of all alone."""
    n_either = len(r.kept | recorded.kept)
    return 10_000 * len(r.kept & recorded.kept) // n_either / 10_000 if n_either else 1.0


def _print_table(runs: Sequence[Replayed], recorded: Replayed) -> None:
    head = ("POLICY", "CELLS", "MEAN USE", "EVICTIONS", "TOKENS EVICTED", "TURNS LEFT", "WHOLE", "LIKE THE RECORD")
    rows: list[tuple[str, ...]] = [head]
    for r in runs:
        d = _document(r, recorded)
        same = "exactly" if r.as_recorded else f"{math.floor(100 * _in_common(r, recorded))}% at the end"
        left = f"{d['turns_resident']} of {d['turns']}"
        cells = (r.policy, r.budget, f"{r.mean_resident:.0f}", r.evictions, r.evicted, left, d["turns_whole"], same)
        rows.append(tuple(map(str, cells)))
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    if recorded.recalled:
        print(f"recalled for one turn each, beside this: {recorded.recalled} tokens in all")
    for r in runs:
        if r.refused:
            print(f"{r.policy} stopped at turn {r.moments[-1].turn}: {r.refused}")
    print(_LEGEND)


# ---- pictures ------------------------------------------------------------------------------------


def _last_turn(r: Replayed) -> int:
    """Of which anything is left to be seen: an /undo takes a turn back."""
    return max((turn for turn, n in r.turns.items() if n), default=0)


def _columns(r: Replayed, n_most: int) -> list[Moment]:
    """At most so many moments, at equal distances; the last one is the end, of which the table speaks."""
    return r.moments[:: -math.ceil(len(r.moments) / n_most)][::-1]


def _grid(r: Replayed, n_lines: int, n_columns: int) -> list[list[float]]:
    """Share of the turns' tokens that is resident: a line per group of turns, a column per span of time."""
    last = _last_turn(r)
    per_line, moments, grid = math.ceil((last + 1) / n_lines), _columns(r, n_columns), []
    for first in range(0, last + 1, per_line):
        turns = range(first, min(first + per_line, last + 1))
        n_all = sum(r.turns.get(t, 0) for t in turns)
        grid.append([sum(m.resident.get(t, 0) for t in turns) / n_all if n_all else 0.0 for m in moments])
    return grid


def _picture(r: Replayed, n_columns: int) -> list[str]:
    """For a terminal: what each turn still had at each time; darker is more."""
    grid, moments = _grid(r, _N_LINES, n_columns), _columns(r, n_columns)
    n_turns, wide = _last_turn(r) + 1, max(1, min(_MOST_WIDENED, n_columns // len(r.moments)))
    per_line = math.ceil(n_turns / _N_LINES)
    lines = [f"{r.policy}, {r.budget} cells: what was left of each turn (down) as the conversation went on (right)"]
    for i, row in enumerate(grid):
        shades = "".join(_SHADES[_shade(x)] * wide for x in row)
        lines.append(f"{_turns(i * per_line, min((i + 1) * per_line, n_turns) - 1):>14} |{shades}|")
    return [*lines, f"{'in turn':>14}  {_axis(moments[0].turn, moments[-1].turn, wide * len(grid[0]))}"]


def _shade(share: float) -> int:
    """Blank is nothing and the darkest is all: neither is said of a rounded value."""
    last = len(_SHADES) - 1
    return 0 if share <= 0 else last if share >= 1 else max(1, min(last - 1, round(last * share)))


def _turns(first: int, last: int) -> str:
    return f"turn {first}" if first == last else f"turns {first}-{last}"


def _axis(first: int, last: int, width: int) -> str:
    """The turns at which the picture begins and ends, below its two sides."""
    if first == last:
        return str(first)
    return f"{first}{' ' * max(1, width - len(f'{first}{last}'))}{last}"


def _write_png(path: Path, runs: Sequence[Replayed]) -> None:
    try:
        import matplotlib
    except ImportError:
        raise ConfigError(
            "--plot needs matplotlib: `pip install 'edge-sir[plots]'` (a clone: scripts/setup plots); "
            "without it, omit --plot"
        ) from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(runs), 1, figsize=(9, 2.6 * len(runs)), squeeze=False, layout="constrained")
    for axis, r in zip(axes[:, 0], runs, strict=True):
        grid = _grid(r, 400, 800)
        extent = (0, r.moments[-1].turn, _last_turn(r) + 1, 0)
        axis.imshow(grid, aspect="auto", vmin=0, vmax=1, cmap="Blues", interpolation="nearest", extent=extent)
        axis.set(
            title=f"{r.policy}, {r.budget} cells: what was left of each turn, darker is more",
            xlabel="in turn",
            ylabel="turn",
        )
    try:
        figure.savefig(path.expanduser(), format="png", dpi=120)
    except (OSError, RuntimeError) as error:
        raise ConfigError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from None
    finally:
        pyplot.close(figure)
