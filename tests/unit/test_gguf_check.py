"""The check of a model file: what it reads from a good one, and that it refuses each kind of bad one politely."""

import os
import random
import struct
from pathlib import Path
from typing import Any

import pytest

from edge_sir.errors import ModelFileError
from edge_sir.llama.gguf.check import check_model_file
from edge_sir.llama.gguf.header import ArrayInfo, GGUFHeader, RopeScaling
from edge_sir.llama.gguf.reader import read_header
from tests.tiny_gguf import (
    CHATML,
    N_VOCAB,
    bpe_tokenizer,
    vocabulary,
    write_gemma3,
    write_gguf,
    write_header_only,
    write_llama,
)

TEXTS = vocabulary()[0]
N_LAST_TENSOR_BYTES = 4 * 64 * N_VOCAB  # output.weight of the tiny llama, in float32


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("good") / "llama.gguf")


@pytest.fixture(scope="module")
def good(llama: Path) -> bytes:
    return llama.read_bytes()


def refusal(path: Path) -> str:
    """The message with which the file is refused, without its name."""
    with pytest.raises(ModelFileError) as caught:
        check_model_file(path)
    message = str(caught.value)
    assert len(message.splitlines()) == 1 and message.isprintable()
    assert message.startswith(str(path))
    rest = message.removeprefix(str(path)).removeprefix(":").removeprefix(" ")
    problem, _, remedy = rest.rpartition("; ")
    assert problem and remedy
    return rest


def refusal_of(content: bytes, folder: Path) -> str:
    path = folder / "bad.gguf"
    path.write_bytes(content)
    return refusal(path)


def patched(content: bytes, after: bytes, skip: int, new: bytes) -> bytes:
    """`content` with `new` written `skip` bytes behind the first occurrence of `after`."""
    start = content.index(after) + len(after) + skip
    return content[:start] + new + content[start + len(new) :]


def n_header_bytes(content: bytes) -> int:
    return content.index(b"output.weight") + len(b"output.weight") + 4 + 2 * 8 + 4 + 8


