"""The words that a text is found by: folded to plain letters, without the words that every text has."""

import re
import unicodedata
from collections.abc import Iterator

from edge_sir.text.boundaries import NO_SPACES

__all__ = ["is_german", "is_prefix", "is_weak", "terms", "words"]

# Letters that Unicode does not take apart into a plain one and a mark.
_FOLDED = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "ħ": "h", "ŋ": "n", "ß": "ss"}
)
_ENDING = re.compile("(?:n't|'[a-z]{0,2})$")  # Ada's, don't, we're
_GERMAN_ENDING = re.compile(r"(?<=\w{3})en$")  # kaufe, kaufen; the index stems English, and leaves this
_RUN = re.compile(f"({NO_SPACES.pattern}+)")

# Function words of English and German. Those of another language are in most texts, so they weigh little.
_ENGLISH_WORDS = """
a about after again all also am an and any are as at be because been before being but by can cannot could did do does
doing don done else ever every for from get had has have having he her here hers him his how i if in into is it its just
let many may me mine more most much must my no not now of off ok okay on once one only or other our out over please
really said say says shall she should so some something still such tell than thank thanks that the their them then there
these they thing this those to told too up us very was way we well were what when where which while who whom whose why
will with would yes yet you your yours
"""
_GERMAN_WORDS = """
aber alle als also am an auch auf aus bei bin bis bist bitte da danke dann das dass dein deine dem den der des dich die
dir doch du ein eine einem einen einer eines er es etwas euch fur habe haben hast hat hatte ich ihm ihn ihr im in ist ja
jetzt kann kannst kein keine mal man mehr mein meine meinem meinen meiner mich mir mit nach nein nicht noch nur oder ob
ohne sag schon sehr sein seine sich sie sind so uber um und uns unser von vor war waren warum was weil welche welchem
welchen welcher welches wenn wer wie wieder wir wird wo wohin zu zum zur
"""
_ENGLISH, _GERMAN = frozenset(_ENGLISH_WORDS.split()), frozenset(_GERMAN_WORDS.split())
_GERMAN_ALONE = (_GERMAN - _ENGLISH) | frozenset({"wann", "wieso", "weshalb", "woher", "wessen", "am", "im"})
_COMMON = _ENGLISH | _GERMAN

# Words that most talk has, whatever it is about. A conversation is too short to tell them by how often they come.
_WEAK_WORDS = """
able ago almost alone already although always another anybody anyone anything area around ask asked asking away awful
back bad best better big bit bring brought came care come comes coming course day days dear different early end enough
even everybody everyone everything exactly fact far feel felt few find fine first found full gave give given glad go
goes going good got great guess happen happened hard hear heard hello help hope hour hours idea important interested
keep kept kind knew know known large last late later least leave left less like liked likely line little long look
looked looking lost lot made make making matter maybe mean means mention mentioned minute minutes moment morning need
needed never new next nice night nobody none nothing often oh old open part people perhaps place point possible pretty
probably problem put quite ran rather read ready real reason remember right run same saw second see seem seen set
several show side since small somebody someone sometimes soon sorry sound sounds start started stay stop sure take
taken talk thing things think though thought three time times today together tomorrow tonight took tried true try turn
two understand until use used usual usually wait want wanted wants week weeks whole without word work world write
wrong yeah year years yesterday young
ahnung alles andere anderen anfang arbeit beide besser beste bevor bleiben bringen brauche brauchen denke denken ding
dinge dort eben eigentlich einfach einmal ende erst erste etwa fall finde finden fragen frau fruh ganz geben gefallt
gehe gehen geht genau genug gern gerne gesagt gestern gibt glaube gross gut gute guten guter gutes hallo heute hier hin
ihre immer jahr jahre jeder jemand klein kommen kommt konnen konnte lange lassen leben leider leute lieber machen macht
mach meist mensch menschen mogen mochte morgen muss mussen nachste natuerlich naturlich neu neue nichts nie nun oft ort
richtig sache sachen sagen sagt schlecht schon sehen seit soll sollen sollst sonst spat stunde stunden tag tage teil
tun uhr unter viel viele vielleicht warten weg weil weiss weit welt wissen woche wochen wollen wollte wort zeit zwei
"""
_WEAK = frozenset(_GERMAN_ENDING.sub("", word) for word in _WEAK_WORDS.split())
_WEAK_SIGNS = re.compile("[\u3040-\u309f的了是我你他她它们在有这那和就都也吗呢吧么什谁哪怎]")  # of Japanese and Chinese
_SHORT_NUMBER = 2  # digits; so small a number is in many texts


def terms(text: str) -> list[str]:
    """The words of `text` that tell it from others, in order, folded: lower case, no marks over letters.

    Where a script puts no spaces between words, two neighbouring characters make a term; the last one is a term of its
    own as well, so that every character begins one.
    """
    return [term for word in words(text) for term in _split(word) if term not in _COMMON]


def is_weak(term: str) -> bool:
    """Whether a term hardly tells a text from others: a word of all talk, or a small number."""
    is_small = term.isdigit() and len(term) <= _SHORT_NUMBER
    return is_small or term in _WEAK or (NO_SPACES.match(term) is not None and _WEAK_SIGNS.search(term) is not None)


def is_german(text: str) -> bool:
    """Whether it holds more function words of German than of English; what both have counts for neither."""
    found = words(text)
    n_german = sum(word in _GERMAN_ALONE for word in found)
    return n_german > sum(word in _ENGLISH and word not in _GERMAN for word in found)


def words(text: str) -> list[str]:
    """All words of `text`, folded."""
    return _fold(text).split()


def is_prefix(term: str) -> bool:
    """Whether a search term is one character of a script without spaces: it matches whatever begins with it."""
    return len(term) == 1 and NO_SPACES.match(term) is not None


def _fold(text: str) -> str:
    """Plain letters, digits and apostrophes; blanks for all else. Marks that are part of a script's words stay."""
    plain = unicodedata.normalize("NFKD", text.casefold()).translate(_FOLDED).replace("’", "'")
    kept = (
        c if c == "'" or unicodedata.category(c)[0] in "LNM" else " " for c in plain if not "\u0300" <= c <= "\u036f"
    )
    return unicodedata.normalize("NFC", "".join(kept))


def _split(word: str) -> Iterator[str]:
    for part in _RUN.split(_ENDING.sub("", word).replace("'", "")):
        if NO_SPACES.match(part):
            yield from (part[i : i + 2] for i in range(len(part)))
        elif part:
            yield _GERMAN_ENDING.sub("", part)
