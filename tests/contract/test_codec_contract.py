"""What every tokenizer must do: bytes come back as they went in, and nobody can type a control token."""

import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engines import param
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_sir.engine import TextCodec
from edge_sir.testing import ByteTokenizer

UNSPEAKABLE = "▁\x04\x06\x13\x14\x16\x1d"
"""SentencePiece's sign for a blank, which it cannot tell from one, and bytes that SmolLM2 has no token for.

It has none for the planes 4 to 11 either, where nothing is assigned.
"""

TEXTS = {
    "plain": "Hello, and you?",
    "umlauts": "Grüße aus Köln, naïve façade",
    "scripts": "Привет мир · 你好，世界 · こんにちは · مرحبا · שלום · हिन्दी · ไทย",
    "emoji": "👋🏽 👩‍👩‍👧‍👦 🏳️‍🌈 ❤️",
    "NUL": "a\0b\0\0c",
    "newlines": "one\ntwo\r\nthree\n\n\n  four\ttab",
    "blanks": "  leading, inner   and trailing  ",
    "control characters": "\x01\x02 \x1b[1m \x7f",
    "combining": "e\u0301 a\u0308 \u200b\u200d\ufeff",
    "rare planes": "\U0001d54f \U00020000 \U0010ffff",
    "code": "def f(x):\n    return {'a': [x ** 2, 1e-9]}  # <b>&amp;</b>",
}


def control_tokens(name: str, request: pytest.FixtureRequest) -> list[str]:
    """The texts of all control tokens of the vocabulary."""
    if name == "bytes":
        return list(ByteTokenizer.SPECIALS)
    from edge_sir.llama.native import lib

    model = request.getfixturevalue(name)
    ids = [i for i in range(model.n_vocab) if lib.llama_vocab_is_control(model.vocab, i)]
    return [lib.llama_vocab_get_text(model.vocab, i).decode() for i in ids]


def codec_of(name: str, request: pytest.FixtureRequest) -> TextCodec:
    if name == "bytes":
        return ByteTokenizer()
    from edge_sir.llama.text import LlamaText

    return LlamaText(request.getfixturevalue(name))


@pytest.fixture(params=["bytes", "tiny_llama", param("smollm2")])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def codec(name: str, request: pytest.FixtureRequest) -> TextCodec:
    return codec_of(name, request)


def spelled(codec: TextCodec, tokens: Any) -> bytes:
    return b"".join(codec.piece(int(token)) for token in tokens)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_text_comes_back_byte_for_byte(codec: TextCodec, text: str) -> None:
    assert spelled(codec, codec.encode(text, special=False)) == text.encode()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(exclude_characters=UNSPEAKABLE, exclude_categories=["Cs", "Cn"]), max_size=40))
def test_any_text_comes_back(codec: TextCodec, text: str) -> None:
    assert spelled(codec, codec.encode(text, special=False)) == text.encode()


@pytest.mark.parametrize("special", [True, False])
def test_a_lone_surrogate_becomes_a_question_mark(codec: TextCodec, special: bool) -> None:
    assert spelled(codec, codec.encode("a\ud800b\udfff", special=special)) == b"a?b?"


@pytest.mark.parametrize("special", [True, False])
def test_empty_text_has_no_tokens(codec: TextCodec, special: bool) -> None:
    tokens = codec.encode("", special=special)
    assert tokens.shape == (0,)
    assert tokens.dtype == np.int32


def test_encoding_adds_nothing_and_is_the_callers(codec: TextCodec) -> None:
    first = codec.encode("Hello", special=False)
    assert codec.bos not in first
    first[:] = 0
    assert spelled(codec, codec.encode("Hello", special=False)) == b"Hello"


@pytest.mark.parametrize("unit", ["word and ", "a", "\n", "é👋"])
def test_100_kb_of_text_come_back(codec: TextCodec, unit: str) -> None:
    text = unit * (100_000 // len(unit.encode()))
    assert spelled(codec, codec.encode(text, special=False)) == text.encode()


def test_text_that_spells_a_control_token_stays_text(
    name: str, codec: TextCodec, request: pytest.FixtureRequest
) -> None:
    names = control_tokens(name, request)
    assert len(names) >= 5
    for marker in names:
        for text in (marker, f"say {marker} twice{marker}", f"\n{marker}\n", marker * 3):
            tokens = codec.encode(text, special=False)
            assert spelled(codec, tokens) == text.encode()
            assert not np.isin(tokens, [codec.encode(m, special=True)[0] for m in names]).any(), text


def test_a_marker_is_one_token_and_prints_nothing(name: str, codec: TextCodec, request: pytest.FixtureRequest) -> None:
    for marker in control_tokens(name, request):
        [token] = codec.encode(marker, special=True)
        assert codec.piece(int(token)) == (marker.encode() if "think" in marker else b"")


def test_markers_and_text_are_told_apart(codec: TextCodec) -> None:
    tokens = codec.encode("<|im_start|>user\nHi<|im_end|>\n", special=True)
    start, end = (int(codec.encode(m, special=True)[0]) for m in ("<|im_start|>", "<|im_end|>"))
    assert tokens[0] == start
    assert (tokens == end).sum() == 1
    assert spelled(codec, tokens) == b"user\nHi\n"
    assert codec.is_end(end)
    assert not codec.is_end(start)
    assert not any(codec.is_end(int(t)) for t in codec.encode(string.printable, special=False))


def test_the_beginning_of_a_stream_is_a_token_or_nothing(codec: TextCodec) -> None:
    assert codec.bos == -1 or codec.encode(codec.bos_text, special=True).tolist() == [codec.bos]


@pytest.fixture
def mergeable_markers(tmp_path: Path) -> TextCodec:
    """A SentencePiece vocabulary in which merging the pieces of `<s>` and `</s>` reaches them."""
    from tiny_gguf import vocabulary, write_llama

    from edge_sir.llama.native import NativeModel
    from edge_sir.llama.text import LlamaText

    texts, _, _ = vocabulary()
    for old, new in (("hello", "<s"), ("hel", "</"), ("ll", "</s")):
        texts[texts.index(old)] = new
    return LlamaText(NativeModel(write_llama(tmp_path / "m.gguf", metadata={"tokenizer.ggml.tokens": texts})))


@pytest.mark.parametrize("marker", ["<s>", "</s>"])
def test_merging_never_ends_in_a_control_token(mergeable_markers: TextCodec, marker: str) -> None:
    [control] = mergeable_markers.encode(marker, special=True)
    for text in (marker, f"a {marker} b"):
        tokens = mergeable_markers.encode(text, special=False)
        assert int(control) not in tokens.tolist()
        assert spelled(mergeable_markers, tokens) == text.encode()
