"""Tells before llama.cpp sees a file whether it can chat.

llama.cpp guards its loader with assertions, so many damaged or unusual files end the whole process instead
of raising. `check_model_file` reads the header only and turns each such file into a `ModelFileError`.
"""

import os
from pathlib import Path

import gguf

from edge_sir.llama.gguf.header import OTHER, TOKENS, ArrayInfo, GGUFHeader
from edge_sir.llama.gguf.parts import whole
from edge_sir.llama.gguf.reader import parse

__all__ = ["check_model_file"]

_MAX_EXPERTS = 1024  # LLAMA_MAX_EXPERTS
_MAX_WIDTH = 1 << 20  # of an embedding or a head; no model comes near
_MAX_I32 = (1 << 31) - 1  # positions and token ids are int32 in llama.cpp


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Architectures of llama.cpp that the gguf package does not list yet.
_NEWER_ARCHS = _words(
    "bailingmoe3 cohere2moe deepseek32 deepseek4 dflash dots3note eagle3 gemma4-assistant glm5-next granite_swa "
    "graniteswitch hrm_text hy_v3 hy_v4 kimi-k3 laguna maple mellum minimax-01 minimax-m3 muse-glimmer nanbeige "
    "pockettts qwen3tts qwen4exp spark2_5 talkie"
)
_KNOWN_ARCHS = frozenset(gguf.MODEL_ARCH_NAMES.values()) | _NEWER_ARCHS
_WITHOUT_ATTENTION = _words("mamba mamba2 rwkv6 rwkv6qwen2 rwkv7 arwkv7")
_WITHOUT_ROPE = _WITHOUT_ATTENTION | _words(
    "gpt2 gptj mpt refact bloom jamba jais nemotron_h nemotron_h_moe kimi-linear kimi-k3 glm5-next"
)
_CHAT_TOKENIZERS = _words("llama gpt2 gemma4 t5 plamo2 hybriddna whitespace")
_CANNOT_CHAT = {
    arch: kind
    for kind, archs in {
        "an embedding model": "bert nomic-bert nomic-bert-moe jina-bert-v2 jina-bert-v3 modern-bert neo-bert eurobert "
        "gemma-embedding llama-embed t5encoder",
        "an encoder-decoder model": "t5",
        "an image or audio projector": "clip",
        "an audio model": "wavtokenizer-dec qwen3tts pockettts",
        "a diffusion model": "dream llada llada-moe rnd1",
        "a draft model": "eagle3 dflash gemma4-assistant",
    }.items()
    for arch in _words(archs)
}
_TYPES_THAT_CANNOT_CHAT = {
    "adapter": "a LoRA adapter, not a model,",
    "imatrix": "an importance matrix, not a model,",
    "mmproj": "an image or audio projector",
}


def check_model_file(path: str | os.PathLike[str]) -> GGUFHeader:
    """The header of a model that edge-sir can chat with; of one in parts, the first part's, which counts them all.

    Raises:
        ModelFileError: as `read_header`; or the file is no chat model (an embedding model, an adapter, a bare
            vocabulary ...), or a part of one that lacks the others or is not the first (`parts`); or it has
            values on which llama.cpp would end the process.
    """
    tokens: list[bytes] = []
    header = whole(parse(Path(path), tokens))
    _check_purpose(header)
    _check_shape(header)
    _check_experts(header)
    _check_rope(header)
    _check_window(header)
    _check_vocabulary(header, tokens)
    for name, member in vars(GGUFHeader).items():
        if isinstance(member, property):
            getattr(header, name)
    return header


def _check_purpose(header: GGUFHeader) -> None:
    kind = _TYPES_THAT_CANNOT_CHAT.get(header.text("general.type", "")) or _CANNOT_CHAT.get(header.architecture)
    if kind is None and header.integer(header.key("pooling_type"), 0):
        kind = "an embedding model"
    if kind is None and header.metadata.get(header.key("attention.causal"), True) is not True:
        kind = "a model without causal attention"
    if kind:
        raise header.error(f"is {kind} and cannot chat", OTHER)
    if header.architecture not in _KNOWN_ARCHS:
        raise header.error(f"has the unknown architecture {header.architecture!r}", "use another model")
    if header.n_tensors == 0:
        raise header.error("holds a vocabulary but no weights", OTHER)


def _check_shape(header: GGUFHeader) -> None:
    """The numbers by which llama.cpp divides or which it asserts."""
    for key, value, most in (
        ("embedding_length", header.n_embd, _MAX_WIDTH),
        ("context_length", header.n_ctx_train, _MAX_I32),
    ):
        if not 1 <= value <= most:
            raise header.error(f"{header.key(key)} is {value}, outside 1..{most}")
    if header.integer(header.key("nextn_predict_layers"), 0) > header.n_layer:
        raise header.error(f"{header.key('nextn_predict_layers')} exceeds the number of layers")
    for key in ("full_attention_interval", "ssm.group_count", "ssm.time_step_rank", "wkv.head_size"):
        if header.integer(header.key(key), 1) == 0:
            raise header.error(f"{header.key(key)} is 0")
    for key in header.metadata:
        if key.startswith(header.architecture) and key.endswith("_epsilon") and header.number(key, 0.0) < 0:
            raise header.error(f"{key} is negative")
    if header.architecture not in _WITHOUT_ATTENTION:
        _check_heads(header)


