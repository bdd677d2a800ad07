"""Where long texts are cut: pure functions, no model."""

import importlib.metadata
import re
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sir.llama import text_limits
from edge_sir.llama.text_limits import RECURSION_FREE, Limit, cuts, limits_of, needs_stack, pieces, recurses

ROOT = Path(__file__).parents[2]
BLANK, NOT_BLANK = re.compile(r"[ \n]"), re.compile(r"[^ \n]")
WORD_ENDS = (re.compile(r"(?<=[a-z])(?=[0-9.])"),)
SMALL = (Limit(BLANK, 20, 8, WORD_ENDS), Limit(NOT_BLANK, 10, 5, (re.compile(r"(?<=\n)(?=.)", re.DOTALL),)))
SPECIAL = frozenset({"<a>", "a1b2", "  "})

RUNS = st.tuples(
    st.sampled_from(["a", "b1", ".", " ", "\n", " \n", "<a>", "a1b2", "中", "\ud800", "\0"]), st.integers(1, 40)
)
TEXTS = st.lists(RUNS, max_size=8).map(lambda runs: "".join(unit * n for unit, n in runs))


def longest_run(text: str, limit: Limit) -> int:
    return max(map(len, limit.ends.split(text))) if limit.ends else len(text)


@settings(max_examples=400, deadline=None)
@given(text=TEXTS)
def test_pieces_add_up_and_hold_no_run_that_is_too_long(text: str) -> None:
    parts = pieces(text, SMALL)
    assert "".join(parts) == text
    assert all(longest_run(part, limit) <= limit.longest for part in parts for limit in SMALL)
    assert all(parts) or text == ""


@settings(max_examples=400, deadline=None)
@given(text=TEXTS)
def test_a_text_without_a_long_run_stays_whole(text: str) -> None:
    assert (len(pieces(text, SMALL)) == 1) == all(longest_run(text, limit) <= limit.longest for limit in SMALL)


@settings(max_examples=400, deadline=None)
@given(text=TEXTS)
def test_no_special_token_is_cut_in_two(text: str) -> None:
    parts = pieces(text, SMALL, lambda: SPECIAL)
    assert "".join(parts) == text
    for at in cuts(text, SMALL, lambda: SPECIAL):
        # One that ends where another begins may be cut if it overlaps the other, since only one of them counts.
        around = [m.span() for name in ("<a>", "a1b2") for m in re.finditer(re.escape(name), text)]
        assert not any(start < at < stop for start, stop in around)


@settings(max_examples=200)
@given(text=TEXTS)
def test_the_rest_of_a_text_is_not_cut(text: str) -> None:
    """Every cut lies inside a run that is too long."""
    inside = {
        at
        for limit, run in zip(SMALL, (r"[^ \n]+", r"[ \n]+"), strict=True)
        for m in re.finditer(run, text)
        if len(m[0]) > limit.longest
        for at in range(m.start() + 1, m.end())
    }
    assert set(cuts(text, SMALL)) <= inside


def test_a_run_is_cut_where_a_word_ends_if_it_can() -> None:
    assert pieces("abc1" * 6, SMALL) == ["abc1abc", "1abc1abc", "1abc1abc", "1"]
    assert pieces("a" * 21, SMALL) == ["a" * 8, "a" * 8, "a" * 5]
    assert pieces("x" + " \n" * 6 + "y", SMALL) == ["x \n \n", " \n \n", " \n \ny"]


def test_special_tokens_are_asked_for_only_if_they_matter() -> None:
    def never() -> frozenset[str]:
        raise AssertionError

    assert cuts("word " * 3000, SMALL, never) == []
    with pytest.raises(AssertionError):
        cuts("w" * 21, SMALL, never)


def test_a_text_of_many_special_tokens_is_cut_behind_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_limits, "_SOME", 100)
    monkeypatch.setattr(text_limits, "_STRIDE", 50)
    text = ("some words <a> and " + "<a><a>" * 5) * 30 + "no more of them here " * 20
    parts = pieces(text, (), lambda: frozenset({"<a>", "<a"}))
    assert "".join(parts) == text
    assert len(parts) > 10
    assert all(part.endswith("<a>") for part in parts[:-1])
    assert all(part.count("<a>") <= 50 for part in parts)
    assert pieces("no special token " * 100, (), lambda: frozenset({"<a>"})) == ["no special token " * 100]


