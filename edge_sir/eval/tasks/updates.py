"""Four things that change again and again, and the latest value of one is asked for.

After PI-LLM (arXiv 2506.08184): what was told before interferes with what comes later, the more often the more. The
asked one is overwritten 1, 2, 4, 8, 16 or 32 times, by the dialogue's number. All dialogues tell equally often that
something changed, if there is room, and after the latest value come three to five changes of others.
"""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

from edge_sir.eval.task import Dialogue, Say, Setup, Task
from edge_sir.eval.tasks._fact import FactsAndQuestion, around, ask, tell
from edge_sir.eval.tasks._updated import KEYS, Key

__all__ = ["TIMES", "Updates"]

TIMES = (16, 1, 2, 4, 8, 32)
"""How often the asked value is overwritten: dialogue 0 has the first, dialogue 1 the second, and so on round."""

_N_KEYS = 4
_MOST = 40  # exchanges that tell a value, if there is room
_TOKENS = 50  # of a dialogue for each of them
_LEAST_OTHERS = 6  # of other keys: each has two values


class Updates(Task):
    """The latest of several values, overwritten 1 to 32 times, among things that change as well (accuracy: 16 times)"""

    metrics = tuple(f"recall_{n}" for n in TIMES)
    x_label = "times overwritten"
    n_default = 24
    n_tokens = 2000

    def dialogue(self, setup: Setup, index: int) -> Dialogue:
        r = setup.rng(index)
        n = TIMES[index % len(TIMES)]
        asked, *others = r.sample(KEYS, _N_KEYS)
        drawn = r.sample(asked.values, n + 3)
        values, never = drawn[: n + 1], drawn[n + 1 :]
        right, wrong = values[-1], _wrong(r, values, never)
        n_others = max(min(_MOST, setup.n_tokens // _TOKENS) - len(values), _LEAST_OTHERS)
        facts = _tellings(r, asked, values, list(itertools.islice(itertools.cycle(others), n_others)))
        # Told by the latest value alone: the earlier ones are wrong by now.
        before, _, after = asked.then.partition("{}")
        stem = f'The last thing you said about it was: "{before.rstrip()}'
        question = ask(r, asked.question, stem, right, wrong, close=after, metric=f"recall_{n}")
        return around(setup, r, index, FactsAndQuestion(tuple(facts), question, (right, *wrong)))


def _wrong(r: random.Random, values: Sequence[str], never: Sequence[str]) -> list[str]:
    """The value before the latest, the first and one between, as far as there are so many; then some never told."""
    told = dict.fromkeys((values[-2], values[0]))
    between = values[1:-2]
    return [*told, *([r.choice(between)] if between else []), *never][:3]


def _tellings(r: random.Random, asked: Key, values: Sequence[str], others: list[Key]) -> Iterator[Say]:
    """All changes in the order told; the latest value of the asked key is a fact."""
    r.shuffle(others)
    n_after = r.randint(3, 5)
    keys = [*[asked] * (len(values) - 1), *others[n_after:]]
    r.shuffle(keys)
    left = {key: list(r.sample(key.values, others.count(key))) for key in dict.fromkeys(others)} | {asked: list(values)}
    changed: set[Key] = set()
    for key in (*keys, asked, *others[:n_after]):
        value = left[key].pop(0)
        said = tell(r, (key.then if key in changed else key.first).format(value), [value])
        changed.add(key)
        yield said if key is asked and not left[key] else replace(said, fact="", gold=())
