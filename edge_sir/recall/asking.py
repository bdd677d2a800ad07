"""What a message does: states, asks, follows up; read off its words, in English and German."""

import re
from dataclasses import dataclass

from edge_sir.recall.terms import is_weak, terms, words

__all__ = ["Stated", "asks", "asks_whether", "follows_up", "is_about_self", "stated"]

_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|(?<=[。！？])|\n+")
_CLAUSE = re.compile(r"[^,;:.!?，。！？\n]*[,;:.!?，。！？\n]*")  # "She is called Ida, did you know?" states something
_ASKS = re.compile(
    r"\W*(?:what|which|when|where|who|whom|whose|why|how|is|are|was|were|do|does|did|can|could|will|would|should|may"
    r"|welche\w*|wann|wo|wohin|woher|wer|wem|wen|wessen|warum|wie|ist|sind|hat|habe|kannst|weißt)\b",
    re.IGNORECASE,
)
_ASKS_WHETHER = re.compile(
    r"\W*(?:(?:and|so|but|then|ok|okay|well|hey|hi|now)\W+)*"
    r"(?:(?:is|are|was|were|do|does|did|can|could|will|would|should|has|have|had|must)(?:n['’]?t)?|may|am|won['’]?t)\b"
    r"|\W*(?:right|correct|or not|true)\W*$",
    re.IGNORECASE,
)
_ASKS_WITHOUT_SPACES = re.compile(
    "[吗呢什谁誰哪怎几何]|どこ|いつ|なに|なぜ|どう|어디|언제|누구|무엇|왜|อะไร|ไหน|เมื่อไ|ทำไม"
)
_REQUESTS = re.compile(
    r"\W*(?:please|tell|give|make|show|list|name|call|order|write|find|put|remind|explain|help|book|play|read|send|get"
    r"|bring|take|buy|recommend|suggest|plan"
    r"|bitte|sag|gib|mach|zeig|nenn|ruf|bestell|schreib|such|erinner|erklär|hilf|kauf|lies|nimm)e?\b"
    r"|.*\b(?:please|bitte)\W*$",
    re.IGNORECASE | re.DOTALL,
)
_SELF = re.compile(r"\b(?:i|me|my|mine|we|us|our|ours|ich|mich|mir|mein\w{0,2}|wir|uns|unser\w{0,2})\b", re.IGNORECASE)
_UNKNOWN = re.compile(
    r"\b(?:do not|don['’]t|cannot|can['’]t|could not|couldn['’]t|did not|didn['’]t|have not|haven['’]t|not)\b.{0,20}"
    r"\b(?:know|say|said|tell|told|mention|mentioned|remember|recall|sure|access|information)\b"
    r"|\bno (?:idea|information|record)\b"
    r"|\b(?:weiß|weiss|kenne|erinnere)\b.{0,20}\bnicht\b|\b(?:nicht|nie)\b.{0,20}\b(?:gesagt|erwähnt|sagen|bekannt)\b"
    r"|\bkeine (?:ahnung|information)",
    re.IGNORECASE,
)
_GOES_ON = re.compile(r"\W*(?:and|or|but|what about|how about|und|oder|aber|was ist mit)\b", re.IGNORECASE)
_POINTS_BACK = re.compile(
    r"\b(?:he|him|his|she|her|hers|it|its|they|them|their|there|that|this|those|these"
    r"|er|ihn|ihm|sie|ihr\w{0,2}|es|sein\w{0,2}|dort|da|das|dies\w{0,2}|dar\w+|dazu|damit)\b",
    re.IGNORECASE,
)
_TO_THE_MODEL = re.compile(r"\b(?:you|your|yours|yourself|du|dir|dich|dein\w{0,2})\b", re.IGNORECASE)
_LONGEST, _SHORT, _FEW = 100, 8, 2  # characters and words of a follow-up; its own words, but for those of all talk


@dataclass(frozen=True, slots=True)
class Stated:
    """A sentence: what of it states, and what asks, as terms. is_own: the speaker says it about themselves."""

    text: str
    states: tuple[str, ...]
    asks: tuple[str, ...]
    is_own: bool


def stated(text: str, *, by_user: bool) -> list[Stated]:
    """The sentences of a message that have terms.

    Of the model's replies all is stated, but for those that say that it does not know: they answer nothing.
    """
    found = []
    for sentence in _SENTENCE_END.split(text):
        if by_user:
            clauses = [(terms(clause), _is_question(clause)) for clause in _CLAUSE.findall(sentence)]
        else:
            clauses = [(terms(sentence), _UNKNOWN.search(sentence) is not None)]
        states, asked = (tuple(t for part, is_q in clauses if is_q == kind for t in part) for kind in (False, True))
        if states or asked:
            found.append(Stated(sentence, states, asked, by_user and is_about_self(sentence)))
    return found


def asks(text: str) -> bool:
    """Whether a clause of it asks or requests something."""
    return any(
        _is_question(clause) or _REQUESTS.match(clause) is not None
        for clause in _CLAUSE.findall(text)
        if clause.strip()
    )


def asks_whether(text: str) -> bool:
    """Whether a clause of it begins as a question that yes or no answers, or ends as one ("right?"), in English."""
    return any(_ASKS_WHETHER.match(clause) is not None for clause in _CLAUSE.findall(text))


def is_about_self(text: str) -> bool:
    """Whether the speaker speaks of themselves, or of what is theirs."""
    return _SELF.search(text) is not None


def follows_up(text: str) -> bool:
    """Whether it is a short question that only the one before it gives a subject: "And since when?"."""
    if len(text) > _LONGEST:
        return False
    own = [term for term in terms(text) if not is_weak(term) or term.isdigit()]
    if len(words(text)) > _SHORT or len(own) > _FEW:
        return False
    if _GOES_ON.match(text):
        return asks(text) and (_TO_THE_MODEL.search(text) is None or bool(own))
    if not asks(text) or _TO_THE_MODEL.search(text) or is_about_self(text):
        return False
    return not own or (len(own) == 1 and _POINTS_BACK.search(text) is not None)


def _is_question(clause: str) -> bool:
    ends = clause.rstrip().endswith(("?", "？"))
    return ends or _ASKS.match(clause) is not None or _ASKS_WITHOUT_SPACES.search(clause) is not None
