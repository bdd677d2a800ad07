"""Summaries as Markdown: what was asked, what came out, how sure that is. No figure is typed by hand.

Rows are sorted by budget, so that neighbours are what can be compared; within one, policies keep their order.
"""

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from edge_sir.eval.play.controls import explicit
from edge_sir.eval.report import markdown as md
from edge_sir.eval.report.comparisons import KEEP_ALL, REFERENCES, Versus
from edge_sir.eval.report.markdown import cells, policy, share, spread, words
from edge_sir.eval.report.stats import LEAST_CLUSTERS
from edge_sir.eval.report.summary import Entry, Summary
from edge_sir.eval.task import Task, names, task

__all__ = ["command", "legend", "made_with", "run_report", "run_table", "setting", "verdict"]

_Columns = dict[str, Callable[[Entry], str]]

_ARM: _Columns = {"policy": lambda e: policy(e.policy), "cells": lambda e: cells(e.budget)}

_LEGEND_END = (
    "MB outside is what was kept of evicted cells outside the cache when a dialogue ended. "
    "s/turn counts the time for questions, too, and for each row the turns before its first eviction: they are played "
    "once for all rows, but each alone would need them. Rows that differ in recall alone share all but the questions, "
    "and the time of keeping what is evicted. "
)
_LEGEND = (
    "Intervals are 95 %: Wilson's for shares, a bootstrap over dialogues for means, paired differences and retention; "
    f"[–] where there are fewer than {LEAST_CLUSTERS} to draw from. One without width comes of values that are all "
    "equal and does not mean certainty. Retention is the accuracy over keep-all's, on the same questions. Gold "
    "log-probability is that of the right answer, in nats, the margin how much likelier it is than the best wrong one; "
    "resident is the tokens in the cache when the question was answered, gold resident the share of the fact's tokens "
    "that were among them. "
)
_LEGEND_FOUND = (
    "Found counts, of the questions of whose fact something was evicted, those for which a turn that holds it was "
    "recalled. "
)
_LEGEND_COMPARED = (
    "p is McNemar's, exact and two-sided, on the same questions; a:b counts those that only the row's policy (a) or "
    "only the other one (b) got right. "
)
_LEGEND_PLAIN = (
    "Intervals are 95 %, a bootstrap over runs of neighbouring pieces of text (over texts if there are several); "
    f"[–] where there are fewer than {LEAST_CLUSTERS} to draw from. "
    "A ratio above 1 means a higher perplexity than the reference's on the same pieces. "
)
_LEGEND_CLUSTERS = (
    " There are several questions per dialogue: Wilson's intervals and McNemar's p take them as independent and "
    "may promise too much, the bootstrap draws whole dialogues."
)


def run_report(
    summary: Summary,
    run: Mapping[str, Any],
    passes: Sequence[Mapping[str, Any]] = (),
    further: Sequence[Summary] = (),
) -> str:
    """The report of one evaluation.

    run: run.json's mapping. passes: what the store noted of each process's run. further: by the other metrics.
    """
    parts = [f"# {_heading(summary, run)}", setting(summary, run)]
    if (said := verdict(summary)) is not None:
        parts.append(said)
    parts.append(run_table(summary))
    if any(entry.versus for entry in summary.entries):
        parts += ["## Paired comparisons", _comparisons(summary)]
    if len(others := _others(summary)) > 2:  # the main table would become too wide
        parts += ["## Other metrics", _table(summary.entries, _ARM | others)]
    for other in further:
        parts += [f"## By {words(other.metric)}", *filter(None, [verdict(other)]), run_table(other)]
        parts += [_comparisons(other)] if any(entry.versus for entry in other.entries) else []
    parts.append(legend(summary))
    if run.get("scratch_cells") and not summary.is_plain:
        parts.append(f"Options were valued in {run['scratch_cells']} scratch cells beside those of the table.")
    if (speed := _speed(passes)) is not None:
        parts.append(speed)
    return "\n\n".join(parts) + "\n"


