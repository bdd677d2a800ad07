"""Tells a fact and asks for it after 5, 10, 20 and 40 rounds: retention against the number of rounds.

The same question is put each time as a probe, which leaves no trace, so that asking does not refresh what is asked.
This is the task that shows decay: a ratio below one makes an old fact fall behind however surprising it was.
The rounds are short ones, so that what counts is their number: a small model loses a fact in long talk by itself.
"""

from collections.abc import Sequence
from dataclasses import replace

from edge_sir.eval.chatter import chatter, length
from edge_sir.eval.task import Dialogue, Say, Setup, Step, Task
from edge_sir.eval.tasks._paper.topics import TOPICS, fact

__all__ = ["Forgetting"]

ROUNDS = (5, 10, 20, 40)
"""Exchanges between the fact and the probe."""

SHORT = 36
"""Tokens of a round at most, markers included, about."""

_QUICK = 1200  # below so many tokens (`--quick`) the dialogue ends after the headline's 20 rounds


class Forgetting(Task):
    """A fact, then rounds of talk: is it still there after 5, 10, 20 and 40 of them? (accuracy: after 20)"""

    metrics = ("recall_20", "recall_5", "recall_10", "recall_40")
    x_label = "rounds since the fact"

    def dialogue(self, setup: Setup, index: int) -> Dialogue:
        r = setup.rng(index)
        rounds = [n for n in ROUNDS if n <= 20 or setup.n_tokens >= _QUICK]
        lead = r.randint(3, 6) if setup.lead is None else setup.lead
        say, ask = fact(r, r.choice(TOPICS))
        talk = _short(chatter(r, 3 * (lead + rounds[-1]), avoid=ask.options), setup)
        steps: list[Step] = [*talk[:lead], say]
        for n, after in enumerate(talk[lead : lead + rounds[-1]], start=1):
            steps.append(after)
            if n in rounds:
                steps.append(replace(ask, metric=f"recall_{n}"))
        return Dialogue(f"{setup.seed}-{index}", tuple(steps))


def _short(talk: Sequence[Say], setup: Setup) -> list[Say]:
    """The talk with its longer exchanges at the end, where they are not needed."""
    return sorted(talk, key=lambda say: length(say, setup.count_tokens) > SHORT)
