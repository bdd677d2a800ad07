"""What a task is: dialogues with questions in them.

A task is one file in `edge_sir/eval/tasks`; the file's name is the task's name. It has one subclass of Task:

    # edge_sir/eval/tasks/colour.py
    from edge_sir.eval.chatter import chatter
    from edge_sir.eval.task import Ask, Dialogue, Say, Setup, Task


    class Colour(Task):
        '''Remembers the favourite colour.'''

        def dialogue(self, setup: Setup, index: int) -> Dialogue:
            r = setup.rng(index)
            colours = r.sample(["red", "green", "blue", "yellow"], 4)
            right, options = r.choice(colours), tuple(f" {c}" for c in colours)
            fact = Say(f"My favourite colour is {right}.", "Noted.", fact="colour", gold=(right,))
            stem = "Your favourite colour is"
            ask = Ask("What is my favourite colour?", stem, options, colours.index(right), fact="colour")
            talk, lead = chatter(r, 24, avoid=colours), 4 if setup.lead is None else setup.lead
            return Dialogue(f"{setup.seed}-{index}", (*talk[:lead], fact, *talk[lead:], ask))

Everything in a dialogue follows from the seed and the index, so that every policy gets the same words.
"""

import importlib
import inspect
import pkgutil
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from edge_sir.errors import ConfigError
from edge_sir.options import nearest

__all__ = [
    "Answer",
    "Ask",
    "Dialogue",
    "Read",
    "Say",
    "Setup",
    "Step",
    "Task",
    "counts_for",
    "is_valued",
    "names",
    "task",
    "with_metrics",
]

SYSTEM = "You are a helpful assistant with a good memory."

Answer = Literal["rank", "first-token"]


