"""Picks the next line of everyday dialogues among four; three come from other dialogues.

The paper's protocol: a state per dialogue, and of the paper's file the first 2,000 questions. What was right is what
stays in the conversation. Ranking does not list the options, so the dialogue reads as it was held and is a third as
long as in the paper; `--answer first-token` lists them as there.
"""

import random
from functools import lru_cache
from itertools import groupby
from pathlib import Path

from edge_sir.errors import ConfigError
from edge_sir.eval.task import Ask, Dialogue, Setup, Task
from edge_sir.eval.tasks._paper.dialogues import DIALOGUES
from edge_sir.eval.tasks._paper.files import Item, check_range, find, item, read_jsonl

__all__ = ["DailyDialog"]

FILE = "dailydialog.jsonl"
N_QUESTIONS = 2_000
"""Rows of the file that count, as in the paper."""


class DailyDialog(Task):
    """Picks the next line of an everyday dialogue among four."""

    metrics = ("accuracy",)
    data_files = FILE

    def files(self, data: Path) -> tuple[Path, ...]:
        return (find(data, FILE),)

    def dialogue(self, setup: Setup, index: int) -> Dialogue:
        if setup.data is None:
            return Dialogue(f"{setup.seed}-{index}", tuple(map(_ask, _own(setup, index))))
        held = _read(find(setup.data, FILE))
        check_range(len(held), index, index + 1, "dialogues")
        return Dialogue(held[index][0].id.split("_")[0], tuple(map(_ask, held[index])))


def _ask(line: Item) -> Ask:
    """Quoted, so that a short option is not likelier only because a longer one may begin like it."""
    return Ask(line.stem, '"', line.options, line.gold, close='"', metric="accuracy", reply="gold")


def _own(setup: Setup, index: int) -> list[Item]:
    """Dialogue `index` of our own, which come in drawn order and, with other wrong options, again and again."""
    r = setup.rng(index)
    rounds, place = divmod(index, len(DIALOGUES))
    number = random.Random(f"{setup.seed}/{rounds}").sample(range(len(DIALOGUES)), len(DIALOGUES))[place]
    others = [answer for i, told in enumerate(DIALOGUES) if i != number for _, answer in told]
    return [_item(r, said, answer, others) for said, answer in DIALOGUES[number]]


def _item(r: random.Random, said: str, answer: str, others: list[str]) -> Item:
    """The wrong options are near the right one in length, so that length does not tell them apart."""
    near = sorted(r.sample(others, 24), key=lambda other: abs(len(other) - len(answer)))
    options = r.sample([answer, *near[:3]], 4)
    return Item("", said, tuple(options), options.index(answer))


@lru_cache(maxsize=2)
def _read(path: Path) -> tuple[tuple[Item, ...], ...]:
    """The rows that count, by dialogue: an id is `<dialogue>_<turn>`. Raises ConfigError if it is not so."""
    rows = read_jsonl(path, item)[:N_QUESTIONS]
    if not all(row.id.partition("_")[2].isdigit() and len(row.options) == 4 for row in rows):
        raise ConfigError(f"{path} has no rows with ids <dialogue>_<turn>: give the paper's {FILE} with --data")
    return tuple(tuple(group) for _, group in groupby(rows, key=lambda row: row.id.split("_")[0]))