class TestGoodFiles:
    def test_llama(self, llama: Path) -> None:
        header = check_model_file(llama)
        assert (header.path, header.size_bytes, header.version) == (llama, llama.stat().st_size, 3)
        assert (header.architecture, header.name, header.file_type) == ("llama", "tiny llama", 0)
        assert (header.n_layer, header.n_embd, header.n_ctx_train) == (2, 64, 512)
        assert (header.n_head, header.n_head_kv) == ((4, 4), (2, 2))
        assert (header.head_dim_k, header.head_dim_v, header.rope_dim) == (16, 16, 16)
        assert (header.n_swa, header.rope_scaling) == (0, RopeScaling("none", 1.0))
        assert (header.tokenizer_model, header.n_vocab, header.chat_template) == ("llama", N_VOCAB, CHATML)
        assert header.n_tensors == 3 + 2 * 9

    def test_gemma3(self, tmp_path: Path) -> None:
        header = check_model_file(write_gemma3(tmp_path / "gemma.gguf", n_swa=32, chat_template=None))
        assert (header.architecture, header.n_swa, header.chat_template) == ("gemma3", 32, None)
        assert (header.head_dim_k, header.head_dim_v, header.rope_dim) == (32, 32, 32)

    def test_yarn(self, tmp_path: Path) -> None:
        header = check_model_file(write_llama(tmp_path / "yarn.gguf", rope_scaling=("yarn", 4.0)))
        assert header.rope_scaling == RopeScaling("yarn", 4.0)

    def test_heads_per_layer(self, tmp_path: Path) -> None:
        metadata = {"llama.attention.head_count": [4, 8], "llama.attention.head_count_kv": [0, 2]}
        header = check_model_file(write_llama(tmp_path / "layers.gguf", metadata=metadata))
        assert (header.n_head, header.n_head_kv) == ((4, 8), (0, 2))
        assert header.kv_bytes_per_cell(2.0, 1.0) == 2 * (16 * 2.0 + 16 * 1.0)

    def test_head_count_kv_defaults_to_head_count(self, tmp_path: Path) -> None:
        header = read_header(write_llama(tmp_path / "mha.gguf", metadata={"llama.attention.head_count_kv": None}))
        assert header.n_head_kv == (4, 4)

    def test_recurrent_models_are_not_refused(self, tmp_path: Path) -> None:
        heads = {"mamba.attention.head_count": None, "mamba.attention.head_count_kv": None}
        tokens = {"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": TEXTS}
        header = check_model_file(write_header_only(tmp_path / "mamba.gguf", "mamba", heads | tokens))
        assert (header.n_head, header.kv_bytes_per_cell(2.0, 2.0)) == ((0,), 0.0)

    def test_long_arrays_are_kept_as_lengths(self, llama: Path) -> None:
        metadata = read_header(llama).metadata
        tokens = metadata["tokenizer.ggml.tokens"]
        assert isinstance(tokens, ArrayInfo) and tokens.n == N_VOCAB
        assert metadata["llama.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-6)

    def test_fingerprint_depends_on_content_only(self, llama: Path, good: bytes, tmp_path: Path) -> None:
        copy = tmp_path / "copy.gguf"
        copy.write_bytes(good)
        assert read_header(copy).fingerprint == read_header(llama).fingerprint
        copy.write_bytes(good + b"\0")
        assert read_header(copy).fingerprint != read_header(llama).fingerprint
        other_name = write_llama(tmp_path / "other.gguf", metadata={"general.name": "TINY llama"})
        assert read_header(other_name).fingerprint != read_header(llama).fingerprint

    def test_read_header_judges_only_the_form(self, tmp_path: Path) -> None:
        path = write_header_only(tmp_path / "bert.gguf", "bert")
        assert read_header(path).architecture == "bert"
        assert "embedding model" in refusal(path)


class TestNotAFile:
    def test_missing(self, tmp_path: Path) -> None:
        assert "does not exist" in refusal(tmp_path / "no.gguf")

    def test_directory(self, tmp_path: Path) -> None:
        assert "is a directory" in refusal(tmp_path)

    def test_empty(self, tmp_path: Path) -> None:
        assert "is empty" in refusal_of(b"", tmp_path)

    def test_pipe(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        assert "not a regular file" in refusal(tmp_path / "pipe")

    def test_unreadable(self, llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: Any, **__: Any) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", refuse)
        assert "Permission denied" in refusal(llama)

    def test_a_strange_name_stays_on_one_line(self, tmp_path: Path) -> None:
        with pytest.raises(ModelFileError) as caught:
            check_model_file(tmp_path / "a\nb\u2028c")
        assert str(caught.value).isprintable() and "a\\nb\\u2028c" in str(caught.value)


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (struct.pack("<Q", 40) + b'{"__metadata__": {}}', "safetensors"),
        (b"PK\x03\x04archive/data.pkl", "PyTorch"),
        (b"\x80\x02\x8a\nl\xfc\x9cF", "PyTorch"),
        (b"\n <!DOCTYPE html><html>", "HTML"),
        (b"version https://git-lfs\noid sha256:0\nsize 1\n", "git-lfs"),
        (b'{"error": "not found"}', "JSON"),
        (b"tjgg\x03\0\0\0", "before GGUF"),
        (b"\0" * 64, "is not a GGUF file;"),
        (b"GGU", "is not a GGUF file;"),
    ],
)
def test_foreign_files_are_named(start: bytes, kind: str, tmp_path: Path) -> None:
    assert kind in refusal_of(start, tmp_path)


