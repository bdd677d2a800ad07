"""Where a text is cut so that llama.cpp's tokenizer survives it and stays fast.

Most pre-tokenizers are std::regex, which recurses once per character of a match: about 26,000 letters in a row
use up 8 MB of stack, and the process ends. SentencePiece copies its whole output for each character that it lacks,
and special tokens are found in time that grows with the square of their number. So a text goes in pieces. It is cut
inside runs that are too long, and at places where the tokens stay the same. scripts/tokenizer-limits finds the
lengths and proves the cuts (`--write` makes a page of what it found).
"""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["RECURSION_FREE", "Limit", "cuts", "limits_of", "needs_stack", "pieces", "recurses"]

_LOOPING = (
    "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano mpt starcoder gpt-2 phi-2 jina-es "
    "jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum modern-bert jina-v1-en jina-v2-code roberta-bpe exaone4 "
    "gemma4 granite-embed-multi-311m sarvam-moe refact command-r qwen2 deepseek-r1-qwen kormo f2llmv2 megrez qwen35 "
    "stablelm2 olmo dbrx smaug-bpe chatglm-bpe glm4 glm5 jais smollm codeshell exaone chameleon minerva-7b trillion "
    "granite-docling hunyuan kimi-k2 grok-2 laguna solar-open mellum2"
)
RECURSION_FREE = frozenset(_LOOPING.split())
"""Pre-tokenizers with loops of llama.cpp's own instead of a recursive regex. One that is not named here recurses."""

_BLANKS = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"  # what llama.cpp's \s matches
_BLANK, _NOT_BLANK = re.compile(f"[{_BLANKS}]"), re.compile(f"[^{_BLANKS}]")
_NO_PHRASE = re.compile(r"[^A-Za-z \x80-\U0010ffff]")
_NO_SLASH = re.compile(r"[^\r\n/]")
_NO_DIGIT = re.compile(r"[^0-9]")
_LETTERS = (  # the most common; no sign and no number among them
    "A-Za-zÀ-ÖØ-öø-ʯΑ-Ρα-ωϊ-ϵЀ-ҁҊ-ԯא-תؠ-يऄ-हก-ะぁ-ゖァ-ヺ㐀-䶿一-鿿가-힣"
)
_LETTER_OR_BLANK = re.compile(f"[{_LETTERS}{_BLANKS}]")

# Best first: at the first two nearly every pre-tokenizer splits, at the others some do.
_SPLITS = tuple(
    map(
        re.compile,
        (
            r"(?<=[^\W_])(?=[.,!?。，、|()])",
            r"(?<=[^\W_])(?=[!-&(-/:-@\[-`{-~])",
            r"(?<=[A-Za-z])(?=[0-9])|(?<=[0-9])(?=[A-Za-z])",
            r"(?<=[\u4e00-\u9fa5])(?=[0-9A-Za-z])|(?<=[0-9A-Za-z])(?=[\u4e00-\u9fa5])",
            r"(?<=[a-z])(?=[A-Z])",
            r"(?<=[^\W_])(?=[\u0300-\u036f\u0900-\u0903\u093a-\u094f])",
            r"(?<=[^\W_])(?=')",
        ),
    )
)
_LINE_ENDS = (re.compile(r"(?<=\n)(?=.)", re.DOTALL),)
_WORD_ENDS = (re.compile(r"(?<=\S\n)(?=\S)"), re.compile(r"(?<=\S)(?= \S)"), *_SPLITS)

_WITHOUT_PRE = ("t5", "plamo2", "rwkv")  # neither a regex nor time out of proportion

_SHALLOW = 500  # characters; two such runs side by side take 320 kB
_SOME = 16_384  # characters, and so special tokens, that cost little in one call
_STRIDE = 4096  # characters between cuts in a text of more special tokens

Special = Callable[[], Collection[str]]


@dataclass(frozen=True, slots=True)
class Limit:
    """A run of more than `longest` characters goes in pieces of at most `piece` characters.

    ends: what ends a run; None if the whole text is one. splits: where to cut, best first; any place will do if
    none of them is found.
    """

    ends: re.Pattern[str] | None
    longest: int
    piece: int
    splits: Sequence[re.Pattern[str]]


# For memory: a word of a million characters takes 130 MB.
_LOOPS = (Limit(_BLANK, 1_000_000, 249_999, _SPLITS), Limit(_NOT_BLANK, 1_000_000, 249_999, _LINE_ENDS))
_RECURSIVE = (
    Limit(_BLANK, 32_768, 16_383, _SPLITS),
    Limit(_NOT_BLANK, 32_768, 16_383, _LINE_ENDS),
    Limit(_NO_SLASH, 32_768, 16_383, _LINE_ENDS),  # one match takes slashes and the newlines between
)
_SIGNS = Limit(_LETTER_OR_BLANK, 32_768, 16_383, _SPLITS)
_OWN = {
    "": (_SIGNS, *_LOOPS),
    "default": (_SIGNS, *_LOOPS),
    "falcon": (_SIGNS, *_LOOPS),
    "exaone-moe": (Limit(_NO_PHRASE, 32_768, 16_383, _WORD_ENDS), *_RECURSIVE),  # one match takes many words
    # Two whose time grows with the square of such a run.
    "deepseek-llm": (Limit(_NOT_BLANK, 8192, 96, _LINE_ENDS), *_RECURSIVE),
    "superbpe": (Limit(_NO_DIGIT, 8192, 96, ()), _SIGNS, *_LOOPS),
}
_SENTENCEPIECE = (Limit(None, 32_768, 8192, _WORD_ENDS),)


