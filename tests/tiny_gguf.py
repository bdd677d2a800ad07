"""Tiny GGUF models with seeded random weights, written at test time and loadable by llama.cpp.

The tokenizer is a real SentencePiece one with byte fallback, so any text can be encoded. The weights are drawn
wide enough that the next-token distribution is far from flat and depends on the context.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONTROL_TOKENS = ("<|im_start|>", "<|im_end|>", "<think>", "</think>")
# Every merged piece needs its parts in the list: SentencePiece only ever joins two neighbours.
_PIECES = "th he in er an re on at nd ng ▁t ▁a ▁th ▁the ▁an ▁and ing ▁i ▁in ▁s ou ▁y ▁you lo ll hel hello"

Metadata = dict[str, Any]
Tensors = dict[str, NDArray[np.float32]]


def vocabulary() -> tuple[list[str], list[float], list[int]]:
    """The texts, scores and types of all tokens: specials, bytes, control tokens, ASCII, merged pieces."""
    kind = gguf.TokenType
    rows = [("<unk>", 0.0, kind.UNKNOWN), ("<s>", 0.0, kind.CONTROL), ("</s>", 0.0, kind.CONTROL)]
    rows += [(f"<0x{byte:02X}>", 0.0, kind.BYTE) for byte in range(256)]
    rows += [(text, 0.0, kind.CONTROL) for text in CONTROL_TOKENS]
    characters = ["▁", *map(chr, range(0x21, 0x7F))]
    pieces = [*_PIECES.split(), *characters]
    rows += [(text, -float(rank), kind.NORMAL) for rank, text in enumerate(pieces)]
    texts, scores, kinds = zip(*rows, strict=True)
    return list(texts), list(scores), [int(k) for k in kinds]


N_VOCAB = len(vocabulary()[0])


def write_llama(
    path: Path,
    *,
    seed: int = 0,
    n_layer: int = 2,
    n_embd: int = 64,
    n_head: int = 4,
    n_head_kv: int = 2,
    n_ctx_train: int = 512,
    chat_template: str | None = CHATML,
    rope_scaling: tuple[str, float] | None = None,
    metadata: Mapping[str, Any] | None = None,
    tensors_per_part: int = 0,
) -> Path:
    """Write a llama model. `metadata` adds and replaces entries; a value of None leaves an entry out."""
    head_dim, n_ff = n_embd // n_head, 2 * n_embd
    entries = hyperparameters("llama", n_layer, n_embd, n_head, n_head_kv, n_ctx_train, n_ff)
    entries["llama.rope.dimension_count"] = head_dim
    entries |= tokenizer(chat_template)
    if rope_scaling is not None:
        entries["llama.rope.scaling.type"], entries["llama.rope.scaling.factor"] = rope_scaling
        entries["llama.rope.scaling.original_context_length"] = n_ctx_train
    rng = np.random.default_rng(seed)
    tensors = {"token_embd.weight": weight(rng, N_VOCAB, n_embd, gain=8.0)}
    for il in range(n_layer):
        tensors |= block(rng, il, n_embd, head_dim, n_head, n_head_kv, n_ff)
    tensors["output_norm.weight"] = np.ones(n_embd, np.float32)
    tensors["output.weight"] = weight(rng, N_VOCAB, n_embd, gain=3.0)
    return write_gguf(path, "llama", entries | dict(metadata or {}), tensors, tensors_per_part=tensors_per_part)


def write_gemma3(
    path: Path,
    *,
    seed: int = 0,
    n_layer: int = 6,
    n_embd: int = 64,
    n_head: int = 2,
    n_head_kv: int = 1,
    head_dim: int = 32,
    n_swa: int = 32,
    n_ctx_train: int = 512,
    chat_template: str | None = CHATML,
    metadata: Mapping[str, Any] | None = None,
) -> Path:
    """Write a gemma3 model: a sliding window of `n_swa` tokens in all layers but every sixth.

    `n_layer` must be 6 or more: llama.cpp ends the process if all layers have a window.
    """
    n_ff = 2 * n_embd
    entries = hyperparameters("gemma3", n_layer, n_embd, n_head, n_head_kv, n_ctx_train, n_ff)
    entries |= {
        "gemma3.attention.key_length": head_dim,
        "gemma3.attention.value_length": head_dim,
        "gemma3.attention.sliding_window": n_swa,
        "gemma3.rope.freq_base": 1_000_000.0,
    }
    entries |= tokenizer(chat_template)
    rng = np.random.default_rng(seed)
    # llama.cpp multiplies gemma's embeddings by sqrt(n_embd).
    tensors = {"token_embd.weight": weight(rng, N_VOCAB, n_embd)}
    for il in range(n_layer):
        tensors |= block(rng, il, n_embd, head_dim, n_head, n_head_kv, n_ff)
        norms = {"post_attention": n_embd, "post_ffw": n_embd, "attn_q": head_dim, "attn_k": head_dim}
        for name, width in norms.items():
            tensors[f"blk.{il}.{name}_norm.weight"] = np.full(width, 2.0, np.float32)
    tensors["output_norm.weight"] = np.ones(n_embd, np.float32)
    # Tied embeddings would make random weights repeat the last token, so the output has its own.
    tensors["output.weight"] = weight(rng, N_VOCAB, n_embd, gain=3.0)
    return write_gguf(path, "gemma3", entries | dict(metadata or {}), tensors)


def write_header_only(path: Path, arch: str, metadata: Mapping[str, Any] | None = None) -> Path:
    """Write a file of architecture `arch` that is well formed but has a single meaningless tensor."""
    tensors = {"token_embd.weight": np.zeros((1, 32), np.float32)}
    return write_gguf(path, arch, hyperparameters(arch, 1, 32, 1, 1, 512, 64) | dict(metadata or {}), tensors)


def write_gguf(path: Path, arch: str, metadata: Metadata, tensors: Tensors, *, tensors_per_part: int = 0) -> Path:
    """Write any GGUF file; entries whose value is None are left out.

    With `tensors_per_part` it is split into NAME-00001-of-00003.gguf and so on, and the first one's path returned.
    """
    writer = gguf.GGUFWriter(path, arch, split_max_tensors=tensors_per_part)
    for key, value in metadata.items():
        if value is not None:
            _add(writer, key, value)
    for name, array in tensors.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path if not tensors_per_part else min(path.parent.glob(f"{path.stem}-00001-of-*.gguf"))


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case Sequence():
            writer.add_array(key, list(value))
        case _:
            raise TypeError(f"no GGUF type for {key} = {value!r}")


def hyperparameters(
    arch: str, n_layer: int, n_embd: int, n_head: int, n_head_kv: int, n_ctx_train: int, n_ff: int
) -> Metadata:
    """What every architecture's header holds."""
    return {
        "general.type": "model",
        "general.name": f"tiny {arch}",
        "general.file_type": 0,
        f"{arch}.block_count": n_layer,
        f"{arch}.context_length": n_ctx_train,
        f"{arch}.embedding_length": n_embd,
        f"{arch}.feed_forward_length": n_ff,
        f"{arch}.attention.head_count": n_head,
        f"{arch}.attention.head_count_kv": n_head_kv,
        f"{arch}.attention.layer_norm_rms_epsilon": 1e-6,
    }


