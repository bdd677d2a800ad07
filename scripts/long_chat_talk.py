"""The conversation of scripts/long-chat: read from its file, laid out by seed, and its answers judged."""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from demo_talk import Question, is_right, read_script
from pydantic import BaseModel, ConfigDict, Field

from edge_sir.errors import ConfigError
from edge_sir.eval.chatter import chatter
from edge_sir.memory.transcript import Message
from edge_sir.recall.index import Terms, TurnIndex

__all__ = ["Fact", "Kind", "Said", "Scenario", "answers", "lay_out", "read_scenario", "shares_a_word"]

Kind = Literal["chatter", "early", "earlier", "fact", "question"]


class Fact(Question):
    """say: the turn that tells it. earlier: one that tells something else before. not: words of a wrong answer."""

    say: str = Field(min_length=1)
    earlier: str = ""
    wrong: tuple[str, ...] = Field(default=(), alias="not")
    early: bool = False

    @property
    def turns(self) -> "list[tuple[Kind, str]]":
        """What is said of it before the end, in order."""
        said: list[tuple[Kind, str]] = [("early", self.ask)] if self.early else []
        said += [("earlier", self.earlier)] if self.earlier else []
        return [*said, ("fact", self.say)]


class Scenario(BaseModel):
    """As the comments of scripts/long_chat.toml say."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    system: str | None = None
    told_share: float = Field(gt=0, lt=1)
    most_characters: int = Field(ge=20)
    avoid: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Said:
    """One turn of the user's. fact: the index of the fact that it is about, -1 for none."""

    kind: Kind
    text: str
    fact: int = -1


def read_scenario(path: Path) -> Scenario:
    """The scenario in a TOML file. Raises ConfigError for any other file, or if a turn does not tell its fact."""
    scenario = read_script(path, Scenario)
    for fact in scenario.facts:
        if not is_right(fact.say, [fact.told]):
            raise ConfigError(f"'{fact.say}' does not tell '{fact.told}'; say it in that turn")
    return scenario


def lay_out(scenario: Scenario, n_turns: int, seed: int) -> list[Said]:
    """All turns in order: facts among chatter, chatter, every question. The seed draws order and chatter.

    Raises ConfigError for fewer turns than the facts and questions take.
    """
    r = random.Random(seed)
    n_asked = len(scenario.facts)
    about = [i for i, fact in enumerate(scenario.facts) for _ in fact.turns]
    n_told = max(len(about), round(scenario.told_share * n_turns))
    if n_turns < n_told + n_asked:
        raise ConfigError(f"{n_turns} turns are too few for {n_asked} facts; give at least {len(about) + n_asked}")
    said = _chatter(r, scenario, n_turns - len(about) - n_asked)
    r.shuffle(about)
    left = [list(fact.turns) for fact in scenario.facts]
    for place, i in zip(sorted(r.sample(range(n_told), len(about))), about, strict=True):
        said.insert(place, Said(*left[i].pop(0), i))
    order = r.sample(range(n_asked), n_asked)
    return [*said, *(Said("question", scenario.facts[i].ask, i) for i in order)]


def _chatter(r: random.Random, scenario: Scenario, n: int) -> list[Said]:
    answers = [words for fact in scenario.facts for words in (fact.told, *fact.also, *fact.wrong)]
    more = chatter(r, 6 * n + 200, avoid=[*answers, *scenario.avoid])  # most ask nothing, some are too long
    texts = [" ".join(say.user.split()) for say in more]
    texts = [text for text in texts if text.endswith("?") and len(text) <= scenario.most_characters]
    if len(texts) < n:
        raise ConfigError(f"there are {len(texts)} turns of chatter that fit, not {n}; give fewer turns")
    return [Said("chatter", text) for text in texts[:n]]


def answers(fact: Fact, text: str) -> bool:
    """Whether `text` is a right answer to the fact's question."""
    return is_right(text, [fact.told, *fact.also]) and not is_right(text, list(fact.wrong))


def shares_a_word(fact: Fact) -> bool:
    """Whether question and fact have a content word in common, by the stems that recall searches for."""
    index = TurnIndex(Terms(coverage=0))
    try:
        index.sync([Message(1, "user", fact.say)])
        return bool(index.search(fact.ask))
    finally:
        index.close()
