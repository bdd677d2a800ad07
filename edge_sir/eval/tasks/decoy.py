"""A fact, and one on the same topic about somebody else.

The question comes in two wordings, which take turns with the dialogue's number: one shares no content word with the
fact, the other one at least one, which the decoy has as well. The decoy goes on with other words than the fact right
before its value: a small model goes by these, and took the decoy's value as often where both had the same.
"""

from edge_sir.eval._words import words
from edge_sir.eval.task import Dialogue, Setup, Task
from edge_sir.eval.tasks._fact import FactsAndQuestion, around, ask_back, tell

__all__ = ["KINDS", "METRICS", "OTHERS", "Decoy", "told_of"]

METRICS = ("recall/overlap-0", "recall/overlap-1")
"""Of a question that shares no content word with the fact, and of one that shares some."""

OTHERS = (
    *("My neighbour Martin", "My colleague Paula", "My cousin Stefan", "My friend Nora"),
    *("My uncle George", "My boss Ruth"),
)

KINDS = (
    (
        "I am allergic to {}.",
        "{who} must not eat {}, also being allergic.",
        "Which food must I stay away from?",
        "What am I allergic to?",
        "peanuts,shrimps,eggs,strawberries,walnuts,celery,sesame,mustard",
    ),
    (
        "My bicycle is {}.",
        "{who} has bought a {} bicycle.",
        "In which colour is the thing that takes me to work?",
        "What colour is my bicycle?",
        "red,green,blue,yellow,purple,white,black,pink",
    ),
    (
        "I was born in {}.",
        "{} is where {who} was born.",
        "Which town is my home?",
        "Where was I born?",
        "London,Oslo,Naples,Dublin,Prague,Madrid,Athens,Warsaw",
    ),
    (
        "My holidays begin in {}.",
        "{who} takes holidays in {}.",
        "From which month on am I free to travel?",
        "When do my holidays begin?",
        "January,February,April,June,July,August,October,November",
    ),
    (
        "In the band I play the {}.",
        "{who} joined the band with a {}.",
        "Which instrument should I bring along?",
        "What do I play in the band?",
        "flute,cello,harp,trumpet,violin,guitar,banjo,tuba",
    ),
    (
        "My daughter wants to become a {}.",
        "{who} has a {} for a daughter.",
        "Which job does my girl dream of?",
        "What does my daughter want to become?",
        "doctor,teacher,singer,lawyer,farmer,dancer,sailor,painter",
    ),
    (
        "I parked the car behind the {}.",
        "{who} left a car near the {}.",
        "Where is my vehicle?",
        "Where did I park the car?",
        "church,school,bakery,station,museum,theatre,library,stadium",
    ),
    (
        "At the flea market I bought a {}.",
        "{who} sold a {} at the flea market.",
        "Which old object did I come home with?",
        "What did I find at the flea market?",
        "mirror,clock,vase,globe,typewriter,mask,candlestick,lantern",
    ),
    (
        "For my birthday I want a {}.",
        "{who} got a {} for the birthday.",
        "Which present would make me happy?",
        "What do I want for my birthday?",
        "watch,camera,telescope,necklace,kite,tent,teapot,skateboard",
    ),
    (
        "My cat is called {}.",
        "{} is a cat that belongs to {who}.",
        "What is the name of my pet?",
        "What is my cat called?",
        "Luna,Oscar,Felix,Tiger,Pepper,Biscuit,Shadow,Ginger",
    ),
    (
        "My dentist is Doctor {}.",
        "Doctor {} is the dentist of {who}.",
        "Who looks after my teeth?",
        "Who is my dentist?",
        "Miller,Baker,Parker,Turner,Fisher,Cooper,Mason,Weaver",
    ),
    (
        "I keep my passport in the {}.",
        "{who} put a passport into the {}.",
        "Where is the document that I need for the journey?",
        "Where do I keep my passport?",
        "drawer,safe,suitcase,cupboard,attic,garage,desk,kitchen",
    ),
)
"""The fact, with {} for what is asked; the decoy; the question in other words, and in the same; the options."""


class Decoy(Task):
    """Somebody else has the like, told before or after; asked for in other words than the fact's, or in the same"""

    metrics = ("recall", *METRICS)

    def dialogue(self, setup: Setup, index: int) -> Dialogue:
        r = setup.rng(index)
        fact, decoy, *wordings, options = r.choice(KINDS)
        right, other, *wrong = r.sample(words(options), 4)
        said = tell(r, fact.format(right), [right])
        who = r.choice(OTHERS)
        also = tell(r, told_of(who, decoy, other), [other], asked=False)
        metric, user = list(zip(METRICS, wordings, strict=True))[index % 2]
        question = ask_back(r, user, fact, right, [other, *wrong], metric=metric)
        facts = tuple(r.sample((said, also), 2))
        return around(setup, r, index, FactsAndQuestion(facts, question, (right, other, *wrong)))


def told_of(who: str, decoy: str, thing: str) -> str:
    """The decoy's sentence."""
    if not decoy.startswith("{who}"):
        who = who[0].lower() + who[1:]
    return decoy.format(thing, who=who)
