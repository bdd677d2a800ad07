"""Many evaluations in one report: means over what can be measured, the rest named apart.

A task whose keep-all interval touches chance says nothing about forgetting and would only pull all means together.
Runs that were made for different ends (to choose on, to report) say so by the `group` in their run.json; no mean
goes across groups.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edge_sir.eval.report.comparisons import KEEP_ALL, ArmKey
from edge_sir.eval.report.markdown import NONE, cells, figure, policy, share, signed, span, spread, table
from edge_sir.eval.report.one_run import command, is_plain, made_with, run_table
from edge_sir.eval.report.stats import LEAST_CLUSTERS, bootstrap_mean, mean
from edge_sir.eval.report.summary import Entry, Summary

__all__ = ["folder_report", "label_runs"]

Run = tuple[Summary, Mapping[str, Any]]
_Labelled = dict[str, Summary]

_ALPHA = 0.05
_APART = ("model", "answer", "lead", "seed", "n_tokens", "positions", "data_sha256")

_LEGEND = (
    "Means count every measurable run{of_group} once; their 95 % intervals draw runs (a bootstrap), so they say how "
    f"much hangs on the choice of tasks; [–] where there are fewer than {LEAST_CLUSTERS} runs. A row over fewer runs "
    "than another is not to be compared with it. Gold log-probabilities are in nats. a:b counts the runs in which the "
    "row's policy is better (a) or worse (b) than the other one at the same budget by "
    f"McNemar's exact test, p < {_ALPHA}, not corrected for the number of tests."
)


def folder_report(runs: Sequence[Run]) -> str:
    """The report of several evaluations, (summary, run.json's mapping) each: a section per model and way to answer."""
    alike: dict[tuple[str, str], list[Run]] = {}
    for summary, run in runs:
        alike.setdefault((summary.model, summary.answer), []).append((summary, run))
    grouped = any(run.get("group") for _, run in runs)
    sections = ["# Overview"]
    for (model, answer), found in alike.items():
        labelled = label_runs(found)
        groups: dict[str, _Labelled] = {}
        for (label, summary), (_, run) in zip(labelled.items(), found, strict=True):
            groups.setdefault(run.get("group") or "", {})[label] = summary
        sections += [f"## {model}, answers by {answer}", *_section(labelled, groups, grouped=grouped)]
        sections += _made(labelled, found)
    return "\n\n".join(sections) + "\n"


def _made(labelled: _Labelled, runs: Sequence[Run]) -> list[str]:
    """How to make all of it again."""
    pairs = zip(labelled.items(), runs, strict=True)
    commands = [f"- {label}: `{command(summary, run)}`" for (label, summary), (_, run) in pairs]
    versions = dict.fromkeys(filter(None, (made_with(run) for _, run in runs)))
    return ["### How this was made", "\n".join([*commands, *(f"- with {version}" for version in versions)])]


def label_runs(runs: Sequence[Run]) -> _Labelled:
    """Each run's task, with what tells it from others of the same task."""
    labelled: _Labelled = {}
    for summary, run in runs:
        same = [other for found, other in runs if found.task == summary.task]
        differ = [key for key in _APART if len({repr(other.get(key)) for other in same}) > 1]
        parts = [_setting(key, run.get(key)) for key in differ]
        label = name = ", ".join([summary.task, *filter(None, parts)])
        n_same = 1
        while label in labelled:
            n_same += 1
            label = f"{name} ({n_same})"
        labelled[label] = summary
    return labelled


def _setting(key: str, value: Any) -> str:
    if key == "data_sha256":
        return "given data" if value else "own texts"
    return "" if value is None else f"{key.replace('n_', '')} {value}"


def _section(labelled: _Labelled, groups: Mapping[str, _Labelled], *, grouped: bool) -> list[str]:
    """Means, then retention run by run, then what could not be measured. grouped: whether runs without a group have
    no mean, since others have one."""
    plain = {label: summary for label, summary in labelled.items() if is_plain(summary)}
    last = sorted(groups.items(), key=lambda item: not item[0])  # those without a group
    measurable = {group: found for group, runs in last if (found := _measurable(runs))}
    parts = []
    for group, runs in measurable.items():
        if group or not grouped:
            parts += [f"### Means: {group}"] if group else []
            parts += [f"Measurable runs: {len(runs)} ({'; '.join(runs)}).", *_means(runs, of_group=bool(group))]
    if parts:
        parts.append(_LEGEND.format(of_group=" of a group" if grouped else ""))
    for group, runs in measurable.items():
        of_group = f": {group or 'runs that no mean counts'}" if grouped else ""
        for budget in sorted({entry.budget for s in runs.values() for entry in s.entries if entry.budget}):
            parts += [f"### Retention at {budget} cells{of_group}", _retention(runs, budget)]
    parts += _left_out(labelled)
    for label, summary in plain.items():
        parts += [f"### {label}", run_table(summary)]
    return parts


def _measurable(runs: _Labelled) -> _Labelled:
    return {label: summary for label, summary in runs.items() if summary.measurable}


def _left_out(labelled: _Labelled) -> list[str]:
    """What no mean counts, and why."""
    chance, unknown = [], []
    for label, summary in labelled.items():
        if summary.habitual:
            chance.append(f"- {label}: every policy gives the same answer all along")
        elif summary.measurable is False and summary.keep_all is not None:
            chance.append(f"- {label}: keep-all {share(summary.keep_all.accuracy)}, chance {summary.chance:.2g}")
        elif summary.keep_all is None and not is_plain(summary):
            unknown.append(f"- {label}: no keep-all arm")
    parts = []
    if chance:
        parts += ["### Not measurable with this model", "\n".join(chance)]
    if unknown:
        parts += ["### Not known to be measurable", "\n".join(unknown)]
    return parts


def _means(measurable: _Labelled, *, of_group: bool) -> list[str]:
    """The table; of a group without the arms that are in fewer than half of its runs, whose number is said."""
    head = ["policy", "cells", "runs", "mean accuracy", "mean retention", "least retention"]
    head += ["mean gold log-prob. − keep-all's", "vs sirllm", "vs streaming"]
    lines: list[list[str]] = []
    n_few = 0
    for arm in _arms(measurable):
        found = {label: e for label, s in measurable.items() for e in s.entries if (e.policy, e.budget) == arm}
        if of_group and 2 * len(found) < len(measurable):
            n_few += 1
            continue
        entries = list(found.values())
        lines.append(
            [
                policy(arm[0]),
                cells(arm[1]),
                f"{len(found)} of {len(measurable)}",
                _mean([e.accuracy.value for e in entries if e.accuracy is not None], "{:.2f}".format),
                _mean([r for e in entries if (r := e.retention) is not None and not e.is_keep_all], "{:.2f}".format),
                _least(found),
                _mean([e.versus[KEEP_ALL].gold_logprob for e in entries if KEEP_ALL in e.versus], signed),
                _won(entries, "sirllm"),
                _won(entries, "streaming"),
            ]
        )
    said = f"Left out, since in fewer than half of these runs: {n_few} {'arm' if n_few == 1 else 'arms'}."
    return [table(head, lines), *[said] * bool(n_few)]


def _arms(runs: _Labelled) -> list[ArmKey]:
    """All arms, by budget; within one in order of appearance."""
    found = dict.fromkeys((entry.policy, entry.budget) for summary in runs.values() for entry in summary.entries)
    return sorted(found, key=lambda arm: arm[1])


def _mean(values: Sequence[float], show: Callable[[float], str]) -> str:
    if not values:
        return NONE
    return spread(mean(values), bootstrap_mean(values, range(len(values))), show)


def _least(found: Mapping[str, Entry]) -> str:
    """The worst retention and where it is."""
    known = [(e.retention, label) for label, e in found.items() if e.retention is not None and not e.is_keep_all]
    if not known:
        return NONE
    value, label = min(known)
    return f"{value:.2f} ({label})"


def _won(entries: Sequence[Entry], name: str) -> str:
    """In how many runs it is clearly better, and clearly worse, than the policy `name`."""
    tests = [v for e in entries if (v := e.versus.get(name)) is not None and v.p is not None]
    if not tests:
        return NONE
    clear = [(v.n_only_arm or 0) - (v.n_only_reference or 0) for v in tests if v.p is not None and v.p < _ALPHA]
    better, worse = sum(d > 0 for d in clear), sum(d < 0 for d in clear)
    return f"{better}:{worse} of {len(tests)}"


def _retention(measurable: _Labelled, budget: int) -> str:
    """A row per run, a column per policy. n: the questions that both a policy and keep-all answered."""
    policies = [name for name, cells_ in _arms(measurable) if cells_ == budget]
    lines = []
    for label, summary in measurable.items():
        by_policy = {entry.policy: entry for entry in summary.entries if entry.budget == budget}
        if by_policy and summary.keep_all is not None:
            found = [by_policy[name].retention if name in by_policy else None for name in policies]
            n = span([e.versus[KEEP_ALL].n for e in by_policy.values() if KEEP_ALL in e.versus])
            lines.append([label, n, share(summary.keep_all.accuracy), *(figure(value, "{:.2f}") for value in found)])
    return table(["run", "n", "keep-all's accuracy", *map(policy, policies)], lines)
