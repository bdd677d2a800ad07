"""`edge-sir batch`: a file of dialogues becomes a file of results."""

import argparse
import contextlib
import itertools
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from edge_sir.batch.estimate import left_to_do, measure_speed, work_of
from edge_sir.batch.jobs import Summary, run_job
from edge_sir.batch.lines import count_lines, open_input
from edge_sir.batch.request import BatchRequest
from edge_sir.batch.result import BatchResult
from edge_sir.cli._counts import many
from edge_sir.cli._flags import add_flags, from_args
from edge_sir.cli._job_progress import JobProgress, duration, summary_lines
from edge_sir.cli._options import CliOptions
from edge_sir.errors import ConfigError
from edge_sir.models import find_model
from edge_sir.models.hub import parse
from edge_sir.runtime import load

__all__ = ["add_parser", "run"]

_OF_ONE_CHAT = {
    "session", "state_dir", "archive_on_disk", "read_only", "change_model", "resume_s", "trace", "stats", "commands",
    "json_output",
}  # fmt: skip
_N_MEASURED = 64


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the `batch` subcommand; its namespace carries `run`."""
    parser = subparsers.add_parser(
        "batch",
        help="hold many dialogues from a file",
        description="Reads requests as OpenAI's batch files have them, one JSON object a line, or whole dialogues "
        "(docs/batch.md), and adds each result to the output as soon as it is there. The same command goes on after "
        "any end. Options are for lines that give none of their own. Exit code: 0 all lines have a result, 2 some have "
        "an error that their maker can mend, 1 some have another error or none.",
        allow_abbrev=False,
    )
    parser.add_argument("input", type=Path, metavar="IN.jsonl", help="file with one request a line")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.jsonl", help="file for the results")
    parser.add_argument("--parallel", default="auto", metavar="N|auto",
                        help="dialogues held at once (default: auto, what is fastest here, measured)")  # fmt: skip
    parser.add_argument("--ordered", action="store_true", help="in the end the results get the order of the input")
    parser.add_argument("--limit", type=int, metavar="N", help="most dialogues of this run")
    parser.add_argument("--ray", nargs="?", const="", metavar="ADDRESS",
                        help="share the work among the machines of a Ray: HOST:PORT, auto for the one that runs here, "
                        "local for one of this machine alone; without ADDRESS as RAY_ADDRESS says, else local (needs "
                        "`pip install 'edge-sir[ray]'`)")  # fmt: skip
    parser.add_argument("--actors", type=int, metavar="N",
                        help="most models that are loaded on that Ray, each with --threads CPUs (default: as many as "
                        "there is room for)")  # fmt: skip
    parser.add_argument("--dry-run", action="store_true",
                        help="answer nothing; measure for 10 seconds and say how long it would take")  # fmt: skip
    add_flags(parser, without=_OF_ONE_CHAT)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Answers all lines; returns the exit code."""
    options = from_args(args).options
    parallel = _checked(args)
    logging.getLogger("edge_sir").setLevel(logging.ERROR if options.quiet else logging.WARNING)
    if not options.quiet:
        logging.getLogger("edge_sir.batch").setLevel(logging.INFO)  # what --parallel auto chose
    open_input(args.input).close()  # before a model is loaded
    if args.dry_run:
        _estimate(args, options, parallel)
        return 0

    def mapper(requests: Iterator[BatchRequest]) -> Iterator[BatchResult]:
        first = next(requests, None)
        if first is None:  # no model is needed
            return
        requests = itertools.chain([first], requests)
        if args.ray is not None:
            yield from _over_ray(args, options, parallel, requests)
        else:
            with load(**options.for_loading(_OF_ONE_CHAT)) as model:
                yield from model.batch(requests, parallel=parallel)

    progress = JobProgress(None if options.quiet else _n_lines(args), quiet=options.quiet)
    try:
        summary = run_job(
            args.input,
            args.output,
            mapper,
            model=_name(options.model),
            ordered=args.ordered,
            limit=args.limit,
            watch=progress.show,
        )
    except (KeyboardInterrupt, SystemExit):
        progress.close()
        print(f"edge-sir: {progress.last.n_done} lines are done; the same command goes on", file=sys.stderr)
        raise
    finally:
        progress.close()
    if not options.quiet:
        print(*summary_lines(summary, str(args.output)), sep="\n")
    return _exit_code(summary)