def run_table(summary: Summary) -> str:
    """The main table: one row per arm, with up to two further metrics."""
    columns = _ARM | {"resident": lambda e: f"{e.resident:.0f}", "n": lambda e: str(e.n)}
    if summary.is_plain:
        columns["perplexity"] = lambda e: spread(e.perplexity, md.four)
    else:
        columns[words(summary.metric)] = lambda e: share(e.accuracy)
        columns |= _others(summary) if len(_others(summary)) <= 2 else {}
        columns["retention"] = _retention
    columns["gold log-prob."] = lambda e: spread(e.gold_logprob)
    if any(e.margin is not None for e in summary.entries):
        columns["margin"] = lambda e: spread(e.margin)
    if any(e.gold_resident is not None for e in summary.entries):
        columns["gold resident"] = lambda e: md.figure(e.gold_resident)
    if any(e.found is not None for e in summary.entries):
        columns["found"] = lambda e: share(e.found)
    columns["MB outside"] = lambda e: f"{e.archive_bytes / 1e6:.2g}"
    columns |= {"tokens": lambda e: f"{e.tokens:.0f}", "s/turn": lambda e: f"{e.seconds_per_turn:.2g}"}
    if any(e.seconds_at_ends is not None for e in summary.entries):
        columns["s/turn, first and last tenth"] = _at_ends
    return _table(summary.entries, columns)


def _table(entries: Iterable[Entry], columns: _Columns) -> str:
    return md.grid(sorted(entries, key=lambda entry: entry.budget), columns)


def _retention(entry: Entry) -> str:
    if entry.is_keep_all and entry.retention is not None:
        return md.two(entry.retention.value)
    return spread(entry.retention, md.two)


def _at_ends(entry: Entry) -> str:
    return md.NONE if entry.seconds_at_ends is None else " → ".join(f"{s:.2g}" for s in entry.seconds_at_ends)


def _others(summary: Summary) -> _Columns:
    """The columns of further metrics."""
    names = dict.fromkeys(name for entry in summary.entries for name in entry.others)
    return {words(name): _other(name) for name in names}


def _other(name: str) -> Callable[[Entry], str]:
    return lambda entry: share(entry.others.get(name))


def setting(summary: Summary, run: Mapping[str, Any]) -> str:
    """What was asked, of which model, with what: the sentence every table must stand beside."""
    digest = f" (SHA-256 {str(run['model_sha256'])[:12]}...)" if run.get("model_sha256") else ""
    answer = {
        "rank": "the option with the highest log-probability wins",
        "first-token": "the letter with the highest log-probability wins",
    }.get(summary.answer, summary.answer)
    n = md.span([entry.n for entry in summary.entries])
    n_dialogues = md.span([entry.n_dialogues for entry in summary.entries])
    if summary.is_plain:
        asked = f"{n} pieces of text per row"
    else:
        asked = f"{n} questions in {n_dialogues} dialogues per row, {answer}, chance is {summary.chance:.2g}"
    lines = [f"Model {summary.model}{digest}; {asked}.", f"Command: `{command(summary, run)}`."]
    if made := made_with(run):
        lines.append(f"Made with {made}.")
    return "\n".join(lines)


def made_with(run: Mapping[str, Any]) -> str:
    """Versions and host, as far as run.json has them."""
    versions = run.get("versions") or {}
    made = [f"{name} {version}" for name, version in versions.items()]
    if run.get("host"):
        made.append(str(run["host"]))
    return ", ".join(made)


def command(summary: Summary, run: Mapping[str, Any]) -> str:
    """The command (of parts that lie apart, the commands) that makes these rows again.

    The place of the data is PATH: nobody else has it where we do.
    """
    words = ["edge-sir", "eval", summary.task, "--model", str(run.get("model_given", summary.model))]
    for entry_policy in dict.fromkeys(entry.policy for entry in summary.entries):
        words += ["--policy", shlex.quote(explicit(entry_policy))]
    for budget in sorted({entry.budget for entry in summary.entries if entry.budget}):
        words += ["--budget", str(budget)]
    for key, flag in (("seed", "--seed"), ("lead", "--lead"), ("n_tokens", "--tokens")):
        if run.get(key) is not None:
            words += [flag, str(run[key])]
    words += ["--answer", summary.answer]
    for metric in run.get("metrics") or ():
        words += ["--metric", str(metric)]
    if run.get("positions") not in (None, "auto"):
        words += ["--positions", str(run["positions"])]
    if run.get("data_sha256"):
        words += ["--data", "PATH"]
    parts = run.get("asked") or []
    if len(parts) < 2:
        offset, n = parts[0] if parts else (0, 0)
        parts = [(offset, n if summary.is_plain else max(n, _played(summary)))]
    return " && ".join(" ".join([*words, *_range(offset, n)]) for offset, n in parts)


