"""How many words a question has in common with what tells the answer: what recall by words goes by."""

from edge_sir.eval.task import Say
from edge_sir.recall.terms import is_weak, terms

__all__ = ["overlap"]

_STEM = 4  # letters that two forms of a word begin with; a few other words do, too


def overlap(question: str, told: Say) -> int:
    """Content words of `question` that stand in `told`, in its message or its reply, in this or another form."""
    there = _content(f"{told.user} {told.assistant}")
    return sum(any(_is_form(word, other) for other in there) for word in _content(question))


def _content(text: str) -> set[str]:
    return {term for term in terms(text) if not is_weak(term)}


def _is_form(a: str, b: str) -> bool:
    return a.removesuffix("s") == b.removesuffix("s") or (len(a) >= _STEM and a[:_STEM] == b[:_STEM])