def _over_ray(
    args: argparse.Namespace, options: CliOptions, parallel: int | Literal["auto"], requests: Iterator[BatchRequest]
) -> Iterator[BatchResult]:
    from edge_sir.ray.cluster import connected
    from edge_sir.ray.mapper import RayMapper

    chosen = options.for_loading(_OF_ONE_CHAT) | {"quiet": True}
    found = find_model(options.model) if parse(options.model) is None else None
    if isinstance(found, Path):  # the others may be in other folders
        chosen["model"] = str(found.absolute())
    if options.chat_template is not None:
        chosen["chat_template"] = options.chat_template.expanduser().absolute()
    model = chosen.get("model", options.model)
    with (
        contextlib.redirect_stdout(sys.stderr),  # Ray says on standard output which of its processes died
        connected(args.ray, threads=options.threads, n_actors=args.actors, model=model) as pool,
    ):
        if not options.quiet:
            actors, cpus = many(pool.n_actors, "actor"), many(pool.n_cpus, "CPU")
            print(f"Ray: {actors} with {cpus} each on {many(pool.n_machines, 'machine')}", file=sys.stderr)
        yield from RayMapper(pool, chosen, parallel)(requests)


def _checked(args: argparse.Namespace) -> int | Literal["auto"]:
    if args.limit is not None and args.limit < 1:
        raise ConfigError(f"--limit must be at least 1, not {args.limit}")
    if args.actors is not None and args.actors < 1:
        raise ConfigError(f"--actors must be at least 1, not {args.actors}")
    if args.actors is not None and args.ray is None:
        raise ConfigError("--actors is for --ray; give both, or --parallel for the dialogues held at once")
    if args.dry_run and args.ray is not None:
        raise ConfigError("--dry-run measures this machine alone; leave out --ray, and divide by the number of actors")
    if args.parallel == "auto":
        return "auto"
    if not args.parallel.isdecimal() or int(args.parallel) < 1:
        raise ConfigError(f"--parallel must be auto or a number of dialogues from 1 on, not '{args.parallel}'")
    return int(args.parallel)


def _n_lines(args: argparse.Namespace) -> int | None:
    """Lines that this run is going to have seen; unknown with a limit, where results are there already."""
    return count_lines(args.input) if args.limit is None else None


def _name(model: str) -> str:
    """What results call the model: no folder of this machine."""
    return model if model.startswith("hf:") else Path(model).name


def _exit_code(summary: Summary) -> int:
    mendable = {"invalid_json_line", "invalid_request_error", "duplicate_custom_id"}
    if summary.n_missing or summary.errors.keys() - mendable:
        return 1
    return 2 if summary.errors else 0


def _estimate(args: argparse.Namespace, options: CliOptions, parallel: int | Literal["auto"]) -> None:
    left = left_to_do(args.input, args.output)
    sample = list(itertools.islice(left, _N_MEASURED))
    if not sample:
        print("nothing is left to do")
        return
    work = work_of(itertools.islice(itertools.chain(sample, left), args.limit), options.max_tokens)
    with load(**options.for_loading(_OF_ONE_CHAT)) as model:
        speed = measure_speed(
            lambda requests: model.batch(requests, parallel=parallel), sample, max_tokens=options.max_tokens
        )
    seconds, most = speed.seconds(work)
    print(f"{many(work.n_dialogues, 'dialogue')} with {work.n_replies} replies are left to do")
    print(f"measured: {speed.read_per_s:.0f} tokens/s read, {speed.written_per_s:.0f} written, "
          f"{speed.per_reply:.0f} tokens a reply")  # fmt: skip
    print(f"about {duration(seconds)}; {duration(most)} if each reply takes its --max-tokens")
