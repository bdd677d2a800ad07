"""What matters and is not named: an allergy when a dish is asked for, a bad knee when a workout is."""

import random

from edge_sir.eval._words import words
from edge_sir.eval.tasks._fact import FactsAndQuestion, FactTask, ask_back, tell

__all__ = ["KINDS", "Unnamed"]

KINDS = (
    (
        "I am allergic to {}.",
        "Invent a dish for my dinner, please.",
        "peanuts,shrimps,eggs,strawberries,walnuts,celery,sesame,mustard",
    ),
    (
        "I cannot spend more than {} euros this month.",
        "Which laptop would you order for me?",
        "twenty,thirty,forty,fifty,sixty,seventy,eighty,ninety",
    ),
    (
        "The doctor said that my {} must not be strained.",
        "Plan a workout for me.",
        "knee,elbow,shoulder,ankle,wrist,hip,neck,thumb",
    ),
    (
        "I am terribly afraid of {}.",
        "Find a long walk through the fields for me.",
        "dogs,horses,spiders,bees,snakes,cows,geese,bats",
    ),
    (
        "I have night shifts until the end of {}.",
        "How about breakfast together, at seven?",
        "January,February,April,June,July,August,October,November",
    ),
    (
        "My daughter collects everything that has a {} on it.",
        "Suggest a birthday present for our little one.",
        "dinosaur,dolphin,tractor,unicorn,rocket,ladybird,tiger,pirate",
    ),
    (
        "For a year now I have not touched any {}.",
        "Imagine you invite me over. What will be on the table?",
        "alcohol,sugar,coffee,meat,chocolate,butter,cheese,bread",
    ),
    (
        "I live on the {} floor and there is no lift.",
        "They deliver my grand piano soon. What should the carriers be ready for?",
        "third,fourth,fifth,sixth,seventh,eighth,ninth,tenth",
    ),
    (
        "I get sick whenever I sit in a {}.",
        "How are we going to travel to Norway?",
        "bus,boat,taxi,tram,coach,plane,helicopter,gondola",
    ),
    (
        "Our landlord does not allow any {} in the house.",
        "I am lonely. Should I get a pet?",
        "cats,dogs,parrots,rabbits,hamsters,snakes,ferrets,mice",
    ),
    (
        "My new neighbours speak nothing but {}.",
        "Compose a few words of welcome for the people next door.",
        "Polish,Turkish,Spanish,Swedish,Greek,Danish,Korean,Finnish",
    ),
    (
        "I am colour-blind: I cannot tell {} from grey.",
        "Draw a chart of my sales.",
        "red,green,blue,pink,purple,brown,orange,yellow",
    ),
)
"""The fact, with {} for what is asked; what is said later, in other words; the options."""


class Unnamed(FactTask):
    """What was told matters for a request that shares no word with it, so recall by words does not find it."""

    def facts_and_question(self, r: random.Random) -> FactsAndQuestion:
        fact, user, options = r.choice(KINDS)
        right, *wrong = r.sample(words(options), 4)
        said = tell(r, fact.format(right), [right])
        return FactsAndQuestion((said,), ask_back(r, user, fact, right, wrong), (right, *wrong))
