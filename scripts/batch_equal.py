"""Are dialogues that are held together the same as one after another, and if not, where do they part?

    scripts/batch-equal --model smollm2-135m-instruct --dialogues 40 --parallel 16

Held together, llama.cpp sums the same numbers in another order, so rows of logits differ by rounding. A reply can only
change where two tokens, or two words that could be evicted, were nearly equal. For each dialogue that differs the first
difference is shown: of which kind it is, and how near the two were.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

import edge_sir
from edge_sir.batch.dialogue import Dialogue
from edge_sir.batch.request import BatchRequest
from edge_sir.core.plan import EvictionPlan
from edge_sir.session import Session

__all__ = ["Difference", "Event", "compare", "first_difference", "requests", "watched"]

_N_BEST = 64  # of each row so many logits are kept
_NAMES = ("Ada", "Bo", "Chen", "Dina", "Emil", "Fatou", "Goran", "Hana")
_PLACES = ("Oslo", "Lima", "Accra", "Kyoto", "Turin", "Bergen", "Quito", "Riga")
_THINGS = ("a copper lamp", "an old ferry", "seven crates", "a yellow boat", "two hares", "a violin", "a stone bridge")
_ASKED = (
    "What would you do with {thing} in {place}, and whom would you ask for help there?",
    "My uncle {name} says that the river rises in May; how can I keep {thing} dry until then?",
    "Tell me which street in {place} a visitor should see first, and why you would go there.",
    "Do you remember my name, where I live, and what I carry with me when I travel?",
)


@dataclass(frozen=True, slots=True)
class Event:
    """A token that was drawn or rows that were evicted. chosen: the token, or the born numbers. ids, values: the best
    tokens of the row and their logits, or the born numbers and what they were ranked by. cut: the least that stayed."""

    kind: str
    chosen: tuple[int, ...]
    ids: NDArray[np.int64]
    values: NDArray[np.float64]
    cut: float | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """Where two runs of a dialogue part. n_before: events that are equal. margin: between the two that were chosen in
    the first run, and noise: how far the two runs are apart in what they gave them; in nats, or of evictions as a share
    of the value at the cut. None where it is not known."""

    kind: str
    n_before: int
    margin: float | None
    noise: float | None


@dataclass(slots=True)
class Run:
    """What happened in each dialogue, and what was said, by custom_id."""

    events: dict[str, list[Event]] = field(default_factory=dict)
    replies: dict[str, tuple[str, ...]] = field(default_factory=dict)


def requests(n: int, n_turns: int, *, seed: int = 0, n_words: int = 0) -> list[BatchRequest]:
    """Dialogues that differ from the first word on. n_words: so many more in each turn."""
    random = np.random.default_rng(seed)
    out = []
    for i in range(n):
        said = []
        for turn in range(n_turns):
            terms = {"name": _pick(random, _NAMES), "place": _pick(random, _PLACES), "thing": _pick(random, _THINGS)}
            more = " ".join(str(random.choice(["lamp", "river", "boat", "crate", "mill"])) for _ in range(n_words))
            said.append(f"Letter {i}.{turn} from {terms['place']}. {_ASKED[turn % 4].format(**terms)} {more}".strip())
        out.append(BatchRequest(f"letter {i}", (), tuple(said)))
    return out


def _pick(random: np.random.Generator, words: Sequence[str]) -> str:
    return str(random.choice(words))


@contextmanager
def watched() -> Iterator[dict[str, list[Event]]]:
    """While it is open, every draw and every eviction of a batch's dialogues is noted, by custom_id."""
    events: dict[str, list[Event]] = {}
    of: dict[int, list[Event]] = {}
    real = Dialogue.__init__, Session.sample, Session.evict

    def begin(self: Dialogue, prepared: Any, chat: Any, *rest: Any) -> None:
        of[id(chat.session)] = events.setdefault(prepared.request.custom_id, [])
        real[0](self, prepared, chat, *rest)

    def sample(self: Session) -> int:
        row = self.last_logits
        best = np.argpartition(row, -_N_BEST)[-_N_BEST:]
        token = real[1](self)
        of[id(self)].append(Event("token", (token,), best.astype(np.int64), row[best].astype(np.float64)))
        return token

    def evict(self: Session, plan: EvictionPlan, stands: Any = None) -> None:
        born = (self.ledger if stands is None else stands)["born"][plan.rows].astype(np.int64)
        values = np.zeros(0) if plan.values is None else plan.values
        of[id(self)].append(Event("eviction", tuple(sorted(born.tolist())), born, values, plan.cut))
        real[2](self, plan, stands)

    Dialogue.__init__, Session.sample, Session.evict = begin, sample, evict  # type: ignore[method-assign,assignment]
    try:
        yield events
    finally:
        Dialogue.__init__, Session.sample, Session.evict = real  # type: ignore[method-assign]


