"""A question that says "she" and "his" of whom the message before it has named.

The same is said of somebody else, so that it matters who is meant.
"""

import random

from edge_sir.eval._words import words
from edge_sir.eval.task import Say
from edge_sir.eval.tasks._fact import FactsAndQuestion, FactTask, ask_back, tell

__all__ = ["PEOPLE", "FollowUp"]

_KINDS = (
    (
        "{who} lives in {}.",
        "And in which town does {he} live?",
        "London,Naples,Dublin,Prague,Madrid,Athens,Warsaw,Vienna",
    ),
    (
        "{who} works as a {}.",
        "And what is {his} job?",
        "doctor,teacher,singer,lawyer,farmer,dancer,sailor,painter",
    ),
    (
        "{who} drives a {} car.",
        "And which colour is {his} car?",
        "red,green,blue,yellow,purple,white,black,pink",
    ),
    (
        "{who} plays the {}.",
        "And which instrument does {he} play?",
        "flute,cello,harp,trumpet,violin,guitar,banjo,tuba",
    ),
    (
        "{who} has a dog called {}.",
        "And what is {his} dog called?",
        "Luna,Oscar,Felix,Tiger,Pepper,Biscuit,Shadow,Ginger",
    ),
    (
        "{who} has a birthday in {}.",
        "And in which month is {his} birthday?",
        "January,February,April,June,July,August,October,November",
    ),
    (
        "{who} never eats {}.",
        "And what does {he} never eat?",
        "meat,fish,cheese,eggs,bread,rice,garlic,chocolate",
    ),
    (
        "{who} collects old {}.",
        "And what does {he} collect?",
        "coins,stamps,dolls,posters,bottles,cameras,spoons,typewriters",
    ),
    (
        "{who} studied {}.",
        "And which subject did {he} study?",
        "history,physics,law,medicine,biology,chemistry,music,botany",
    ),
    (
        "{who} speaks {}.",
        "And which language does {he} speak?",
        "Polish,Turkish,Spanish,Swedish,Greek,Danish,Korean,Finnish",
    ),
)
PEOPLE = (
    *(("my sister Ottilie", "she", "her"), ("my aunt Selma", "she", "her"), ("my cousin Greta", "she", "her")),
    *(("my colleague Astrid", "she", "her"), ("my brother Anton", "he", "his"), ("my uncle Rupert", "he", "his")),
    *(("my neighbour Viktor", "he", "his"), ("my friend Caspar", "he", "his")),
)
_NAMED = (
    ("Let us talk about {}.", "Gladly."),
    ("I was just thinking of {}.", "How nice."),
    ("Let us come back to {}.", "Yes, of course."),
    ("I have a question about {}.", "Go ahead."),
)


class FollowUp(FactTask):
    """A question that only refers to whom the message before it has named."""

    def facts_and_question(self, r: random.Random) -> FactsAndQuestion:
        fact, user, options = r.choice(_KINDS)
        right, other, *wrong = r.sample(words(options), 4)
        (who, he, his), (somebody, *_) = r.sample(PEOPLE, 2)
        sentence = fact.format("{}", who=_capital(who))
        said = tell(r, sentence.format(right), [right])
        also = tell(r, fact.format(other, who=_capital(somebody)), [other], asked=False)
        naming, reply = r.choice(_NAMED)
        question = ask_back(r, user.format(he=he, his=his), sentence, right, [other, *wrong])
        facts = tuple(r.sample((said, also), 2))
        before = (Say(naming.format(who), reply),)
        return FactsAndQuestion(facts, question, (right, other, *wrong), before)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