@pytest.mark.parametrize(
    ("content", "line"),
    [(b"# A page", "bad.gguf is not a GGUF file;"), (b"GGUF\3", "bad.gguf: the file of 5 bytes ends")],
)
def test_a_colon_stands_before_a_sentence_only(content: bytes, line: str, tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(content)
    with pytest.raises(ModelFileError) as caught:
        check_model_file(tmp_path / "bad.gguf")
    assert line in str(caught.value)


class TestDamage:
    @pytest.mark.parametrize(
        ("version", "problem"),
        [
            (struct.pack("<I", 1), "version 1"),
            (struct.pack("<I", 4), "version 4"),
            (struct.pack(">I", 3), "big-endian"),
        ],
    )
    def test_version(self, version: bytes, problem: str, good: bytes, tmp_path: Path) -> None:
        assert problem in refusal_of(patched(good, b"GGUF", 0, version), tmp_path)

    def test_truncated_header(self, good: bytes, tmp_path: Path) -> None:
        n = n_header_bytes(good)
        for length in [*range(4, 64), *range(64, n, 101), n - 1]:
            message = refusal_of(good[:length], tmp_path)
            assert "truncated" in message or "more than fit into the file" in message

    @pytest.mark.parametrize("n_missing", [1, N_LAST_TENSOR_BYTES - 1, N_LAST_TENSOR_BYTES + 1, 300_000])
    def test_truncated_data(self, n_missing: int, good: bytes, tmp_path: Path) -> None:
        message = refusal_of(good[:-n_missing], tmp_path)
        assert f"{len(good)} bytes are expected and {len(good) - n_missing} are present" in message

    @pytest.mark.parametrize("at", [8, 16])
    @pytest.mark.parametrize("count", [1 << 20, 1 << 40, (1 << 64) - 1])
    def test_absurd_counts(self, at: int, count: int, good: bytes, tmp_path: Path) -> None:
        damaged = good[:at] + struct.pack("<Q", count) + good[at + 8 :]
        assert "more than fit into the file" in refusal_of(damaged, tmp_path)

    @pytest.mark.parametrize("n", [1 << 24, 1 << 40, (1 << 64) - 1])
    @pytest.mark.parametrize("key", [b"tokenizer.ggml.tokens", b"tokenizer.ggml.scores"])
    def test_absurd_array_length(self, n: int, key: bytes, good: bytes, tmp_path: Path) -> None:
        damaged = patched(good, key, 8, struct.pack("<Q", n))
        assert f"ends inside {key.decode()}" in refusal_of(damaged, tmp_path)

    @pytest.mark.parametrize("n", [1 << 24, (1 << 64) - 1])
    def test_absurd_string_length(self, n: int, good: bytes, tmp_path: Path) -> None:
        assert "ends inside general.name" in refusal_of(
            patched(good, b"general.name", 4, struct.pack("<Q", n)), tmp_path
        )

    def test_duplicate_key(self, good: bytes, tmp_path: Path) -> None:
        assert "'general.type' occurs twice" in refusal_of(good.replace(b"general.name", b"general.type"), tmp_path)

    @pytest.mark.parametrize(
        ("after", "skip", "new", "problem"),
        [
            (b"general.name", 0, struct.pack("<I", 13), "unknown type 13"),
            (b"tokenizer.ggml.tokens", 4, struct.pack("<I", 9), "unknown type 9"),
            (b"output.weight", 0, struct.pack("<I", 5), "has 5 dimensions"),
            (b"output.weight", 4, struct.pack("<Q", 0), "impossible shape"),
            (b"output.weight", 4, struct.pack("<Q", 1 << 63), "impossible shape"),
            (b"output.weight", 20, struct.pack("<I", 4), "unknown type 4"),
            (b"output.weight", 20, struct.pack("<I", 999), "unknown type 999"),
            (b"output.weight", 20, struct.pack("<I", 26), "cannot be computed with"),
            (b"output.weight", 20, struct.pack("<I", 12), "multiple of 256"),
            (b"output_norm.weight", 16, struct.pack("<Q", 1), "starts at byte 1 instead of"),
            (b"output_norm.weight", 16, struct.pack("<Q", 0), "starts at byte 0 instead of"),
        ],
    )
    def test_structure(self, after: bytes, skip: int, new: bytes, problem: str, good: bytes, tmp_path: Path) -> None:
        assert problem in refusal_of(patched(good, after, skip, new), tmp_path)

    def test_duplicate_tensor(self, good: bytes, tmp_path: Path) -> None:
        damaged = good.replace(b"blk.1.attn_q.weight", b"blk.1.attn_k.weight")
        assert "bad or repeated name, 'blk.1.attn_k.weight'" in refusal_of(damaged, tmp_path)

    def test_bit_flips_raise_nothing_else(self, good: bytes, tmp_path: Path) -> None:
        draw = random.Random(0)
        n_refused = 0
        for _ in range(500):
            damaged = bytearray(good)
            damaged[draw.randrange(n_header_bytes(good))] ^= 1 << draw.randrange(8)
            path = tmp_path / "flipped.gguf"
            path.write_bytes(damaged)
            try:
                assert isinstance(check_model_file(path), GGUFHeader)
            except ModelFileError:
                n_refused += 1
                refusal(path)
        assert 100 < n_refused < 500


HYPERPARAMETERS: list[tuple[dict[str, Any], str]] = [
    ({"llama.block_count": None}, "block_count should be a whole number but is missing"),
    ({"llama.block_count": 0}, "block_count is 0"),
    ({"llama.block_count": 513}, "block_count is 513"),
    ({"llama.block_count": "two"}, "block_count should be a whole number but is 'two'"),
    ({"llama.block_count": 2.0}, "block_count should be a whole number"),
    ({"llama.block_count": True}, "block_count should be a whole number"),
    ({"llama.embedding_length": None}, "embedding_length"),
    ({"llama.embedding_length": 0}, "embedding_length is 0"),
    ({"llama.embedding_length": 1 << 31}, "embedding_length is"),
    ({"llama.context_length": None}, "context_length"),
    ({"llama.context_length": 0}, "context_length is 0"),
    ({"llama.context_length": (1 << 32) - 1}, "context_length is"),
    ({"llama.attention.head_count": None}, "head_count is missing or 0"),
    ({"llama.attention.head_count": 0}, "head_count is missing or 0"),
    ({"llama.attention.head_count": [4, 4, 4]}, "2 whole numbers, one per layer"),
    ({"llama.attention.head_count": 65, "llama.attention.head_count_kv": 65}, "layer 0 cannot share"),
    ({"llama.attention.head_count_kv": 0}, "head_count is missing or 0"),
    ({"llama.attention.head_count_kv": 3}, "cannot share 3 key/value heads among 4 heads"),
    ({"llama.attention.head_count_kv": [2, 3]}, "layer 1 cannot share"),
    ({"llama.attention.key_length": 0}, "0 (keys)"),
    ({"llama.attention.value_length": 0}, "0 (values)"),
    ({"llama.attention.layer_norm_rms_epsilon": -1e-6}, "epsilon is negative"),
    ({"llama.attention.layer_norm_rms_epsilon": float("nan")}, "epsilon should be a finite number"),
    ({"llama.rope.dimension_count": 15}, "15 of the 16 dimensions"),
    ({"llama.rope.dimension_count": 18}, "18 of the 16 dimensions"),
    ({"llama.rope.dimension_count": 0}, "0 of the 16 dimensions"),
    ({"llama.rope.dimension_count_swa": 7}, "7 of the 16 dimensions"),
    ({"llama.rope.scaling.type": "su"}, "'su' is unknown"),
    ({"llama.rope.scaling.factor": -2.0}, "factor is -2.0"),
    ({"llama.rope.freq_base": 0.0}, "freq_base is not positive"),
    ({"llama.nextn_predict_layers": 3}, "nextn_predict_layers exceeds"),
    ({"llama.full_attention_interval": 0}, "full_attention_interval is 0"),
    ({"llama.attention.sliding_window": 8, "llama.attention.sliding_window_pattern": 1}, "does not mix layers"),
    ({"llama.attention.sliding_window": 8, "llama.attention.sliding_window_pattern": [True, True]}, "does not mix"),
    ({"llama.expert_count": 8, "llama.expert_used_count": 9}, "9 of 8 experts"),
    ({"llama.expert_count": 8}, "0 of 8 experts"),
    ({"llama.expert_used_count": 2}, "2 of 0 experts"),
    ({"llama.expert_count": 1025, "llama.expert_used_count": 2}, "2 of 1025 experts"),
    ({"llama.expert_count": 8, "llama.expert_used_count": 2, "llama.expert_group_count": 3}, "in 3 groups"),
    ({"general.alignment": 33}, "general.alignment should be a power of two"),
    ({"general.alignment": 16}, "general.alignment should be a power of two"),
    ({"general.alignment": "32"}, "general.alignment should be a power of two"),
]
VOCABULARIES: list[tuple[dict[str, Any], str]] = [
    ({"tokenizer.ggml.tokens": None}, "tokens is missing"),
    ({"tokenizer.ggml.tokens": [1, 2]}, "is not a list of texts"),
    ({"tokenizer.ggml.tokens": TEXTS[:-1]}, "does not hold one value for each"),
    ({"tokenizer.ggml.tokens": [*TEXTS[:-1], "<s>"]}, "several tokens of the vocabulary are the same"),
    ({"tokenizer.ggml.tokens": [*TEXTS[:-1], "<s>\0x"]}, "several tokens of the vocabulary are the same"),
    ({"tokenizer.ggml.tokens": [t.replace("<0x0A>", "<0x0a>") for t in TEXTS]}, "no token for byte 10"),
    ({"tokenizer.ggml.scores": [0.0] * 3}, "scores does not hold one value"),
    ({"tokenizer.ggml.token_type": [1] * (N_VOCAB + 1)}, "token_type does not hold one value"),
    ({"tokenizer.ggml.token_type": "no"}, "token_type does not hold one value"),
    ({"tokenizer.ggml.bos_token_id": N_VOCAB}, f"bos_token_id is {N_VOCAB} but there are {N_VOCAB} tokens"),
    ({"tokenizer.ggml.eos_token_id": (1 << 32) - 1}, "eos_token_id is 4294967295"),
    ({"tokenizer.ggml.model": None}, "tokenizer.ggml.model '' is missing"),
    ({"tokenizer.ggml.model": "bert"}, "'bert' is missing or cannot be used"),
    ({"tokenizer.ggml.model": "none"}, "'none' is missing or cannot be used"),
    (bpe_tokenizer("whitespace"), "'whitespace' does not go with tokenizer.ggml.model 'gpt2'"),
    ({"tokenizer.ggml.pre": 3}, "tokenizer.ggml.pre should be a text"),
    ({"tokenizer.chat_template": 5}, "tokenizer.chat_template should be a text"),
]
PURPOSES: list[tuple[dict[str, Any], str]] = [
    ({"general.type": "adapter"}, "LoRA adapter"),
    ({"general.type": "imatrix"}, "importance matrix"),
    ({"general.type": "mmproj"}, "projector"),
    ({"llama.pooling_type": 1}, "is an embedding model and cannot chat"),
    ({"llama.pooling_type": 0, "llama.attention.causal": False}, "without causal attention and cannot chat"),
    ({"split.count": 3}, "split.no should be a whole number but is missing"),
    ({"split.count": 3, "split.no": 0}, "split.no is not a 16-bit number"),
]


@pytest.mark.parametrize(("metadata", "problem"), HYPERPARAMETERS + VOCABULARIES + PURPOSES)
def test_metadata(metadata: dict[str, Any], problem: str, tmp_path: Path) -> None:
    assert problem in refusal(write_llama(tmp_path / "odd.gguf", metadata=metadata))


@pytest.mark.parametrize(
    ("arch", "kind"),
    [
        *(
            (arch, "an embedding model")
            for arch in ("bert", "nomic-bert", "modern-bert", "gemma-embedding", "t5encoder")
        ),
        ("clip", "projector"),
        ("wavtokenizer-dec", "an audio model"),
        ("dream", "a diffusion model"),
        ("t5", "an encoder-decoder model"),
        ("no-such-arch", "unknown architecture 'no-such-arch'"),
        ("", "unknown architecture ''"),
    ],
)
def test_architectures_that_cannot_chat(arch: str, kind: str, tmp_path: Path) -> None:
    assert kind in refusal(write_header_only(tmp_path / "odd.gguf", arch))


def test_a_bare_vocabulary(tmp_path: Path) -> None:
    metadata = {"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": TEXTS}
    assert "no weights" in refusal(write_gguf(tmp_path / "vocab.gguf", "llama", metadata, {}))