def run(model: edge_sir.Model, asked: Sequence[BatchRequest], parallel: int, **options: Any) -> Run:
    """Holds them, `parallel` at a time. Raises RuntimeError if one has an error."""
    with watched() as events:
        results = list(model.batch(asked, parallel=parallel, **options))
    if failed := [one for one in results if one.error]:
        raise RuntimeError(f"{failed[0].custom_id}: {failed[0].error}")
    return Run(events, {one.custom_id: tuple(reply.text for reply in one.replies) for one in results})


def first_difference(one: Sequence[Event], other: Sequence[Event]) -> Difference | None:
    """None where all events are equal."""
    for i, (a, b) in enumerate(zip(one, other, strict=False)):
        if (a.kind, a.chosen) == (b.kind, b.chosen):
            continue
        if a.kind != b.kind:
            return Difference("order", i, None, None)
        return Difference(a.kind, i, *(_of_tokens(a, b) if a.kind == "token" else _of_evictions(a, b)))
    return None if len(one) == len(other) else Difference("length", min(len(one), len(other)), None, None)


def _of_tokens(a: Event, b: Event) -> tuple[float | None, float | None]:
    first, second = (dict(zip(e.ids.tolist(), e.values.tolist(), strict=True)) for e in (a, b))
    mine, theirs = a.chosen[0], b.chosen[0]
    if not all(token in row for token in (mine, theirs) for row in (first, second)):
        return None, None
    margin, later = first[mine] - first[theirs], second[mine] - second[theirs]
    return abs(margin), abs(margin - later)


def _of_evictions(a: Event, b: Event) -> tuple[float | None, float | None]:
    """How far from the cut the values lie that were evicted in one run alone: the farthest of them."""
    apart = []
    for mine, theirs in ((a, b), (b, a)):
        if len(mine.values) == 0 or mine.cut is None or not np.isfinite(mine.cut) or mine.cut == 0:
            continue
        alone = ~np.isin(mine.ids, theirs.ids)
        apart += (np.abs(mine.values[alone] - mine.cut) / abs(mine.cut)).tolist()
    both = np.intersect1d(a.ids, b.ids)
    noise = None
    if len(both) and len(a.values) and len(b.values):
        x, y = (e.values[np.argsort(e.ids)][np.isin(np.sort(e.ids), both)] for e in (a, b))
        known = np.isfinite(x) & np.isfinite(y) & (np.abs(x) > 0)
        noise = float(np.max(np.abs(x - y)[known] / np.abs(x)[known])) if known.any() else None
    return (max(apart) if apart else None), noise


def compare(one: Run, other: Run) -> tuple[int, Mapping[str, Difference]]:
    """How many dialogues have equal replies, and where each of the others first differs, by custom_id."""
    n_equal, apart = 0, {}
    for name, replies in one.replies.items():
        difference = first_difference(one.events[name], other.events[name])
        if replies == other.replies[name]:
            n_equal += 1
        elif difference is None:
            raise RuntimeError(f"{name}: the replies differ, but nothing that was drawn or evicted")
        else:
            apart[name] = difference
    return n_equal, apart


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints what was found; returns the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/batch-equal", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--dialogues", type=int, default=40)
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--parallel", type=int, default=16)
    parser.add_argument("--budget", type=int, default=256)
    parser.add_argument("--max-tokens", type=int, default=40)
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--recall", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args(arguments)
    terms = {"budget": args.budget, "max_tokens": args.max_tokens, "temperature": args.temperature}
    terms |= {"repeat_penalty": 1.0, "recall": args.recall}
    asked = requests(args.dialogues, args.turns, n_words=20)
    with edge_sir.load(args.model, threads=args.threads, quiet=True) as model:
        one, other = run(model, asked, 1, **terms), run(model, asked, args.parallel, **terms)
    n_equal, apart = compare(one, other)
    print(f"{args.model}: {len(asked)} dialogues of {args.turns} turns, temperature {args.temperature:g}, "
          f"budget {args.budget}, {args.parallel} at once")  # fmt: skip
    n_evicted = sum(len(e.chosen) for events in one.events.values() for e in events if e.kind == "eviction")
    print(f"evicted: {n_evicted} tokens, drawn: {_n_drawn(one)}")
    print(f"equal to one after another: {n_equal} of {len(asked)} ({n_equal / len(asked):.0%}); replies: "
          f"{_n_equal_replies(one, other)} of {args.turns * len(asked)}")  # fmt: skip
    for name, found in apart.items():
        print(f"{name}: {found.kind}, after {found.n_before} equal ones; margin {_short(found.margin)}, "
              f"noise {_short(found.noise)}")  # fmt: skip
    return 0


def _n_drawn(run: Run) -> int:
    return sum(event.kind == "token" for events in run.events.values() for event in events)


def _n_equal_replies(one: Run, other: Run) -> int:
    return sum(a == b for name in one.replies for a, b in zip(one.replies[name], other.replies[name], strict=True))


def _short(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2g}"


if __name__ == "__main__":
    sys.exit(main())
