"""Facts somewhere inside chatter, one question at the end: what the generated tasks share."""

import random
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from edge_sir.eval.chatter import Language, chatter_until, length
from edge_sir.eval.task import SYSTEM, Ask, Dialogue, Say, Setup, Step, Task

__all__ = ["ASIDES", "REPLIES", "FactTask", "FactsAndQuestion", "around", "ask", "ask_back", "tell"]

FACT = "fact"

_FIRST = 3  # a fact is never one of the first three exchanges, unless a lead says so

ASIDES: dict[Language, tuple[str, ...]] = {
    "en": ("", "", "By the way: ", "Before I forget: ", "One more thing. ", "Listen. ", "So, ", "Just so you know: "),
    "de": ("", "", "Übrigens: ", "Noch etwas: ", "Hör zu. ", "Bevor ich es vergesse: ", "Also: "),
}
REPLIES: dict[Language, tuple[str, ...]] = {
    "en": (
        "OK.",
        "All right.",
        "Noted, thank you.",
        "Good, I will keep that in mind.",
        "Thanks for telling me.",
        "I see. Is there anything else?",
    ),
    "de": ("In Ordnung.", "Gut, ich merke es mir.", "Danke, notiert.", "Alles klar. Sonst noch etwas?"),
}

_QUOTES: dict[Language, str] = {"en": 'You said: "', "de": 'Du hast gesagt: "'}


@dataclass(frozen=True, slots=True)
class FactsAndQuestion:
    """What a dialogue is about.

    facts: in the order told. avoid: words that only facts and the question may use. before: what is said right before
    the question.
    """

    facts: tuple[Say, ...]
    ask: Ask
    avoid: tuple[str, ...]
    before: tuple[Say, ...] = ()


class FactTask(Task):
    """A task with facts, each in an exchange of its own, and a question about them at the end."""

    language: ClassVar[Language] = "en"
    system: ClassVar[str] = SYSTEM

    @abstractmethod
    def facts_and_question(self, r: random.Random) -> FactsAndQuestion:
        """Facts and question of one dialogue."""

    def dialogue(self, setup: Setup, index: int) -> Dialogue:
        """About `setup.n_tokens` tokens; more only if the facts and the exchanges that must stand before do not fit."""
        r = setup.rng(index)
        return around(setup, r, index, self.facts_and_question(r), language=self.language, system=self.system)


def around(
    setup: Setup,
    r: random.Random,
    index: int,
    content: FactsAndQuestion,
    *,
    language: Language = "en",
    system: str = SYSTEM,
) -> Dialogue:
    """Dialogue `index` with its facts amid talk and the question at the end.

    About `setup.n_tokens` tokens; more only if the facts and the exchanges that must stand before do not fit.
    """
    told = sum(length(say, setup.count_tokens) for say in (*content.facts, *content.before))
    asked = length(Say(content.ask.user, content.ask.stem + content.ask.options[content.ask.gold]), setup.count_tokens)
    talk = chatter_until(
        r,
        setup.count_tokens,
        setup.n_tokens - setup.count_tokens(system) - told - asked,
        at_least=(_FIRST if setup.lead is None else setup.lead) + 1,
        avoid=content.avoid,
        language=language,
    )
    steps: list[Step] = [*_amid(r, content.facts, talk, setup.lead), *content.before, content.ask]
    return Dialogue(f"{setup.seed}-{index}", tuple(steps), system)


def _amid(r: random.Random, facts: Sequence[Say], talk: Sequence[Say], lead: int | None) -> list[Say]:
    """The talk with the facts in it, in order: the first after `lead` exchanges, all in the first two thirds or so."""
    least = _FIRST if lead is None else lead
    span = range(least, max(len(talk) * 2 // 3, least) + 1)
    places = sorted(r.sample(span, len(facts)) if len(facts) <= len(span) else r.choices(span, k=len(facts)))
    if lead is not None:
        places[0] = lead
    steps = list(talk)
    for place, fact in reversed(list(zip(places, facts, strict=True))):
        steps.insert(place, fact)
    return steps


def tell(r: random.Random, text: str, gold: Sequence[str], language: Language = "en", *, asked: bool = True) -> Say:
    """An exchange that tells a fact, phrased as an aside or straight away; `asked`: the question is about this one."""
    fact = FACT if asked else "other"
    return Say(r.choice(ASIDES[language]) + text, r.choice(REPLIES[language]), fact, tuple(gold))


def ask_back(
    r: random.Random,
    user: str,
    sentence: str,
    right: str,
    wrong: Sequence[str],
    language: Language = "en",
    *,
    metric: str = "recall",
) -> Ask:
    """A question that is answered by quoting `sentence`, with {} for what is asked, as it was told.

    A small model that has read a thousand tokens since hardly answers in words of its own, but goes on with these.
    """
    before, _, after = sentence.partition("{}")
    return ask(r, user, _QUOTES[language] + before.rstrip(), right, wrong, close=after, metric=metric)


def ask(
    r: random.Random,
    user: str,
    stem: str,
    right: str,
    wrong: Sequence[str],
    *,
    close: str = ".",
    metric: str = "recall",
) -> Ask:
    """The question, its options in random order, each after a space."""
    options = [right, *wrong]
    r.shuffle(options)
    return Ask(user, stem, tuple(f" {o}" for o in options), options.index(right), close, metric, FACT)