def _range(offset: int, n: int) -> list[str]:
    return [*(["--n", str(n)] if n else []), *(["--offset", str(offset)] if offset else [])]


# ---- parts of it -------------------------------------------------------------------------------------


def _heading(summary: Summary, run: Mapping[str, Any]) -> str:
    lead = "" if run.get("lead") is None else f", {run['lead']} exchanges before the fact"
    return f"{summary.task} on {summary.model}{lead}"


def verdict(summary: Summary) -> str | None:
    """What must be said before the table: whether it means anything; None if nothing must."""
    keep_all = summary.keep_all
    if summary.habitual:
        return (
            "**Not measurable with this model:** under every policy its answer is nearly always the same option, "
            "whatever was said before, so the shares say how often that one happens to be right."
        )
    if summary.measurable is False and keep_all is not None:
        above = [e for e in summary.entries if e.accuracy is not None and e.accuracy.ci[0] > summary.chance]
        named = ", ".join(f"{policy(e.policy)} at {cells(e.budget)} cells" for e in above)
        return (
            f"**Not measurable with this model:** keep-all's {words(summary.metric)} of {share(keep_all.accuracy)} "
            f"touches chance ({summary.chance:.2g}), so retention says nothing here and no mean counts it."
            + (f" Above chance with their whole interval nevertheless: {named}." if above else "")
        )
    if keep_all is None:
        return "There is no keep-all arm, so neither retention nor whether the model can do this at all is known."
    return None


def _comparisons(summary: Summary) -> str:
    there = [name for name in REFERENCES if any(name in entry.versus for entry in summary.entries)]
    columns = dict(_ARM)
    if summary.is_plain:
        columns |= {f"perplexity over {name}'s": _against(name, _ratio) for name in there}
    else:
        metric = words(summary.metric)
        columns |= {f"{metric} − {name}'s": _against(name, _points) for name in there if name == KEEP_ALL}
        columns |= {f"gold log-prob. − {name}'s": _against(name, _gap) for name in there if name != "streaming"}
        columns |= {f"p vs {name}": _against(name, md.mcnemar) for name in there}
    return _table([entry for entry in summary.entries if entry.versus], columns)


def _against(name: str, show: Callable[[Versus], str]) -> Callable[[Entry], str]:
    def cell(entry: Entry) -> str:
        versus = entry.versus.get(name)
        if versus is None:
            return md.NONE
        # Fewer questions than the row's own must not go unsaid.
        return show(versus) + (f" (n = {versus.n})" if versus.n < entry.n else "")

    return cell


def _gap(versus: Versus) -> str:
    return spread(versus.gold_logprob, md.signed)


def _points(versus: Versus) -> str:
    return spread(versus.accuracy, md.signed)


def _ratio(versus: Versus) -> str:
    return spread(versus.perplexity_ratio, "{:.3f}".format)


def legend(summary: Summary, *, compared: bool = True) -> str:
    """What the columns of its tables mean. compared: those of paired comparisons, too."""
    if summary.is_plain:
        return _LEGEND_PLAIN + _LEGEND_END
    several = any(entry.n > entry.n_dialogues for entry in summary.entries)
    recalls = any(entry.found is not None for entry in summary.entries)
    parts = [_LEGEND, _LEGEND_FOUND * recalls, _LEGEND_COMPARED * compared, _LEGEND_END, _LEGEND_CLUSTERS * several]
    return "".join(parts)


def _speed(passes: Sequence[Mapping[str, Any]]) -> str | None:
    """How much of the time went into llama.cpp's decoding."""
    timed = [p for p in passes if p.get("seconds") and p.get("decode_s") is not None]
    if not timed:
        return None
    seconds, decode_s = sum(float(p["seconds"]) for p in timed), sum(float(p["decode_s"]) for p in timed)
    hosts = ", ".join(dict.fromkeys(str(p["host"]) for p in timed if p.get("host")))
    where = f" ({hosts})" if hosts else ""
    return f"Speed: {seconds / 60:.3g} minutes{where}, {decode_s / seconds:.0%} of them inside llama.cpp's decoding."


def _played(summary: Summary) -> int:
    """What --n counts: dialogues, or of a task that has its own way to make them (rps) the rounds in each."""
    in_rounds = summary.task in names() and type(task(summary.task)).dialogues is not Task.dialogues
    return max((e.n // e.n_dialogues if in_rounds else e.n_dialogues for e in summary.entries), default=0)