@settings(max_examples=200)
@given(text=TEXTS)
def test_a_long_run_needs_a_large_stack(text: str) -> None:
    longest = max(longest_run(text, limit) for limit in SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_limits, "_SHALLOW", 12)
        assert needs_stack(text, SMALL) >= (longest >= 12)
        assert needs_stack(text, SMALL) <= (longest >= 6)


# ---- the limits of the models ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pre", ["tekken", "default", "", "exaone-moe", "deepseek-llm", "superbpe", "falcon", "not known"]
)
@pytest.mark.parametrize("unit", ["z", "7", " ", "\n", ".", "中", "a1", " a", "\n "])
def test_8192_characters_of_anything_stay_whole(pre: str, unit: str) -> None:
    assert len(pieces("Well," + (unit * 8192)[:8192] + "and more", limits_of("gpt2", pre))) == 1


@pytest.mark.parametrize(
    ("pre", "unit"),
    [
        *(("tekken", "z"), ("tekken", " "), ("not known", "中"), ("default", "7"), ("", "."), ("falcon", "+")),
        *(("exaone-moe", " a"), ("exaone-moe", "word "), ("bloom", "a1"), ("superbpe", "7"), ("deepseek-llm", "\t")),
        *(("youtu", "/\n"), ("tekken", "/\r\n"), ("superbpe", "٣"), ("default", "½"), ("falcon", "。")),
    ],
)
def test_what_ends_the_process_is_cut(pre: str, unit: str) -> None:
    parts = pieces(unit * 100_000, limits_of("gpt2", pre))
    assert len(parts) > 1
    assert all(len(part) <= 32_768 for part in parts)


def test_what_counts_as_a_letter_is_one() -> None:
    """Numbers and signs do not end a run of signs; a letter that is missing here only makes a cut earlier."""
    letters = [chr(i) for i in range(sys.maxunicode + 1) if text_limits._LETTER_OR_BLANK.match(chr(i))]
    assert {unicodedata.category(c)[0] for c in letters if not c.isspace()} == {"L"}
    assert len(letters) > 30_000


@pytest.mark.parametrize("pre", ["qwen2", "llama-bpe", "smollm"])
def test_pre_tokenizers_that_do_not_recurse_are_cut_for_memory_alone(pre: str) -> None:
    assert pre in RECURSION_FREE and not recurses("gpt2", pre)
    assert len(pieces("z" * 1_000_000, limits_of("gpt2", pre))) == 1
    assert len(pieces("z" * 1_000_001, limits_of("gpt2", pre))) == 5


def test_an_unknown_pre_tokenizer_counts_as_recursive() -> None:
    assert recurses("gpt2", "of next year") and recurses("gpt2", "") and recurses("whitespace", "whitespace")
    assert not recurses("llama", "default") and not recurses("gemma4", "") and not recurses("t5", "")


def test_sentencepiece_is_cut_at_words() -> None:
    text = "Some words in a line.\n" * 4000
    parts = pieces(text, limits_of("llama", ""))
    assert "".join(parts) == text
    assert max(map(len, parts)) <= 8192
    assert all(part.endswith(".\n") for part in parts)
    assert limits_of("t5", "") == ()


# ---- what the search found ---------------------------------------------------------------------


def test_the_page_of_the_search_says_that_all_pre_tokenizers_survive() -> None:
    page = (ROOT / "docs" / "tokenizer-limits.md").read_text(encoding="utf-8")
    assert f"llama-cpp-python {importlib.metadata.version('llama-cpp-python')}," in page, "run scripts/tokenizer-limits"
    table = page.partition("| pre-tokenizers |")[2].partition("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    for names, dies_from, kinds, survived, same in rows:
        n, _, whole = survived.partition(" of ")
        assert n == whole and same == "yes", names
        assert (dies_from == "none") == (kinds == "0"), names
        assert kinds == "0" or not RECURSION_FREE & set(names.split(", ")), names
    assert {name for names, *_ in rows for name in names.split(", ")} >= RECURSION_FREE