def tokenizer(chat_template: str | None) -> Metadata:
    """The SentencePiece tokenizer, which llama.cpp takes for any architecture."""
    texts, scores, kinds = vocabulary()
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": texts,
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.eot_token_id": texts.index("<|im_end|>"),
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_space_prefix": False,
        "tokenizer.chat_template": chat_template,
    }


def bpe_tokenizer(pre: str, model: str = "gpt2", chat_template: str | None = CHATML) -> Metadata:
    """A byte-level BPE tokenizer with the pre-tokenizer `pre`, for `write_llama(metadata=...)`.

    Its merges join equal and common neighbours, so that a place where a text was split shows in the tokens.
    """
    kind = gguf.TokenType
    texts, merges = bpe_bytes(), []
    for letter in "zZ7.'=+/`" + "".join(texts[byte] for byte in b" \n\t\r"):
        merges += [(letter * n, letter * n) for n in (1, 2, 4)]
    merges += [("t", "h"), ("th", "e"), (texts[32], "the"), (texts[32], "z"), ("z", "7"), ("z", "Z"), (".", texts[10])]
    control = ["</s>", *CONTROL_TOKENS]
    texts += ["".join(pair) for pair in merges] + control
    texts += [f"<unused{i}>" for i in range(N_VOCAB - len(texts))]
    n_control = N_VOCAB - texts.index("</s>")
    entries = tokenizer(chat_template) | {
        "tokenizer.ggml.model": model,
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": texts,
        "tokenizer.ggml.token_type": [int(kind.NORMAL)] * (N_VOCAB - n_control) + [int(kind.CONTROL)] * n_control,
        "tokenizer.ggml.merges": [" ".join(pair) for pair in merges],
        "tokenizer.ggml.bos_token_id": texts.index("</s>"),
        "tokenizer.ggml.eos_token_id": texts.index("</s>"),
        "tokenizer.ggml.eot_token_id": texts.index("<|im_end|>"),
    }
    return entries | {f"tokenizer.ggml.{name}": None for name in ("scores", "unknown_token_id", "add_space_prefix")}


