"""The queue against a naive twin in plain Python lists."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sir.core.ledger import COLUMNS, ROLES
from edge_sir.session.pending import Borders, PendingTokens, no_borders

quick = settings(deadline=None, max_examples=80)
FRAME, USER = ROLES.index("frame"), ROLES.index("user")

# ---- what waits --------------------------------------------------------------------------------

queue_operations = st.lists(
    st.one_of(
        st.just(("message", [], 0)),
        st.tuples(st.just("feed"), st.lists(st.booleans(), max_size=6), st.sampled_from([FRAME, USER])),
        st.tuples(st.just("drop"), st.just([]), st.integers(0, 6)),
    ),
    max_size=15,
)


@quick
@given(queue_operations)
def test_the_queue_does_what_a_list_does(todo: list[tuple[str, list[bool], int]]) -> None:
    queue, twin, message, fed = PendingTokens(), [], 0, 0
    for kind, ends, number in todo:
        if kind == "message":
            queue.start_message()
            message += 1
        elif kind == "feed":
            tokens = list(range(fed, fed + len(ends)))
            queue.feed(tokens, number, message + 1, bool(number), Borders(np.array(ends, bool), np.array(ends, bool)))
            twin += [(t, number, bool(number), message, message + 1) for t in tokens]
            fed += len(ends)
        else:
            queue.drop(min(number, len(twin)))
            twin = twin[number:]
        names = ("token", "role", "pinned", "message", "turn")
        columns = queue.head(len(queue))
        assert list(zip(*(columns[name].tolist() for name in names), strict=True)) == twin
        n = len(twin) // 2
        assert queue.targets(n).tolist() == [row[0] for row in twin[1 : n + 1]]
    known = [row[0] for row in twin[1:]]
    assert queue.targets(len(twin)).tolist() == ([*known, -1] if twin else [])
    queue.clear()
    assert len(queue) == 0


def test_the_queue_has_the_types_of_the_ledger() -> None:
    queue = PendingTokens()
    queue.feed([1, 2], USER, 1, True, no_borders(np.zeros(2, np.int32)))
    declared = dict(COLUMNS)
    assert all(column.dtype == declared[name] for name, column in queue.head(1).items())


def texts_by(name: str, queue: PendingTokens, text: str | None = None) -> list[str]:
    """The text of each number in a column, in order; a token is a character's code, or of `text` its place."""
    columns = queue.head(len(queue))
    chars = text if text is not None else map(chr, columns["token"])
    found: dict[int, str] = {}
    for char, number in zip(chars, columns[name].tolist(), strict=True):
        found[number] = found.get(number, "") + char
    assert list(found) == sorted(found)
    return list(found.values())


def sentences_of(*messages: str) -> list[str]:
    """Feeds messages spelled as text, `[` and `]` being markers; returns the text of each sentence number."""
    queue = PendingTokens()
    for message in messages:
        queue.start_message()
        for char in message:
            role = FRAME if char in "[]" else USER
            queue.feed([ord(char)], role, 0, False, Borders(np.array([char in ".]"]), np.ones(1, bool)))
    return texts_by("sentence", queue)


@pytest.mark.parametrize(
    ("messages", "sentences"),
    [
        (["[ab.cd.]"], ["[ab.", "cd.]"]),
        (["[ab]"], ["[ab]"]),
        (["[ab.]", "[cd]"], ["[ab.]", "[cd]"]),
        (["[ab]", "[c.d]"], ["[ab]", "[c.", "d]"]),
        (["[]", "[a]"], ["[]", "[a]"]),
        (["[]]a.]]b.]"], ["[]]a.]]", "b.]"]),  # markers never start a sentence, what follows them may
        (["ab.", "cd"], ["ab.", "cd"]),
    ],
)
def test_markers_belong_to_the_sentences_of_their_message(messages: list[str], sentences: list[str]) -> None:
    assert sentences_of(*messages) == sentences


@quick
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=20), st.data())
def test_numbers_do_not_depend_on_how_a_message_is_fed(tokens: list[tuple[bool, bool]], data: st.DataObject) -> None:
    """Generated tokens come one by one, a user's message at once."""
    role = data.draw(st.sampled_from([FRAME, USER]))
    cut = data.draw(st.integers(0, len(tokens)))
    ends, starts = np.array(tokens).T
    whole, parts = PendingTokens(), PendingTokens()
    for queue, pieces in ((whole, [slice(None)]), (parts, [slice(cut), slice(cut, None)])):
        queue.start_message()
        for piece in pieces:
            queue.feed(np.zeros(len(ends[piece])), role, 0, False, Borders(ends[piece], starts[piece]))
    for name in ("sentence", "word"):
        assert whole.head(99)[name].tolist() == parts.head(99)[name].tolist()


def words_of(*messages: str) -> list[str]:
    """As `sentences_of`, the text of each word number."""
    queue = PendingTokens()
    for message in messages:
        queue.start_message()
        for role, chars in itertools.groupby(message, lambda char: FRAME if char in "[]" else USER):
            tokens = np.array([ord(char) for char in chars])
            starts = np.array([not chr(token).isalpha() for token in tokens])
            queue.feed(tokens, role, 0, False, Borders(np.zeros(len(tokens), bool), starts))
    return texts_by("word", queue)


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        (["ab cd"], ["ab", " cd"]),
        (["[ab]"], ["[", "ab", "]"]),
        (["[]]a"], ["[", "]", "]", "a"]),  # each marker is one
        (["ab]cd"], ["ab", "]", "cd"]),
        (["ab", "cd"], ["ab", "cd"]),  # no word goes on in the next message
        (["a" * 40 + " b"], ["a" * 16, "a" * 16, "a" * 8, " b"]),
        ([" " + "a" * 16], [" " + "a" * 15, "a"]),
    ],
)
def test_words(messages: list[str], words: list[str]) -> None:
    assert words_of(*messages) == words
