"""Errands in the form of the paper's grocery, about different things, so that one dialogue can hold many."""

import random
from dataclasses import dataclass

from edge_sir.eval.task import Ask, Say

__all__ = ["TOPICS", "Topic", "fact"]


@dataclass(frozen=True, slots=True)
class Topic:
    """Something to do with a thing of a kind; things from common to odd.

    question: asks for it in words of its own; without, the question names it.
    """

    verb: str
    kind: str
    things: tuple[str, ...]
    question: str = ""


def _topic(verb: str, kind: str, things: str) -> Topic:
    return Topic(verb, kind, tuple(things.split(", ")))


TOPICS = (
    _topic("buy", "grocery", "milk, brown rice, oat flakes, ginger, chickpeas, sauerkraut"),
    _topic("call", "friend", "Martin, Luna, Oscar, Priya, Svetlana, Thaddeus"),
    _topic("visit", "city", "Paris, Porto, Osaka, Tampere, Kigali, Ljubljana"),
    _topic("feed", "animal", "cat, hamster, parrot, tortoise, llama, axolotl"),
    _topic("mix", "colour", "green, yellow, purple, orange, turquoise, magenta"),
    _topic("tune", "instrument", "piano, flute, cello, harp, accordion, zither"),
    _topic("cook", "dish", "soup, omelette, curry, lasagna, goulash, ratatouille"),
    _topic("repair", "machine", "toaster, printer, tractor, elevator, dishwasher, espresso maker"),
    _topic("plant", "tree", "apple, maple, birch, chestnut, willow, ginkgo"),
    _topic("practise", "sport", "tennis, rowing, fencing, judo, archery, curling"),
    _topic("sell", "car", "Volvo, Fiat, Toyota, Renault, Lada, Maserati"),
    _topic("enter", "code", "4821, 7350, 2694, 9137, 5068, 3472"),
    _topic("pack", "garment", "shirt, scarf, raincoat, cardigan, kimono, dungarees"),
    _topic("study", "subject", "history, physics, law, geology, botany, heraldry"),
    _topic("book", "hotel", "Bristol, Astoria, Seaview, Golden Lion, Belvedere, Metropole"),
    _topic("wash", "fabric", "cotton, wool, silk, linen, velvet, corduroy"),
    _topic("follow", "river", "Thames, Danube, Nile, Rhine, Volga, Orinoco"),
)


def fact(r: random.Random, topic: Topic, metric: str = "recall", name: str = "") -> tuple[Say, Ask]:
    """The exchange that tells it, and a probe for it with four options in drawn order.

    name: somebody whom it is for, whom the question then names, too.
    """
    options = tuple(r.sample(topic.things, 4))
    gold = r.randrange(4)
    whom = f" for {name}" if name else ""
    errand = f"{topic.verb} the {topic.kind.upper()}{whom}"
    told = topic.kind + whom
    said = Say(f"I want you to {errand}: [{options[gold]}].", "OK", fact=told, gold=(options[gold],))
    named = f"Which {topic.kind.upper()} did I want you to {topic.verb}{whom}?"
    user = named if name else topic.question or named
    return said, Ask(user, f"You want me to {errand}: [", options, gold, close="]", metric=metric, fact=told)
