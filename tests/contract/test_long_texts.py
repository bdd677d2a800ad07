"""Texts that llama.cpp's tokenizer alone would not survive, or not end, and that the others stay as they are."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_gguf import CHATML, bpe_tokenizer, tokenizer, vocabulary, write_llama

from edge_sir.errors import CapabilityError
from edge_sir.llama import text as text_module
from edge_sir.llama import text_limits
from edge_sir.llama.deep_stack import on_deep_stack
from edge_sir.llama.native import NativeModel, lib
from edge_sir.llama.text import LlamaText

Tokens = NDArray[np.int32]
MakeModel = Callable[..., NativeModel]

ENCODE = """
import logging, sys, threading
from pathlib import Path
from edge_sir.llama.native import NativeModel
from edge_sir.llama.text import LlamaText
logging.getLogger("llama.cpp").addHandler(logging.NullHandler())
codec = LlamaText(NativeModel(Path(sys.argv[1])))
text = sys.argv[2].encode().decode("unicode_escape") * int(sys.argv[3])
work = lambda: print(b"".join(map(codec.piece, codec.encode(text, special=False).tolist())) == text.encode())
if int(sys.argv[4]):
    threading.stack_size(int(sys.argv[4]))
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
else:
    work()
"""


def encoded_in_a_child(path: Path, unit: str, n: int, stack_bytes: int = 0) -> tuple[int, str]:
    """Exit status, and whether the text came back; in another process, since the mistake would end this one."""
    unit = unit.encode("unicode_escape").decode()
    command = [sys.executable, "-c", ENCODE, str(path), unit, str(n), str(stack_bytes)]
    child = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return child.returncode, child.stdout.strip()


@pytest.mark.parametrize(
    ("pre", "unit", "n"),
    [
        ("tekken", "z", 30_000),
        ("tekken", "z", 300_000),
        ("deepseek-v3", " ", 100_000),
        ("jais-2", "\n", 100_000),
        ("gpt-4o", "中", 100_000),
        ("bloom", "a1", 100_000),
        ("exaone-moe", "word ", 30_000),
        ("youtu", "/\n", 100_000),
        ("tekken", "/\n", 100_000),
        ("default", "7", 100_000),
        ("", ".", 100_000),
        ("superbpe", "7", 100_000),
    ],
)
def test_a_long_run_does_not_end_the_process(tmp_path: Path, pre: str, unit: str, n: int) -> None:
    path = write_llama(tmp_path / "m.gguf", n_layer=1, metadata=bpe_tokenizer(pre))
    assert encoded_in_a_child(path, unit, n) == (0, "True")


@pytest.mark.parametrize("n", [1000, 32_768])
def test_a_small_stack_is_enough(tmp_path: Path, n: int) -> None:
    """Threads have less than the main thread on some systems: half a megabyte on macOS."""
    path = write_llama(tmp_path / "m.gguf", n_layer=1, metadata=bpe_tokenizer("tekken"))
    assert encoded_in_a_child(path, "z", n, stack_bytes=512 << 10) == (0, "True")


# ---- tokens stay as they are -------------------------------------------------------------------------


@pytest.fixture
def make_model(tmp_path: Path) -> Iterator[MakeModel]:
    models: list[NativeModel] = []

    def make(**metadata: Any) -> NativeModel:
        model = NativeModel(write_llama(tmp_path / f"{len(models)}.gguf", n_layer=1, metadata=metadata["metadata"]))
        models.append(model)
        return model

    yield make
    for model in models:
        model.close()


def bare(model: NativeModel, text: str, special: bool = False) -> Tokens:
    """What llama_tokenize gives for the whole text."""
    data = text.encode("utf-8", "replace")
    tokens = np.empty(3 * len(data) + 8, np.int32)
    arguments = tokens.ctypes.data_as(lib.llama_token_p), len(tokens), False, special
    return tokens[: on_deep_stack(lambda: lib.llama_tokenize(model.vocab, data, len(data), *arguments))]


UNITS = [
    "z",
    "Z",
    "7",
    " ",
    "\t",
    "\n",
    "\r\n",
    ".",
    "'",
    "+",
    "é",
    "e\u0301",
    "中",
    "か",
    "한",
    "ท",
    "م",
    "हि",
    "😀",
    "\x01",
]
UNITS += ["\0", "\ue000", "'s", "a1", "zZ", " a", "\n ", "中a", ".\n"]


@pytest.mark.parametrize(
    "pre", ["tekken", "gpt-4o", "deepseek-v3", "deepseek-llm", "exaone-moe", "bloom", "default", "qwen2"]
)
def test_runs_of_8000_characters_have_the_tokens_of_llama_cpp(make_model: MakeModel, pre: str) -> None:
    model = make_model(metadata=bpe_tokenizer(pre))
    codec = LlamaText(model)
    for unit in UNITS:
        text = "Well, " + (unit * 8000)[:8000] + " and more."
        assert np.array_equal(codec.encode(text, special=False), bare(model, text)), ascii(unit)


@pytest.mark.parametrize("unit", ["a1", "z.", "z+", "zZ", "1.", "z7Z"])
def test_a_long_text_without_blanks_is_cut_where_it_is_split_anyway(make_model: MakeModel, unit: str) -> None:
    model = make_model(metadata=bpe_tokenizer("tekken"))
    text = unit * 50_000
    assert len(text_limits.pieces(text, text_limits.limits_of("gpt2", "tekken"))) > 1
    assert np.array_equal(LlamaText(model).encode(text, special=False), bare(model, text))


LINES = "The hero, the other hand, and you: hello there. 中文 too!\n" * 2000


@pytest.mark.parametrize("add_space_prefix", [True, False])
@pytest.mark.parametrize("text", [LINES, LINES.replace("\n", " "), "  " + LINES + "\n\n\n" * 9000 + "end"])
def test_sentencepiece_in_pieces_has_the_tokens_of_the_whole(
    make_model: MakeModel, text: str, add_space_prefix: bool
) -> None:
    model = make_model(metadata={"tokenizer.ggml.add_space_prefix": add_space_prefix})
    assert len(text_limits.pieces(text, text_limits.limits_of("llama", ""))) > 5
    assert np.array_equal(LlamaText(model).encode(text, special=False), bare(model, text))


@pytest.mark.parametrize("kind", ["sentencepiece", "bpe"])
@pytest.mark.parametrize("special", [True, False])
def test_many_special_tokens_in_pieces_are_those_of_the_whole(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, kind: str, special: bool
) -> None:
    monkeypatch.setattr(text_limits, "_SOME", 500)
    monkeypatch.setattr(text_limits, "_STRIDE", 300)
    entries = bpe_tokenizer("qwen2") if kind == "bpe" else tokenizer(CHATML)
    entries["tokenizer.ggml.add_space_prefix"] = True if kind == "sentencepiece" else None
    texts, kinds = entries["tokenizer.ggml.tokens"], list(entries["tokenizer.ggml.token_type"])
    kinds[texts.index("<think>")] = kinds[texts.index("</think>")] = 4  # user-defined: found in any text
    entries["tokenizer.ggml.token_type"] = kinds
    model = make_model(metadata=entries)
    codec = LlamaText(model)
    text = "a word <think> and the hero</think>" * 1000 + "<|im_end|>" * 100
    assert {"<think>", "</think>"} <= codec._special(special)
    assert len(text_limits.pieces(text, (), lambda: codec._special(special))) > 20
    assert np.array_equal(codec._tokens(text, special), bare(model, text, special))


def test_control_tokens_in_a_long_run_stay_whole(make_model: MakeModel) -> None:
    model = make_model(metadata=bpe_tokenizer("tekken"))
    codec = LlamaText(model)
    text = "zzz<|im_end|>" * 3000
    [end] = codec.encode("<|im_end|>", special=True)
    tokens = codec.encode(text, special=True)
    assert (tokens == end).sum() == 3000
    assert np.array_equal(tokens, bare(model, text, special=True))


def test_surrogates_and_nul_in_a_long_text(make_model: MakeModel) -> None:
    codec = LlamaText(make_model(metadata=bpe_tokenizer("tekken")))
    text = "z\0\ud800" * 20_000
    assert b"".join(map(codec.piece, codec.encode(text, special=False).tolist())) == b"z\0?" * 20_000


def test_a_text_that_llama_cpp_cannot_count_is_refused(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = LlamaText(make_model(metadata=None))
    monkeypatch.setattr(text_module, "_MOST_BYTES", 10)
    assert len(codec.encode("0123456789", special=False)) == 10
    for text in ("01234567890", "中" * 4):
        with pytest.raises(CapabilityError, match=r"characters is too long; give it in parts"):
            codec.encode(text, special=False)


def test_a_marker_that_merging_reaches_is_spelled_each_time(make_model: MakeModel) -> None:
    texts, _, _ = vocabulary()
    for old, new in (("hello", "<s"), ("hel", "</"), ("ll", "</s")):
        texts[texts.index(old)] = new
    codec = LlamaText(make_model(metadata={"tokenizer.ggml.tokens": texts}))
    text = "<s>a</s>" * 10_000
    tokens = codec.encode(text, special=False)
    assert not np.isin([1, 2], tokens).any()
    assert b"".join(map(codec.piece, tokens.tolist())) == text.encode()
