"""`edge-sir eval`: does it remember, at this budget, with this model?"""

import argparse
import json
import math
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from edge_sir.cli._options import CliOptions
from edge_sir.errors import ConfigError
from edge_sir.eval import task as tasks
from edge_sir.eval.report.stats import require_scipy
from edge_sir.options import gather

if TYPE_CHECKING:
    from edge_sir.eval.play.arms import Arm
    from edge_sir.eval.play.contexts import Contexts
    from edge_sir.eval.play.evaluate import Result

__all__ = ["add_parser", "run"]

_POLICIES = ("keep-all", "sir", "sirllm", "streaming")
_BUDGET = 256
_QUICK_TOKENS, _QUICK_BUDGET, _QUICK_N = 260, 128, 1
_QUICK_POLICIES = ("keep-all", "sir", "streaming")


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the `eval` subcommand; its namespace carries `run`."""
    parser = subparsers.add_parser(
        "eval",
        help="measure what is remembered",
        description="Plays dialogues with questions in them under several policies and budgets. `edge-sir eval list` "
        "shows the tasks, `edge-sir eval all` plays every one, `edge-sir eval report DIR` makes tables and plots of "
        "what --out kept.",
        allow_abbrev=False,
    )
    parser.add_argument("task", metavar="TASK", help="a task, or: all, list, report")
    parser.add_argument("folder", metavar="DIR", nargs="?", help="for `report`: a folder made by --out")
    parser.add_argument("--policy", action="append", metavar="SPEC", help="a policy, or keep-gold, drop-gold, "
                        "few-shot:rounds=N, retrieval; may be repeated (default: "
                        f"{', '.join(_POLICIES)})")  # fmt: skip
    parser.add_argument("--recall", action="append", metavar="auto|off|text|cells|dense|last|oracle",
                        help="how evicted turns come back, as in `edge-sir chat` (where no question leaves a trace: "
                        "for questions alone); dense: with --recall-index dense; last: cells right before the "
                        "question; oracle: those of the right turn; may be repeated (default: auto)")  # fmt: skip
    parser.add_argument("--budget", action="append", type=int, metavar="N",
                        help=f"cells; may be repeated (default: {_BUDGET})")  # fmt: skip
    parser.add_argument("--model", metavar="TEXT", help="model name or GGUF file")
    parser.add_argument("--n", type=int, metavar="N", help="dialogues (rps: rounds, perplexity: thousands of "
                        "tokens); default: the task's own")  # fmt: skip
    parser.add_argument("--offset", type=int, default=0, metavar="K", help="dialogues to skip (default: 0)")
    parser.add_argument("--lead", type=int, metavar="L", help="exchanges before the fact (default: the task's own)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of generated dialogues (default: 0)")
    parser.add_argument(
        "--tokens",
        type=int,
        metavar="N",
        help="about how long a generated dialogue is (default: the task's)",
    )
    parser.add_argument("--answer", metavar="rank|first-token", default="rank",
                        help="rank whole options, or the letters of listed ones by their first token")  # fmt: skip
    parser.add_argument("--positions", metavar="packed|gaps|auto", default="auto", help="as in `edge-sir chat`")
    parser.add_argument("--metric", action="append", metavar="M", help="value these questions alone; may be repeated")
    parser.add_argument("--data", type=Path, metavar="PATH", help="the task's data; without, it generates its own")
    parser.add_argument("--out", type=Path, metavar="DIR", help="keep rows here; a killed run goes on from them")
    parser.add_argument("--prune", action="store_true", help="first take rows out of --out that this command would not "
                        "give: of other arms or dialogues, of an older policy or wording")  # fmt: skip
    parser.add_argument("--minutes", type=float, default=math.inf, metavar="N",
                        help="begin no dialogue after so long; the same command with --out goes on")  # fmt: skip
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: chosen)")
    parser.add_argument("--quick", action="store_true", help="few short dialogues (by default one each, of "
                        f"{_QUICK_TOKENS} tokens, {', '.join(_QUICK_POLICIES)} at {_QUICK_BUDGET} cells)")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Plays, lists or reports. Raises UserError for what the caller can mend."""
    if args.folder is not None and args.task != "report":
        raise ConfigError(f"'{args.folder}' is one argument too many; a folder for rows is given with --out")
    if args.task == "list":
        return _list(args)
    if args.task == "report":
        return _report(args)
    _check(args)
    found = _tasks(args)
    documents = _play(args, tasks.with_metrics(found, args.metric or ()))
    if args.json:
        print(json.dumps(documents[0] if args.task != "all" else {"tasks": documents}))
    return 0