def limits_of(tokenizer: str, pre: str) -> tuple[Limit, ...]:
    """The limits for a file's `tokenizer.ggml.model` and `tokenizer.ggml.pre`; empty if it needs none."""
    if tokenizer == "llama":
        return _SENTENCEPIECE
    if tokenizer in _WITHOUT_PRE:
        return ()
    return _OWN.get(pre, _RECURSIVE) if recurses(tokenizer, pre) else _LOOPS


def recurses(tokenizer: str, pre: str) -> bool:
    """Whether the stack that a text needs grows with its length."""
    return tokenizer not in (*_WITHOUT_PRE, "llama", "gemma4") and pre not in RECURSION_FREE


def needs_stack(text: str, limits: Sequence[Limit]) -> bool:
    """Whether a run is so long that a small stack may not hold it; without one of `_SHALLOW` characters it is not."""
    step = _SHALLOW // 2
    starts = range(0, len(text) - step + 1, step)
    return any(not limit.ends.search(text, at, at + step) for limit in limits if limit.ends for at in starts)


def pieces(text: str, limits: Sequence[Limit], special: Special = frozenset) -> list[str]:
    """`text` in pieces that can be tokenized one by one; they add up to it, and only that of "" is empty.

    special: gives the texts of the tokens that llama.cpp finds before all else, none of which is cut in two. Asked
    only if it matters.
    """
    at = cuts(text, limits, special)
    return [text[a:b] for a, b in pairwise((0, *at, len(text)))]


def cuts(text: str, limits: Sequence[Limit], special: Special = frozenset) -> list[int]:
    """Where `pieces` cuts: ascending indices inside `text`. Costs next to nothing if no run is too long."""
    runs = [(limit, *run) for limit in limits for run in _long_runs(text, limit)]
    if not runs and len(text) <= _SOME:
        return []
    whole = special()
    found = {at for limit, start, stop in runs for at in _inside(text, start, stop, limit, whole)}
    return sorted((found | set(_between(text, whole))) - {0, len(text)})


def _long_runs(text: str, limit: Limit) -> Iterator[tuple[int, int]]:
    """Start and end of each run that is too long.

    Only the last place before start + longest + 1 that ends a run is looked for, so most of the text is not read.
    """
    if limit.ends is None:
        if len(text) > limit.longest:
            yield 0, len(text)
        return
    start = 0
    while (stop := start + limit.longest + 1) <= len(text):
        last = _last(limit.ends, text, start, stop)
        if last is None:
            end = limit.ends.search(text, stop)
            yield start, (end.start() if end else len(text))
            last = end.start() if end else len(text)
        start = last + 1


def _last(pattern: re.Pattern[str], text: str, start: int, stop: int) -> int | None:
    """Where the last match that begins in [start, stop) begins."""
    width = 64
    while True:
        low = max(start, stop - width)
        # One character more, for patterns that look ahead.
        found = [m.start() for m in pattern.finditer(text, low, stop + 1) if m.start() < stop]
        if found:
            return found[-1]
        if low == start:
            return None
        stop, width = low, width * 8


def _inside(text: str, start: int, stop: int, limit: Limit, special: Collection[str]) -> Iterator[int]:
    """Cuts in the run text[start:stop], each as late as it may be."""
    while stop - start > limit.piece:
        end = start + limit.piece
        places = (_last(split, text, start + 1, end + 1) for split in limit.splits)
        at = next((place for place in places if place is not None), end)
        first, last = _around(text, at, special)
        start = first if first > start else last
        yield start


def _around(text: str, at: int, special: Collection[str]) -> tuple[int, int]:
    """Start and end of the special token that a cut at `at` would divide, or `at` twice."""
    for length in sorted({len(token) for token in special}, reverse=True):
        for start in range(max(0, at - length + 1), at):
            if text[start : start + length] in special:
                return start, start + length
    return at, at


def _between(text: str, special: Collection[str]) -> Iterator[int]:
    """Cuts right after special tokens, where llama.cpp starts anew anyway, if there are very many of them."""
    if sum(text.count(start) for start in {token[:2] for token in special}) <= _SOME:
        return
    longest, at = max(map(len, special)), _STRIDE
    while at < len(text):
        window = text[at : at + _STRIDE + longest]
        found = min(((window.find(token), -len(token)) for token in special if token in window), default=None)
        if found is None or found[0] >= _STRIDE:
            at += _STRIDE
            continue
        _, end = _around(text, at + found[0] - found[1], special)
        yield end
        at = end + _STRIDE