def _check_heads(header: GGUFHeader) -> None:
    if not any(header.n_head) or not any(header.n_head_kv):
        raise header.error(f"{header.key('attention.head_count')} is missing or 0")
    for il, (n_head, n_head_kv) in enumerate(zip(header.n_head, header.n_head_kv, strict=True)):
        if n_head > header.n_embd or (n_head and n_head_kv and n_head % n_head_kv):
            raise header.error(f"layer {il} cannot share {n_head_kv} key/value heads among {n_head} heads")
    if not (1 <= header.head_dim_k <= _MAX_WIDTH and 1 <= header.head_dim_v <= _MAX_WIDTH):
        raise header.error(f"the heads are {header.head_dim_k} (keys) and {header.head_dim_v} (values) wide")


def _check_experts(header: GGUFHeader) -> None:
    n_expert = header.integer(header.key("expert_count"), 0)
    if header.architecture.startswith("hunyuan") and n_expert <= 1:
        return
    n_used = max(header.per_layer(header.key("expert_used_count"), 0))
    n_groups = header.integer(header.key("expert_group_count"), 0)
    n_groups_used = header.integer(header.key("expert_group_used_count"), 0)
    fits = n_expert <= _MAX_EXPERTS and (0 < n_used <= n_expert if n_expert else n_used == n_groups == 0)
    if fits and n_expert:
        fits = n_groups < n_expert
    if fits and n_groups > 1:
        fits = n_expert % n_groups == 0 and 0 < n_groups_used < n_groups
    if not fits:
        raise header.error(f"{n_used} of {n_expert} experts in {n_groups} groups cannot be routed")


def _check_rope(header: GGUFHeader) -> None:
    kind, factor = header.rope_scaling
    if kind not in ("none", "linear", "yarn", "longrope"):
        raise header.error(f"{header.key('rope.scaling.type')} {kind!r} is unknown", "use another file")
    if factor <= 0:
        raise header.error(f"{header.key('rope.scaling.factor')} is {factor}")
    if header.number(header.key("rope.freq_base"), 1.0) <= 0:
        raise header.error(f"{header.key('rope.freq_base')} is not positive")
    if header.architecture in _WITHOUT_ROPE:
        return
    for suffix in ("", "_swa"):
        width = header.integer(header.key(f"attention.key_length{suffix}"), header.head_dim_k)
        rotated = header.integer(header.key(f"rope.dimension_count{suffix}"), header.rope_dim)
        if rotated % 2 or not 0 < rotated <= width:
            raise header.error(f"{rotated} of the {width} dimensions of a head cannot be rotated")


def _check_window(header: GGUFHeader) -> None:
    """llama.cpp keeps layers with and without a sliding window apart and asserts that there are both."""
    key = header.key("attention.sliding_window_pattern")
    if header.n_swa == 0 or key not in header.metadata:
        return
    pattern = header.metadata[key]
    if isinstance(pattern, tuple):
        both = any(pattern) and not all(pattern)
    else:
        both = 2 <= header.integer(key) <= header.n_layer
    if not both:
        raise header.error(f"{key} does not mix layers with and without a sliding window")


def _check_vocabulary(header: GGUFHeader, tokens: list[bytes]) -> None:
    n_vocab = header.n_vocab
    if not 1 <= n_vocab <= _MAX_I32 or len(tokens) != n_vocab:
        raise header.error(f"{TOKENS} is not a list of texts or is empty")
    for key in ("tokenizer.ggml.scores", "tokenizer.ggml.token_type"):
        array = header.metadata.get(key, ArrayInfo(0, n_vocab))
        if not isinstance(array, ArrayInfo) or array.n != n_vocab:
            raise header.error(f"{key} does not hold one value for each of the {n_vocab} tokens")
    for role in ("bos", "eos", "eot"):
        key = f"tokenizer.ggml.{role}_token_id"
        if header.integer(key, 0) >= n_vocab:
            raise header.error(f"{key} is {header.metadata[key]} but there are {n_vocab} tokens")
    # llama.cpp reads tokens as C strings, numbers the empty ones and asserts that all differ.
    texts = {token.partition(b"\0")[0] for token in tokens}
    n_empty = sum(1 for token in tokens if token[:1] in (b"", b"\0"))
    if len(texts) + max(n_empty - 1, 0) != n_vocab:
        raise header.error("several tokens of the vocabulary are the same")
    _check_tokenizer(header, texts)


def _check_tokenizer(header: GGUFHeader, texts: set[bytes]) -> None:
    model = header.tokenizer_model
    if model not in _CHAT_TOKENIZERS and not (model == "rwkv" and "rwkv" in header.architecture):
        raise header.error(f"tokenizer.ggml.model {model!r} is missing or cannot be used for a chat", OTHER)
    if header.text("tokenizer.ggml.pre", "") == "whitespace" and model != "whitespace":
        # llama_tokenize ends the process on two blanks in a row.
        raise header.error(f"tokenizer.ggml.pre 'whitespace' does not go with tokenizer.ggml.model {model!r}")
    if model == "llama":
        # Without a token for every byte, llama_tokenize ends the process on the first emoji.
        missing = [b for b in range(256) if b"<0x%02X>" % b not in texts and bytes([b]) not in texts]
        if missing:
            raise header.error(f"the vocabulary has no token for byte {missing[0]}")