def _tasks(args: argparse.Namespace) -> dict[str, tasks.Task]:
    """What is to be played, by name; its data is looked at before a model is loaded."""
    if args.task == "all":
        if args.data is not None:
            raise ConfigError("`eval all` runs on generated dialogues; leave --data out, or name one task")
        return {name: task for name in tasks.names() if not (task := tasks.task(name)).needs_data}
    task = tasks.task(args.task)
    if args.data is not None:
        task.files(args.data)
    elif task.needs_data:
        raise ConfigError(f"{args.task} plays dialogues of your own: give {task.data_files} with --data")
    return {args.task: task}


def _check(args: argparse.Namespace) -> None:
    require_scipy()
    if args.answer not in ("rank", "first-token"):
        raise ConfigError(f"--answer must be rank or first-token, not '{args.answer}'")
    if args.positions not in ("packed", "gaps", "auto"):
        raise ConfigError(f"--positions must be packed, gaps or auto, not '{args.positions}'")
    for name, least in (("n", 1), ("offset", 0), ("lead", 0), ("tokens", 64)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise ConfigError(f"--{name} must be at least {least}, not {value}")
    for budget in args.budget or ():
        if budget < 1:
            raise ConfigError(f"--budget must be at least 1, not {budget}; without a limit it is --policy keep-all")
    if args.prune and args.out is None:
        raise ConfigError("--prune takes rows out of a folder; name it with --out")
    if args.data is not None and not args.data.exists():
        raise ConfigError(f"there is no {args.data}; --data names a file or folder that is there")


def _play(args: argparse.Namespace, chosen: Mapping[str, tasks.Task]) -> list[dict[str, Any]]:
    """Plays the tasks one after the other, prints each one's table, and returns their JSON documents."""
    from edge_sir.eval.play.arms import arms_of
    from edge_sir.eval.play.contexts import open_contexts
    from edge_sir.eval.play.controls import with_recall
    from edge_sir.eval.report.markdown import words
    from edge_sir.eval.report.one_run import legend, run_table, verdict
    from edge_sir.eval.report.summary import summarize, to_json

    given = {key: value for key in ("model", "threads") if (value := getattr(args, key)) is not None}
    options = gather(CliOptions, given).options
    specs = [
        with_recall(spec, how)
        for spec in args.policy or (_QUICK_POLICIES if args.quick else _POLICIES)
        for how in args.recall or ["auto"]
    ]
    arms = arms_of(specs, args.budget or [_QUICK_BUDGET if args.quick else _BUDGET])
    contexts = open_contexts(options.model, threads=options.threads, quiet=args.quiet or args.json)
    deadline, documents = time.monotonic() + 60 * args.minutes, []
    try:
        for name, task in chosen.items():
            result = _play_one(args, name, task, contexts, arms, deadline)
            missing = [arm.spec for arm in arms if arm.spec not in {row.policy for row in result.rows}]
            if time.monotonic() > deadline:
                print(f"edge-sir: {name}: the time is up; the same command goes on from --out", file=sys.stderr)
            else:
                _say_missing(name, contexts.name, missing, nothing=not result.rows and args.task != "all")
            summary, *further = summarize(
                result.rows,
                task=name,
                model=contexts.name,
                answer=args.answer,
                metrics=task.metrics,
                chance=task.chance,
            )
            documents.append(to_json(summary, further, result.config["scratch_cells"]))
            if not args.json:
                texts = [other for other in further if other.is_plain and not summary.is_plain]
                tables = [f"By {words(other.metric)}:\n\n{run_table(other)}" for other in texts]
                print(*filter(None, [verdict(summary), run_table(summary)]), *tables, sep="\n\n", flush=True)
        if not args.json:
            print("", textwrap.fill(legend(summary, compared=False), 100), sep="\n")
    finally:
        contexts.close()
    return documents


def _say_missing(name: str, model: str, missing: "Sequence[str]", *, nothing: bool) -> None:
    """Says which arms gave no answers, and why. nothing: none did, of the one task: ConfigError where none can."""
    from edge_sir.eval.play.controls import FewShot, Retrieval, arm_policy

    asked = [spec for spec in missing if isinstance(arm_policy(spec), FewShot | Retrieval)]
    if asked and nothing:
        raise ConfigError(f"{name} is plain text and asks nothing of {', '.join(asked)}; give another --policy")
    if asked:
        print(f"edge-sir: {name} is plain text and asks nothing of {', '.join(asked)}", file=sys.stderr)
    if others := [spec for spec in missing if spec not in asked]:
        print(f"edge-sir: {name}: no context of {model} holds a dialogue whole: {', '.join(others)}", file=sys.stderr)


def _play_one(
    args: argparse.Namespace,
    name: str,
    task: tasks.Task,
    contexts: "Contexts",
    arms: "Sequence[Arm]",
    deadline: float,
) -> "Result":
    from edge_sir.eval.play.evaluate import Request, drop_stale, evaluate

    out = args.out / name if args.out is not None and args.task == "all" else args.out
    request = Request(
        name,
        n=args.n or (min(_QUICK_N, task.n_default) if args.quick else None),
        offset=args.offset,
        seed=args.seed,
        lead=args.lead,
        n_tokens=args.tokens or (_QUICK_TOKENS if args.quick else None),
        answer=args.answer,
        metrics=tuple(args.metric or ()),
        positions=args.positions,
        data=args.data,
        out=out,
    )
    if args.prune and (n := drop_stale(contexts, arms, request)):
        print(f"edge-sir: {name}: {n} rows of other arms or dialogues were taken out", file=sys.stderr)
    with tqdm(desc=name, unit="run", disable=args.quiet or None, file=sys.stderr) as bar:

        def advance(rows: object) -> None:
            bar.update(1)

        return evaluate(contexts, arms, request, deadline=deadline, on_start=bar.reset, on_rows=advance)


def _report(args: argparse.Namespace) -> int:
    """Tables and plots of what --out kept."""
    from edge_sir.eval.report.folder import load_all, report_folder
    from edge_sir.eval.report.summary import to_json

    if args.folder is None:
        raise ConfigError("`eval report` needs the folder that --out made: edge-sir eval report DIR")
    folder = Path(args.folder)
    if not args.json:
        print(report_folder(folder))
        return 0
    loaded = load_all(folder)
    documents = [to_json(x.summaries[0], x.summaries[1:], x.run.get("scratch_cells")) for x in loaded.values()]
    print(json.dumps(documents[0] if folder in loaded else {"tasks": documents}))
    return 0


def _list(args: argparse.Namespace) -> int:
    """What there is to play."""
    found = [(name, tasks.task(name)) for name in tasks.names()]
    if args.json:
        keys = [
            {"task": name, "summary": task.summary(), "metrics": task.metrics, "chance": task.chance,
             "data": task.data_files}
            for name, task in found
        ]  # fmt: skip
        print(json.dumps(keys, indent=2))
        return 0
    width = max(len(name) for name, _ in found)
    for name, task in found:
        data = f" --data {task.data_files}" if task.needs_data else f" [--data {task.data_files}]"
        print(f"{name:{width}}  {task.summary()}{data if task.data_files else ''}")
    return 0
