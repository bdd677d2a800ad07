"""Plain prose without end, from our own sentence templates: people who walk about a town and talk of small things."""

import random
from collections.abc import Iterator

__all__ = ["prose"]


def _list(words: str) -> tuple[str, ...]:
    return tuple(words.split(","))


_NAMES = _list("Agnes,Bela,Corin,Dalia,Edwin,Fenja,Goran,Hester,Ivo,Jolanda,Kaspar,Lioba,Matteo,Nora,Osric,Petra")
_PLACES = _list("the harbour,the old mill,the station,the market,the bridge,the school,the orchard,the bakery")
_THINGS = _list("a lamp,a letter,an umbrella,a bicycle,a map,a clock,a kettle,a violin,a parcel,a coat,a key")
_JOBS = _list("baker,teacher,ferryman,clerk,doctor,painter,miller,tailor,gardener,postman")
_TIMES = _list("In the morning,Before noon,At three,Towards evening,After supper,Late at night,The next day")
_MOODS = _list("tired,glad,curious,worried,proud,hungry,calm,impatient,surprised,lonely")
_WEATHER = _list("it rained,the wind rose,the fog came in,the sun broke through,it began to snow,the sky cleared")

_OPENINGS = (
    "{time} {name} went to {place} with {thing}.",
    "{time} {weather}, and {name} stayed at home.",
    "{name} was the {job} of the town, and everybody knew where to find help.",
    "Nobody at {place} had expected to see {name} again.",
    "{name} and {other} had not spoken for {number} years.",
)
_SENTENCES = (
    "On the way to {place} {weather}.",
    "{name} felt {mood}, but did not say so.",
    '"Have you seen {thing}?" asked {other}.',
    '"No," said {name}, "but the {job} may know more."',
    "It took {number} minutes to get from there to {place}.",
    "The {job} counted the coins twice and found that {number} were missing.",
    "At {place} somebody had left {thing} on a bench.",
    "{other} was {mood} when the news came.",
    "Then {weather}, and the two of them looked for shelter.",
    "There were {number} people in front of {place}, most of them {mood}.",
    "{name} remembered what the {job} had told them about {thing}.",
    '"We should go to {place} first," {other} said after a while.',
    "The road was long and there was nothing to do but to talk.",
    "For a moment it was so quiet that one could hear the clock of the town hall.",
    "{name} laughed, because {thing} was the last thing that anybody needed.",
    "Nobody asked why the {job} was {mood}.",
    "Of the {number} windows only one was lit.",
    '"I would rather have {thing} than wait any longer," said {name}.',
    "{other} wrote it down, folded the paper and put it in a pocket.",
    "Behind {place} the path divides; the left one leads to the river.",
)
_ENDINGS = (
    "So {name} went home and left {thing} where it was.",
    "{other} promised to come back to {place} the next day.",
    "In the end {weather}, and that was that.",
    "They never found out what the {job} had wanted.",
)


def prose(r: random.Random) -> Iterator[str]:
    """Paragraphs with an empty line after each; two people and what they are about stay for some sentences."""
    while True:
        name, other = r.sample(_NAMES, 2)
        n = r.randint(4, 7)
        drawn = (r.choice(_OPENINGS), *r.sample(_SENTENCES, n), r.choice(_ENDINGS))
        yield " ".join(_filled(r, sentence, name, other) for sentence in drawn) + "\n\n"


def _filled(r: random.Random, sentence: str, name: str, other: str) -> str:
    return sentence.format(
        name=name,
        other=other,
        place=r.choice(_PLACES),
        thing=r.choice(_THINGS),
        job=r.choice(_JOBS),
        time=r.choice(_TIMES),
        mood=r.choice(_MOODS),
        weather=r.choice(_WEATHER),
        number=r.randint(2, 60),
    )
