"""Facts among turns that mix predictable and random text in a known proportion.

Under control: every turn of a dialogue has about 40 tokens, of which 10, 50 or 90 % are random words and ids and the
rest is what any model can go on with (counting, the alphabet, proverbs). In one turn stands a common word besides, in
another a random code; these turns are as long as the others and mixed in the same proportion. A policy that keeps what
surprises is helped where the fact is rarer than its surroundings and hurt where it is plainer; one that keeps at random
is neither.
"""

import random

from edge_sir.eval.task import Ask, Dialogue, Say, Setup, Task

__all__ = ["Mix"]

SHARES = (50, 10, 90)
"""Percent of random tokens in a turn; dialogue 0 has the first, dialogue 1 the second, and so on round."""
TURN = 40
"""Tokens of a turn, about."""

_FIRST = 3
_WORDS = ("milk", "house", "river", "table", "music", "horse", "bread", "winter", "stone", "letter", "garden", "paper")
_LETTERS = "bcdfghjklmnpqrstvwxz"
_PREDICTABLE = (
    " ".join(map(str, range(1, 61))),
    "a b c d e f g h i j k l m n o p q r s t u v w x y z a b c d e f g h i j k l m n o p q r s t u v w x y z",
    "Monday Tuesday Wednesday Thursday Friday Saturday Sunday " * 6,
    "January February March April May June July August September October November December " * 4,
    "An apple a day keeps the doctor away. The early bird catches the worm. Better late than never. " * 3,
    "Twinkle, twinkle, little star, how I wonder what you are, up above the world so high, " * 3,
    " ".join(map(str, range(100, 0, -2))),
    "one two three four five six seven eight nine ten eleven twelve " * 5,
)


class Mix(Task):
    """A common word and a random code among turns with 10, 50 or 90 % of random tokens"""

    metrics = tuple(f"recall_{share}_{kind}" for share in SHARES for kind in ("word", "code"))
    x_label = "percent of random tokens in a turn"
    n_default = 24

    def dialogue(self, setup: Setup, index: int) -> Dialogue:
        r = setup.rng(index)
        share = SHARES[index % len(SHARES)]
        lead = _FIRST if setup.lead is None else setup.lead
        n_turns = max(round(setup.n_tokens / (TURN + 12)), lead + 4)
        steps = [Say(_mixed(r, setup, share / 100), "OK.") for _ in range(n_turns)]
        facts = {"word": r.sample(_WORDS, 4), "code": [_code(r) for _ in range(4)]}
        places = sorted(r.sample(range(lead, n_turns - 1), 2))
        if setup.lead is not None:
            places[0] = lead
        asks = []
        for kind, place in zip(r.sample(list(facts), 2), places, strict=True):
            gold = r.randrange(4)
            answer = facts[kind][gold]
            text = _mixed(r, setup, share / 100, f"The secret {kind} is {answer}.")
            steps[place] = Say(text, "OK.", fact=kind, gold=(answer,))
            options = tuple(f" {option}" for option in facts[kind])
            metric = f"recall_{share}_{kind}"
            asks.append(
                Ask(f"What is the secret {kind}?", f"The secret {kind} is", options, gold, metric=metric, fact=kind)
            )
        return Dialogue(f"{setup.seed}-{index}", (*steps, *asks))


def _mixed(r: random.Random, setup: Setup, share: float, fact: str = "") -> str:
    """About TURN tokens: `share` of them random, in one piece that stands somewhere in predictable text.

    fact: stands before the random piece, and takes the place of predictable and random tokens alike.
    """
    room = TURN - setup.count_tokens(fact) if fact else TURN
    noise: list[str] = []
    while setup.count_tokens(" ".join(noise)) < room * share:
        noise.append(_random_word(r))
    words = r.choice(_PREDICTABLE).split()
    n = 0
    while n < len(words) and setup.count_tokens(" ".join(words[:n])) < room * (1 - share):
        n += 1
    at = r.randint(0, n)
    return " ".join(part for part in (*words[:at], fact, *noise, *words[at:n]) if part)


def _random_word(r: random.Random) -> str:
    """Letters without sense, a number or a code."""
    kind = r.randrange(3)
    if kind == 0:
        return "".join(r.choice(_LETTERS) + r.choice("aeiou") for _ in range(r.randint(1, 3)))
    return str(r.randrange(10, 10**5)) if kind == 1 else _code(r)


def _code(r: random.Random) -> str:
    return f"{r.choice(_LETTERS)}{r.choice(_LETTERS)}{r.randrange(10, 100)}".upper()
