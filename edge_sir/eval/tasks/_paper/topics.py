"""Things that somebody may tell about himself, each with a question and answers from common to odd."""

import random
from dataclasses import dataclass

from edge_sir.eval.task import Ask, Say

__all__ = ["TOPICS", "Topic", "fact"]


@dataclass(frozen=True, slots=True)
class Topic:
    """tell: what is said, with a place for the answer. user, stem: the question, and how its reply begins."""

    name: str
    tell: str
    user: str
    stem: str
    answers: tuple[str, ...]


def _topic(name: str, tell: str, user: str, stem: str, answers: str) -> Topic:
    return Topic(name, tell, user, stem, tuple(answers.split(", ")))


TOPICS = (
    _topic(
        "cat",
        "My cat is called {}.",
        "What is my cat called?",
        "Your cat is called",
        "Oscar, Biscuit, Tiger, Luna, Pepper, Mephisto",
    ),
    _topic(
        "dentist",
        "My dentist is Dr. {}.",
        "Who is my dentist?",
        "Your dentist is Dr.",
        "Brown, Weiss, Okafor, Lindqvist, Parker, Moreau",
    ),
    _topic(
        "safe",
        "The safe in my study opens with {}.",
        "How does the safe in my study open?",
        "The safe in your study opens with",
        "4821, 7350, 2694, 9137, 5068, 3472",
    ),
    _topic(
        "desk",
        "My desk is painted {}.",
        "Which colour is my desk?",
        "Your desk is painted",
        "green, blue, yellow, purple, orange, turquoise",
    ),
    _topic(
        "instrument",
        "My daughter plays the {}.",
        "Which instrument does my daughter play?",
        "Your daughter plays the",
        "flute, cello, drums, harp, oboe, accordion",
    ),
    _topic(
        "holiday",
        "In the summer we are going to {}.",
        "Where are we going in the summer?",
        "In the summer you are going to",
        "Norway, Portugal, Iceland, Croatia, Chile, Bhutan",
    ),
    _topic(
        "breakfast",
        "For breakfast I always have {}.",
        "What do I always have for breakfast?",
        "For breakfast you always have",
        "toast, porridge, muesli, pancakes, grapefruit, kippers",
    ),
    _topic(
        "car",
        "The car that I drive is a {}.",
        "Which car do I drive?",
        "The car that you drive is a",
        "Volvo, Fiat, Toyota, Lada, Renault, Mazda",
    ),
    _topic(
        "street",
        "I live in {} Street.",
        "In which street do I live?",
        "You live in",
        "Baker, Mill, Station, Harbour, Orchard, Quarry",
    ),
    _topic(
        "brother",
        "My brother works as a {}.",
        "What does my brother work as?",
        "Your brother works as a",
        "plumber, surgeon, gardener, pilot, cartographer, beekeeper",
    ),
    _topic(
        "lesson",
        "My piano lesson is on {}.",
        "On which day is my piano lesson?",
        "Your piano lesson is on",
        "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday",
    ),
    _topic(
        "book",
        "The book that I am reading is about {}.",
        "What is the book about that I am reading?",
        "The book that you are reading is about",
        "whales, Rome, chess, mushrooms, spies, glaciers",
    ),
    _topic(
        "sport",
        "Every Sunday I go {}.",
        "What do I do every Sunday?",
        "Every Sunday you go",
        "swimming, climbing, rowing, fencing, bowling, skating",
    ),
    _topic(
        "boat",
        "My grandfather's boat has the name {}.",
        "Which name has my grandfather's boat?",
        "Your grandfather's boat has the name",
        "Albatross, Rosalind, Firefly, Queequeg, Bluebell, Tempest",
    ),
    _topic(
        "allergy",
        "I am allergic to {}.",
        "What am I allergic to?",
        "You are allergic to",
        "nuts, eggs, pollen, shellfish, latex, strawberries",
    ),
    _topic(
        "password",
        "The password of the guest network is {}.",
        "What is the password of the guest network?",
        "The password of the guest network is",
        "sunshine, welcome, tugboat, marmalade, xylophone, snowplough",
    ),
    _topic(
        "tree",
        "The tree in front of my house is a {}.",
        "Which tree stands in front of my house?",
        "The tree in front of your house is a",
        "birch, maple, pine, chestnut, willow, ginkgo",
    ),
)


def fact(r: random.Random, topic: Topic, metric: str = "recall") -> tuple[Say, Ask]:
    """The exchange that tells it, and a probe for it with four options in drawn order."""
    options = tuple(r.sample(topic.answers, 4))
    gold = r.randrange(4)
    reply = r.choice(("OK.", "Noted.", "Thank you, I will remember it.", "All right."))
    said = Say(topic.tell.format(options[gold]), reply, fact=topic.name, gold=(options[gold],))
    asked = tuple(f" {option}" for option in options)
    close = " Street." if topic.name == "street" else "."
    return said, Ask(topic.user, topic.stem, asked, gold, close=close, metric=metric, fact=topic.name)
