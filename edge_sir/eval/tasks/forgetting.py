"""Tells a fact and asks for it after 5, 10, 20 and 40 rounds: retention against the number of rounds.

The same question is put each time as a probe, which leaves no trace, so that asking does not refresh what is asked.
This is the task that shows decay: a ratio below one makes an old fact fall behind however surprising it was.
"""

from dataclasses import replace

from edge_sir.eval.chatter import chatter
from edge_sir.eval.task import Dialogue, Setup, Step, Task
from edge_sir.eval.tasks._paper.topics import TOPICS, fact

ROUNDS = (5, 10, 20, 40)
"""Exchanges between the fact and the probe."""

_SHORT = 1200  # below so many tokens (`--quick`) the dialogue ends after the headline's 20 rounds


class Forgetting(Task):
    """A fact, then rounds of talk: is it still there after 5, 10, 20 and 40 of them? (accuracy: after 20)"""

    metrics = ("recall_20", "recall_5", "recall_10", "recall_40")

    def dialogue(self, setup: Setup, index: int) -> Dialogue:
        r = setup.rng(index)
        rounds = [n for n in ROUNDS if n <= 20 or setup.n_tokens >= _SHORT]
        lead = r.randint(3, 6) if setup.lead is None else setup.lead
        say, ask = fact(r, r.choice(TOPICS))
        talk = chatter(r, lead + rounds[-1], avoid=[option.strip() for option in ask.options])
        steps: list[Step] = [*talk[:lead], say]
        for n, after in enumerate(talk[lead:], start=1):
            steps.append(after)
            if n in rounds:
                steps.append(replace(ask, metric=f"recall_{n}"))
        return Dialogue(f"{setup.seed}-{index}", tuple(steps))
