"""Remembers the grocery it was asked to buy, while it answers common-sense questions.

The paper's protocol: the grocery is named, twenty multiple-choice questions follow, and the last question asks which
grocery it was. Each question's right answer is what stays in the conversation, so that all arms hold the same words.
`--lead` puts varied talk before the grocery, which keeps it from being found by its place at the beginning.
"""

import random
from functools import lru_cache
from pathlib import Path

from edge_sir.errors import ConfigError
from edge_sir.eval.chatter import chatter
from edge_sir.eval.task import Ask, Dialogue, Say, Setup, Task
from edge_sir.eval.tasks._paper import commonsense
from edge_sir.eval.tasks._paper.files import Item, check_range, find, item, read_jsonl
from edge_sir.eval.tasks._paper.groceries import GROCERIES

__all__ = ["Grocery"]

FILE = "grocery_keys.jsonl"

_TOKENS_PER_QUESTION = 60  # with its options and answer; 20 questions at the default length, as in the paper


class Grocery(Task):
    """A grocery to buy, then 20 common-sense questions, then: which grocery was it? (the paper's protocol)"""

    metrics = ("recall", "commonsense")
    data_files = FILE

    def files(self, data: Path) -> tuple[Path, ...]:
        return (find(data, FILE),)

    def dialogue(self, setup: Setup, index: int) -> Dialogue:
        r = setup.rng(index)
        if setup.data is None:
            name = f"{setup.seed}-{index}"
            key, questions, answer = _own(setup, r)
        else:
            path = find(setup.data, FILE)
            blocks = _read(path)
            check_range(len(blocks), index, index + 1, "dialogues")
            name, (key, *questions, answer) = f"key-{index}", blocks[index]
        gold = answer.options[answer.gold]
        lead = chatter(r, setup.lead or 0, avoid=answer.options)
        fact = Say(key.stem, key.options[key.gold], fact="grocery", gold=(gold,))
        last = Ask(
            answer.stem,
            "You want me to buy the GROCERY: [",
            answer.options,
            answer.gold,
            close="]",
            fact="grocery",
        )
        return Dialogue(name, (*lead, fact, *map(_ask, questions), last))


def _ask(question: Item) -> Ask:
    """A common-sense question that lists its options; its right answer stays, whatever the model would have said."""
    return Ask(
        f"{question.stem}\n{', '.join(question.options)}",
        "The answer is",
        tuple(f" {option}" for option in question.options),
        question.gold,
        metric="commonsense",
        reply="gold",
    )


def _own(setup: Setup, r: random.Random) -> tuple[Item, list[Item], Item]:
    """The same from our own words: (fact, questions, last question)."""
    options = tuple(r.sample(GROCERIES, 4))
    gold = r.randrange(4)
    fact = Item("key", f"I want you to buy the GROCERY: [{options[gold]}].", ("OK",), 0)
    n_questions = min(max(2, round(setup.n_tokens / _TOKENS_PER_QUESTION)), len(commonsense.QUESTIONS))
    answer = Item("answer", "Which GROCERY did I want you to buy?", options, gold)
    return fact, commonsense.questions(r, n_questions), answer


@lru_cache(maxsize=2)
def _read(path: Path) -> tuple[tuple[Item, ...], ...]:
    """The file as dialogues: a row `key_i`, questions, a row `answer_i`. Raises ConfigError if it is not so."""
    blocks: list[list[Item]] = []
    for row in read_jsonl(path, item):
        if row.id.startswith("key_") or not blocks:
            blocks.append([])
        blocks[-1].append(row)
    for block in blocks:
        key, answer = block[0], block[-1]
        same = key.id.replace("key_", "answer_", 1) == answer.id
        if not same or f"[{answer.options[answer.gold]}]" not in key.stem:
            raise ConfigError(f"{path}: {key.id} has no answer of its own: give the paper's {FILE} with --data")
    return tuple(map(tuple, blocks))