@dataclass(frozen=True, slots=True)
class Say:
    """One exchange, fed as it stands, a turn of its own.

    assistant: empty where nothing was replied. fact: the name of what it tells, if a question is about it. gold: the
    substrings of `user` and `assistant` that carry it (what "resident" is counted over), or, of one of both, the
    characters: ("user", first, end).
    """

    user: str
    assistant: str
    fact: str = ""
    gold: tuple[str | tuple[str, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Ask:
    """A question, a turn of its own, answered by logits.

    Ranking: the reply is begun with `stem`, and each option is valued by the log-probability of its tokens and of
    `close` after it. First-token: the options are listed with letters and the likeliest letter wins.
    A single option is no choice: it is valued as text, by the mean log-probability of its tokens.
    metric: what the answer counts for; "recall/names" counts for "recall", too. fact: the name of the exchange that the
    question is about; a tuple names several. reply: what stays in the conversation as the reply; "none" makes the
    question a probe that leaves no trace.
    """

    user: str
    stem: str
    options: tuple[str, ...]
    gold: int
    close: str = "."
    metric: str = "recall"
    fact: str | tuple[str, ...] = ""
    reply: Literal["none", "gold", "chosen"] = "none"

    @property
    def is_probe(self) -> bool:
        """Whether it leaves no trace."""
        return self.reply == "none"

    def kept(self, chosen: int) -> int:
        """The option that stays as the reply where `chosen` was the likeliest."""
        return chosen if self.reply == "chosen" else self.gold

    def said(self, option: int) -> str:
        """The reply with this option, as text."""
        return self.stem + self.options[option] + self.close

    @property
    def facts(self) -> tuple[str, ...]:
        """The names of the exchanges that it is about."""
        return (self.fact,) if isinstance(self.fact, str) else self.fact


@dataclass(frozen=True, slots=True)
class Read:
    """Plain text, one turn without markers, valued by the mean log-probability of its tokens."""

    text: str
    metric: str = "log_probability"


Step = Say | Ask | Read


@dataclass(frozen=True, slots=True)
class Dialogue:
    """What is said and asked, in order. `id` names it within its task, seed and data. system: None for plain text."""

    id: str
    steps: tuple[Step, ...]
    system: str | None = SYSTEM


@dataclass(frozen=True, slots=True)
class Setup:
    """What a task is asked for.

    lead: exchanges before the fact; None for the task's own choice. data: the file or folder of given data.
    n_tokens: about how long a generated dialogue is. count_tokens: of a text, under the model at hand.
    """

    count_tokens: Callable[[str], int]
    seed: int = 0
    lead: int | None = None
    data: Path | None = None
    n_tokens: int = 1200

    def rng(self, index: int) -> random.Random:
        """The dice of dialogue `index`."""
        return random.Random(f"{self.seed}/{index}")


class Task(ABC):
    """Base of all tasks; the first line of the docstring is its summary in `edge-sir eval list`."""

    metrics: ClassVar[tuple[str, ...]] = ("recall",)
    """What its questions count for; the first is the task's accuracy."""
    x_label: ClassVar[str] = ""
    """What the number in their names counts (recall_5, recall_10), as an axis says it; empty if they have none."""
    chance: ClassVar[float] = 0.25
    n_default: ClassVar[int] = 20
    n_tokens: ClassVar[int] = 1200
    """About how long a generated dialogue is; the paper's grocery dialogues have 1,224 tokens on average."""
    data_files: ClassVar[str] = ""
    """What `--data` must hold; empty if the task takes no data."""
    needs_data: ClassVar[bool] = False
    """Whether it has no dialogues of its own."""

    @classmethod
    def summary(cls) -> str:
        """The first line of the docstring."""
        return (cls.__doc__ or "").partition("\n")[0]

    @abstractmethod
    def dialogue(self, setup: Setup, index: int) -> Dialogue:
        """Dialogue number `index`; raises ConfigError if the data has no such dialogue."""

    def files(self, data: Path) -> tuple[Path, ...]:
        """The files that dialogues are read from if `data` is given; a task that takes data overrides this.

        Raises ConfigError if they are not there, or if the task takes no data.
        """
        name = type(self).__module__.rpartition(".")[2].replace("_", "-")
        takers = ", ".join(other for other in names() if task(other).data_files)
        raise ConfigError(f"{name} makes its own dialogues and takes no --data; these take some: {takers}")

    def n_usual(self, setup: Setup, offset: int) -> int:
        """How many dialogues are played from `offset` on unless a number is given."""
        return self.n_default

    def dialogues(self, setup: Setup, n: int, offset: int) -> Iterator[Dialogue]:
        """`n` of them from `offset` on. Tasks that count something else than dialogues (rounds) override this."""
        for index in range(offset, offset + n):
            yield self.dialogue(setup, index)

    def counted(self, ids: Collection[str]) -> Collection[str]:
        """Which of the dialogues in one folder a report counts: all, unless one can be a part of another."""
        return ids


def names() -> list[str]:
    """The names of all tasks, sorted."""
    from edge_sir.eval import tasks

    found = (m.name for m in pkgutil.iter_modules(tasks.__path__))
    return sorted(name.replace("_", "-") for name in found if not name.startswith("_"))


def task(name: str) -> Task:
    """The task called `name`; raises ConfigError naming the nearest one that exists."""
    if name not in names():
        hint = nearest(name, names()) or "; `edge-sir eval list` names them"
        raise ConfigError(f"unknown task '{name}'{hint}")
    module = importlib.import_module(f"edge_sir.eval.tasks.{name.replace('-', '_')}")
    classes = [v for v in vars(module).values() if isinstance(v, type) and v.__module__ == module.__name__]
    return next(cls for cls in classes if issubclass(cls, Task) and not inspect.isabstract(cls))()


def counts_for(metric: str, asked: str) -> bool:
    """Whether a question with this `metric` counts for the one `asked` for: "recall/names" does for "recall"."""
    return metric == asked or metric.startswith(f"{asked}/")


def is_valued(metric: str, metrics: Sequence[str]) -> bool:
    """Whether a question with this `metric` counts for one of `metrics`; for none are asked, all do."""
    return not metrics or any(counts_for(metric, asked) for asked in metrics)


def with_metrics(found: Mapping[str, Task], metrics: Sequence[str]) -> dict[str, Task]:
    """Of tasks by name those that have all `metrics`; raises ConfigError if none has."""
    chosen = {name: task for name, task in found.items() if all(is_valued(metric, task.metrics) for metric in metrics)}
    if not chosen:
        known = dict.fromkeys(metric for task in found.values() for metric in task.metrics)
        wanted = " and ".join(f"'{metric}'" for metric in metrics)
        who = "no task has" if len(found) > 1 else f"{next(iter(found))} has no"
        raise ConfigError(f"{who} metric {wanted}; there is {', '.join(known)}")
    return chosen