def bpe_bytes() -> list[str]:
    """How byte-level BPE writes the 256 bytes: printable ones as they are, others as letters from U+0100 on."""
    shown = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = iter(range(0x100, 0x200))
    return [chr(byte) if byte in shown else chr(next(hidden)) for byte in range(256)]


def weight(rng: np.random.Generator, n_out: int, n_in: int, gain: float = 1.0) -> NDArray[np.float32]:
    """[n_out, n_in]: maps inputs of unit variance to outputs with a standard deviation of `gain`."""
    return rng.normal(0.0, gain * n_in**-0.5, (n_out, n_in)).astype(np.float32)


def block(
    rng: np.random.Generator, il: int, n_embd: int, head_dim: int, n_head: int, n_head_kv: int, n_ff: int
) -> Tensors:
    """Layer `il` of a llama."""

    def named() -> Iterator[tuple[str, NDArray[np.float32]]]:
        yield "attn_norm", np.ones(n_embd, np.float32)
        # A gain above 1 on queries and keys makes heads choose among positions instead of averaging.
        yield "attn_q", weight(rng, n_head * head_dim, n_embd, gain=1.5)
        yield "attn_k", weight(rng, n_head_kv * head_dim, n_embd, gain=1.5)
        yield "attn_v", weight(rng, n_head_kv * head_dim, n_embd)
        yield "attn_output", weight(rng, n_embd, n_head * head_dim)
        yield "ffn_norm", np.ones(n_embd, np.float32)
        yield "ffn_gate", weight(rng, n_ff, n_embd)
        yield "ffn_up", weight(rng, n_ff, n_embd)
        yield "ffn_down", weight(rng, n_embd, n_ff)

    return {f"blk.{il}.{name}.weight": array for name, array in named()}


def unigram_tokenizer(chat_template: str | None = CHATML) -> Metadata:
    """A unigram tokenizer as T5 has it: the most likely split, blanks run together, one put before each text."""
    kind = gguf.TokenType
    texts, scores, kinds = vocabulary()
    scores = [-12.0 if len(text.strip("▁")) < 2 else -2.0 * len(text) ** -0.5 for text in texts]
    kinds = [int(kind.UNUSED) if k == kind.BYTE else k for k in kinds]  # it knows no bytes
    return tokenizer(chat_template) | {
        "tokenizer.ggml.model": "t5",
        "tokenizer.ggml.scores": [float(s) for s in scores],
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.add_space_prefix": True,
        "tokenizer.ggml.remove_extra_whitespaces": True,
    }


def wordpiece_tokenizer(chat_template: str | None = CHATML) -> Metadata:
    """A WordPiece tokenizer as BERT has it: words apart from signs, the longest piece first, no blanks and no capitals.

    Of such a file llama.cpp makes an encoder, so it is good for its vocabulary alone.
    """
    kind = gguf.TokenType
    texts, _, kinds = vocabulary()
    words = [text for text, k in zip(texts, kinds, strict=True) if k == kind.NORMAL and text.strip("▁")]
    texts = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", *CONTROL_TOKENS]
    n_control = len(texts)
    texts += list(dict.fromkeys([f"▁{w.strip('▁').lower()}" for w in words] + [w.strip("▁").lower() for w in words]))
    texts += [f"<unused{i}>" for i in range(N_VOCAB - len(texts))]
    kinds = [int(kind.CONTROL)] * n_control + [int(kind.NORMAL)] * (N_VOCAB - n_control)
    entries = tokenizer(chat_template) | {
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.tokens": texts,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.eot_token_id": texts.index("<|im_end|>"),
    }
    return entries | {f"tokenizer.ggml.{name}": None for name in ("scores", "add_space_prefix")}
