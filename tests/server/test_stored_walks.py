"""Clients that do what they like, at random: what a session holds is what its client sent, to the token."""

import random
import re
from pathlib import Path

import pytest
from stored_toy import CODEC, TEMPLATE
from test_stored_under_way import Home, asked, die, finish, said, shown


def resident(home: Home, name: str) -> str:
    """What is in the cells of a live session, control tokens spelled out; a reply may be cut behind a blank."""
    assert home.home is not None
    (live,) = [one for one in home.home.sessions if one.name == name]
    tokens = live.chat.session.ledger["token"].tolist()
    spelled = [CODEC.SPECIALS[t - 256].encode() if t >= 256 else bytes([t]) for t in tokens]
    return b"".join(spelled).decode("utf-8", "replace").replace(" <|im_end|>", "<|im_end|>")


def rendered(history: list[str]) -> str:
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(history)]
    return TEMPLATE.render(messages, generate=False)


class Walk:
    """A few clients, each with histories that it may go back to."""

    def __init__(self, home: Home, seed: int) -> None:
        self.home, self.random = home, random.Random(seed)
        self.is_small = home.options.get("budget", 2048) < 1024
        self.histories: list[list[str]] = []
        self.n = 0

    def text(self, what: str) -> str:
        self.n += 1
        return f"{what} number {self.n}, " + "and so on " * self.random.randint(1, 4) + "indeed"

    def history(self) -> list[str]:
        """What the client sends: a history of before as it was, shorter, with another reply, or a new one."""
        roll = self.random.random()
        if not self.histories or roll < 0.15:
            return [self.text("question")]
        history = list(self.random.choice(self.histories))
        if roll < 0.6:
            return [*history, self.text("question")]
        if roll < 0.7:
            return history[:-1]  # another reply to the same message
        cut = self.random.randrange(0, len(history), 2)
        if roll < 0.85:
            return [*history[:cut], self.text("edited question")]
        return [*history[:-1], self.text("edited reply"), self.text("question")]

    def check_cells(self, held: str, history: list[str]) -> None:
        """All of it and nothing else; in a small budget what is left of it, and no number that is not in it."""
        if self.is_small:
            numbers = {text.split(",")[0] for text in history}
            assert set(re.findall(r"(?:question|reply) number \d+(?=,)", held)) <= numbers | {n[7:] for n in numbers}
        else:
            assert held == rendered(history)

    def step(self) -> None:
        home, history, reply = self.home, self.history(), self.text("reply")
        home.models.says(reply)
        assert home.home is not None
        answering = home.home.begin(asked(*history))
        assert answering is not None
        roll = self.random.random()
        if roll < 0.15:  # it is cancelled, wherever it is
            shown(answering, self.random.randint(0, 12))
            answering.cancel()
            text = finish(answering).choices[0].text
            if not text:
                return
        elif roll < 0.25:  # the server is killed
            shown(answering, self.random.randint(0, 12))
            die(home)
            home.open(n_live=2)
            return
        else:
            text = finish(answering).choices[0].text
            assert text == reply
        history.append(text)
        self.histories.append(history)
        assert said(home.home, answering.session) == history
        self.check_cells(resident(home, answering.session), history)
        if roll > 0.95:
            home.close()
            home.open(n_live=2)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("budget", [2048, 300])
def test_a_walk(tmp_path: Path, budget: int, seed: int) -> None:
    home = Home(tmp_path / "state")
    home.open(n_live=2, budget=budget)
    walk = Walk(home, seed)
    for _ in range(30):
        walk.step()
    assert len(walk.histories) > 12
    assert home.home is not None and home.home._folder.verify() == []
    home.close()
