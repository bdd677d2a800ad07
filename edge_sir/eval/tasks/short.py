"""The smallest dialogues: a fact and a few words, asked for when 10, 20, 30, 40 and 50 tokens have been said.

A first experiment on retention against decay. Tokens are those of what is said, without the template's markers, which
more than double them; so 64 cells hold the question's turn, the opening and little else. Use `--budget 64`.
"""

from dataclasses import replace

from edge_sir.eval.task import Ask, Dialogue, Say, Setup, Step, Task

__all__ = ["Short"]

LENGTHS = (10, 20, 30, 40, 50)
"""Tokens said from the fact on, at the least."""

_SYSTEM = "Remember."  # short: it is pinned, and a budget of 64 cells must hold it beside the question
_THINGS = {
    "cat": "Oscar, Luna, Tiger, Pepper, Biscuit, Felix",
    "car": "blue, green, silver, red, yellow, pink",
    "boss": "Karen, Mike, Susan, Frank, Boris, Ulla",
    "bus": "late, full, new, slow, empty, broken",
    "number": "seven, nine, twelve, thirty, eleven, forty",
    "town": "Leeds, Paris, Oslo, Cork, Lima, Kyoto",
    "job": "teaching, farming, cooking, mining, nursing, banking",
    "tea": "cold, sweet, green, weak, black, minty",
}
_TALK = (
    ("It rains.", "Oh no."),
    ("Nice day.", "Very nice."),
    ("I am tired.", "Sleep well."),
    ("What time is it?", "Noon."),
    ("Hello again.", "Hello."),
    ("My foot hurts.", "Poor you."),
    ("Listen!", "A bird."),
    ("I like jazz.", "Me too."),
    ("Dinner soon?", "At six."),
    ("So much snow!", "Lovely."),
    ("Two plus two?", "Four."),
    ("The door squeaks.", "Oil it."),
    ("Where is Bob?", "Upstairs."),
    ("I lost a sock.", "Again?"),
    ("Any news?", "None."),
    ("The moon is out.", "How bright."),
    ("Too loud?", "A bit."),
    ("Good book!", "Lend it to me."),
)


class Short(Task):
    """A fact and a few words, asked for after 10 to 50 tokens (budget: 64 or so; accuracy: after 50)"""

    metrics = ("recall_50", "recall_10", "recall_20", "recall_30", "recall_40")
    x_label = "tokens said since the fact"

    def dialogue(self, setup: Setup, index: int) -> Dialogue:
        r = setup.rng(index)
        thing = r.choice(list(_THINGS))
        options = r.sample(_THINGS[thing].split(", "), 4)
        gold = r.randrange(4)
        fact = Say(f"My {thing} is {options[gold]}.", "OK.", fact=thing, gold=(options[gold],))
        ask = Ask(f"My {thing}?", f"Your {thing} is", tuple(f" {o}" for o in options), gold, fact=thing)
        steps: list[Step] = [Say(*pair) for pair in r.choices(_TALK, k=setup.lead or 0)]
        lengths = list(LENGTHS)
        n = 0
        for say in (fact, *(Say(*pair) for pair in r.sample(_TALK, len(_TALK)))):
            steps.append(say)
            n += setup.count_tokens(say.user) + setup.count_tokens(say.assistant)
            while lengths and n >= lengths[0]:
                steps.append(replace(ask, metric=f"recall_{lengths.pop(0)}"))
            if not lengths:
                break
        return Dialogue(f"{setup.seed}-{index}", tuple(steps), _SYSTEM)
