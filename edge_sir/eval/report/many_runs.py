"""Many evaluations in one report: means over what can be measured, the rest named apart.

A task whose keep-all interval touches chance says nothing about forgetting and would only pull all means together.
Runs that were made for different ends (to choose on, to report) say so by the `group` in their run.json; no mean
goes across groups.
"""

from collections.abc import Callable, Mapping, Sequence

from edge_sir.eval.report.comparisons import KEEP_ALL, ArmKey
from edge_sir.eval.report.markdown import NONE, cells, figure, policy, share, signed, span, spread, table, two
from edge_sir.eval.report.one_run import command, made_with, run_table
from edge_sir.eval.report.runs import Run
from edge_sir.eval.report.stats import LEAST_CLUSTERS, estimate_mean
from edge_sir.eval.report.summary import Entry

__all__ = ["folder_report"]

_ALPHA = 0.05

_LEGEND = (
    "Means count every measurable run{of_group} once; their 95 % intervals draw runs (a bootstrap), so they say how "
    f"much hangs on the choice of tasks; [–] where there are fewer than {LEAST_CLUSTERS} runs. A row over fewer runs "
    "than another is not to be compared with it. Gold log-probabilities are in nats. a:b counts the runs in which the "
    "row's policy is better (a) or worse (b) than the other one at the same budget by "
    f"McNemar's exact test, p < {_ALPHA}, not corrected for the number of tests."
)


def folder_report(runs: Sequence[Run]) -> str:
    """The report of several evaluations: a section per model and way to answer."""
    alike: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        alike.setdefault((run.summary.model, run.summary.answer), []).append(run)
    grouped = any(run.group for run in runs)
    sections = ["# Overview"]
    for (model, answer), found in alike.items():
        sections += [f"## {model}, answers by {answer}", *_section(found, grouped=grouped)]
        commands = [f"- {run.name}: `{command(run.summary, run.config)}`" for run in found]
        versions = dict.fromkeys(filter(None, (made_with(run.config) for run in found)))
        sections += ["### How this was made", "\n".join([*commands, *(f"- with {version}" for version in versions)])]
    return "\n\n".join(sections) + "\n"


def _section(found: Sequence[Run], *, grouped: bool) -> list[str]:
    """Means, then retention run by run, then what could not be measured. grouped: whether runs without a group have
    no mean, since others have one."""
    measurable: dict[str, list[Run]] = {}
    for run in sorted(found, key=lambda run: not run.group):  # those without a group come last
        if run.summary.measurable:
            measurable.setdefault(run.group, []).append(run)
    parts = []
    for group, runs in measurable.items():
        if group or not grouped:
            names = "; ".join(run.name for run in runs)
            parts += [f"### Means: {group}"] if group else []
            parts += [f"Measurable runs: {len(runs)} ({names}).", *_means(runs, of_group=bool(group))]
    if parts:
        parts.append(_LEGEND.format(of_group=" of a group" if grouped else ""))
    for group, runs in measurable.items():
        of_group = f": {group or 'runs that no mean counts'}" if grouped else ""
        for budget in sorted({entry.budget for run in runs for entry in run.summary.entries if entry.budget}):
            parts += [f"### Retention at {budget} cells{of_group}", _retention(runs, budget)]
    parts += _left_out(found)
    for run in found:
        parts += [f"### {run.name}", run_table(run.summary)] if run.summary.is_plain else []
    return parts


def _left_out(runs: Sequence[Run]) -> list[str]:
    """What no mean counts, and why."""
    chance, unknown = [], []
    for name, summary in ((run.name, run.summary) for run in runs):
        if summary.habitual:
            chance.append(f"- {name}: every policy gives the same answer all along")
        elif summary.measurable is False and summary.keep_all is not None:
            chance.append(f"- {name}: keep-all {share(summary.keep_all.accuracy)}, chance {summary.chance:.2g}")
        elif summary.keep_all is None and not summary.is_plain:
            unknown.append(f"- {name}: no keep-all arm")
    parts = ["### Not measurable with this model", "\n".join(chance)] if chance else []
    return [*parts, *(["### Not known to be measurable", "\n".join(unknown)] if unknown else [])]


def _means(runs: Sequence[Run], *, of_group: bool) -> list[str]:
    """The table; of a group without the arms that are in fewer than half of its runs, whose number is said."""
    head = ["policy", "cells", "runs", "mean accuracy", "mean retention", "least retention"]
    head += ["mean gold log-prob. − keep-all's", "vs sirllm", "vs streaming"]
    found = {arm: {run.name: e for run in runs if (e := run.entry(*arm)) is not None} for arm in _arms(runs)}
    shown = {arm: of for arm, of in found.items() if not of_group or 2 * len(of) >= len(runs)}
    lines = []
    for (spec, budget), entries in shown.items():
        retentions = [(e.retention.value, name) for name, e in entries.items() if e.retention and not e.is_keep_all]
        gaps = [e.versus[KEEP_ALL].gold_logprob.value for e in entries.values() if KEEP_ALL in e.versus]
        lines.append(
            [
                policy(spec),
                cells(budget),
                f"{len(entries)} of {len(runs)}",
                _mean([e.accuracy.value for e in entries.values() if e.accuracy is not None], two),
                _mean([value for value, _ in retentions], two),
                "{:.2f} ({})".format(*min(retentions)) if retentions else NONE,
                _mean(gaps, signed),
                _won(entries, "sirllm"),
                _won(entries, "streaming"),
            ]
        )
    n_few = len(found) - len(shown)
    said = f"Left out, since in fewer than half of these runs: {n_few} {'arm' if n_few == 1 else 'arms'}."
    return [table(head, lines), *[said] * bool(n_few)]


def _arms(runs: Sequence[Run]) -> list[ArmKey]:
    """All arms, by budget; within one in order of appearance."""
    found = dict.fromkeys((entry.policy, entry.budget) for run in runs for entry in run.summary.entries)
    return sorted(found, key=lambda arm: arm[1])


def _mean(values: Sequence[float], show: Callable[[float], str]) -> str:
    return spread(estimate_mean(values, range(len(values))), show) if values else NONE


def _won(entries: Mapping[str, Entry], name: str) -> str:
    """In how many runs it is clearly better, and clearly worse, than the policy `name`."""
    tests = [v for e in entries.values() if (v := e.versus.get(name)) is not None and v.p is not None]
    clear = [(v.n_only_arm or 0) - (v.n_only_reference or 0) for v in tests if v.p is not None and v.p < _ALPHA]
    return f"{sum(d > 0 for d in clear)}:{sum(d < 0 for d in clear)} of {len(tests)}" if tests else NONE


def _retention(runs: Sequence[Run], budget: int) -> str:
    """A row per run, a column per policy. n: the questions that both a policy and keep-all answered."""
    policies = [spec for spec, n in _arms(runs) if n == budget]
    lines = []
    for run in runs:
        entries, keep_all = [run.entry(spec, budget) for spec in policies], run.summary.keep_all
        if any(entries) and keep_all is not None:
            n = span([e.versus[KEEP_ALL].n for e in entries if e and KEEP_ALL in e.versus])
            kept = [figure(e.retention.value if e and e.retention else None) for e in entries]
            lines.append([run.name, n, share(keep_all.accuracy), *kept])
    return table(["run", "n", "keep-all's accuracy", *map(policy, policies)], lines)
