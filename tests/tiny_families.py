"""One tiny random-weight GGUF file per family of position handling, for the gate to judge.

All have a trained length of `N_CTX_TRAIN`, so that an endless run soon crosses it, and weights wide enough that
wrong keys show in the logits.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tiny_gguf import (
    CHATML,
    N_VOCAB,
    Metadata,
    Tensors,
    block,
    hyperparameters,
    tokenizer,
    weight,
    write_gemma3,
    write_gguf,
    write_llama,
)

N_CTX_TRAIN = 512
_WIDTH, _N_FF = 64, 128
_N_HEAD = 4

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Family:
    """A kind of model: how to write one, and what its gate verdict must be in a context of 256 cells.

    mode: packed, gaps, or refused. type_k: of the K cache.
    """

    name: str
    what: str
    write: Callable[[Path], Path]
    mode: str
    type_k: str = "f16"

    def file(self, folder: Path) -> Path:
        """The family's GGUF file in `folder`, written if it is not there."""
        path = folder / f"{self.name.partition('+')[0]}.gguf"
        return path if path.exists() else self.write(path)


def _ones(n: int) -> Vector:
    return np.ones(n, np.float32)


def _zeros(n: int) -> Vector:
    return np.zeros(n, np.float32)


def _around(rng: np.random.Generator, tensors: Tensors, *, bias: bool = False) -> Tensors:
    """Embeddings, output norm and head around the layers `tensors`."""
    ends = {
        "token_embd.weight": weight(rng, N_VOCAB, _WIDTH, gain=8.0),
        "output_norm.weight": _ones(_WIDTH),
        "output.weight": weight(rng, N_VOCAB, _WIDTH, gain=3.0),
    }
    if bias:
        ends["output_norm.bias"] = _zeros(_WIDTH)
    return tensors | ends


def _save(path: Path, arch: str, extra: dict[str, Any], tensors: Tensors, *, n_layer: int, n_head_kv: int = 2) -> Path:
    entries: Metadata = hyperparameters(arch, n_layer, _WIDTH, _N_HEAD, n_head_kv, N_CTX_TRAIN, _N_FF)
    entries |= tokenizer(CHATML) | {f"{arch}.{key}": value for key, value in extra.items()}
    entries["general.name"] = "tiny"  # of a model named phi3 llama.cpp expects a certain vocabulary
    return write_gguf(path, arch, entries, tensors)


def _llama_like(rng: np.random.Generator, n_layer: int, n_head_kv: int = 2) -> Tensors:
    tensors: Tensors = {}
    for il in range(n_layer):
        tensors |= block(rng, il, _WIDTH, _WIDTH // _N_HEAD, _N_HEAD, n_head_kv, _N_FF)
    return tensors


# ---- RoPE in all layers --------------------------------------------------------------------------


def write_qwen2(path: Path, extra: dict[str, Any] | None = None) -> Path:
    """Neox-style RoPE and biases on queries, keys and values."""
    rng = np.random.default_rng(1)
    tensors = _llama_like(rng, 2)
    for il in range(2):
        for name, width in (("attn_q", _WIDTH), ("attn_k", _WIDTH // 2), ("attn_v", _WIDTH // 2)):
            tensors[f"blk.{il}.{name}.bias"] = rng.normal(0, 0.5, width).astype(np.float32)
    return _save(path, "qwen2", extra or {}, _around(rng, tensors), n_layer=2)


def write_qwen2_yarn(path: Path) -> Path:
    """YaRN by a factor of 4, which also scales the keys."""
    scaling = {"type": "yarn", "factor": 4.0, "original_context_length": N_CTX_TRAIN // 4}
    return write_qwen2(path, {f"rope.scaling.{key}": value for key, value in scaling.items()})


def write_phi3_longrope(path: Path) -> Path:
    """LongRoPE: other frequencies in long contexts, and keys scaled by an attention factor."""
    rng = np.random.default_rng(2)
    tensors = _llama_like(rng, 2, _N_HEAD)
    for il in range(2):
        del tensors[f"blk.{il}.ffn_gate.weight"]
        tensors[f"blk.{il}.ffn_up.weight"] = weight(rng, 2 * _N_FF, _WIDTH)
    n_pairs = _WIDTH // _N_HEAD // 2
    tensors["rope_factors_long.weight"] = np.linspace(1, 4, n_pairs, dtype=np.float32)
    tensors["rope_factors_short.weight"] = np.linspace(1, 1.3, n_pairs, dtype=np.float32)
    extra = {
        "rope.dimension_count": 2 * n_pairs,
        "rope.scaling.type": "longrope",
        "rope.scaling.attn_factor": 1.19,
        "rope.scaling.original_context_length": 128,
    }
    return _save(path, "phi3", extra, _around(rng, tensors), n_layer=2, n_head_kv=_N_HEAD)


def write_olmoe(path: Path) -> Path:
    """Mixture of experts: two of four, with norms on whole queries and keys."""
    rng = np.random.default_rng(3)
    tensors = _llama_like(rng, 2, _N_HEAD)
    for il in range(2):
        tensors |= {f"blk.{il}.attn_{q}_norm.weight": np.full(_WIDTH, 1.5, np.float32) for q in "qk"}
        tensors[f"blk.{il}.ffn_gate_inp.weight"] = weight(rng, 4, _WIDTH)
        for name in ("gate", "up", "down"):
            del tensors[f"blk.{il}.ffn_{name}.weight"]
            shape = (_WIDTH, _N_FF) if name == "down" else (_N_FF, _WIDTH)
            tensors[f"blk.{il}.ffn_{name}_exps.weight"] = np.stack([weight(rng, *shape) for _ in range(4)])
    extra = {"expert_count": 4, "expert_used_count": 2}
    return _save(path, "olmoe", extra, _around(rng, tensors), n_layer=2, n_head_kv=_N_HEAD)


def write_qwen2vl(path: Path) -> Path:
    """M-RoPE: four positions per token, of which text uses one."""
    rng = np.random.default_rng(4)
    return _save(
        path, "qwen2vl", {"rope.dimension_sections": [2, 3, 3, 0]}, _around(rng, _llama_like(rng, 2)), n_layer=2
    )


# ---- RoPE in parts -------------------------------------------------------------------------------


def write_smollm3(path: Path) -> Path:
    """Every fourth layer knows no positions, which llama.cpp's K-shift overlooks."""
    rng = np.random.default_rng(5)
    tensors = _llama_like(rng, 4)
    tensors["blk.3.attn_output.weight"] *= 3  # so that the layer in question has a say
    return _save(path, "smollm3", {}, _around(rng, tensors), n_layer=4)


def write_stablelm(path: Path) -> Path:
    """Half of each head is rotated. Heads of 64, so that quantized keys are possible."""
    rng, n_embd, n_head = np.random.default_rng(6), 128, 2
    entries = hyperparameters("stablelm", 2, n_embd, n_head, n_head, N_CTX_TRAIN, _N_FF) | tokenizer(CHATML)
    entries |= {"stablelm.rope.dimension_count": 32, "stablelm.attention.layer_norm_epsilon": 1e-5}
    tensors: Tensors = {}
    for il in range(2):
        tensors |= block(rng, il, n_embd, 64, n_head, n_head, _N_FF)
        tensors |= {f"blk.{il}.{name}_norm.bias": _zeros(n_embd) for name in ("attn", "ffn")}
    tensors["token_embd.weight"] = weight(rng, N_VOCAB, n_embd, gain=8.0)
    tensors |= {"output_norm.weight": _ones(n_embd), "output_norm.bias": _zeros(n_embd)}
    tensors["output.weight"] = weight(rng, N_VOCAB, n_embd, gain=3.0)
    return write_gguf(path, "stablelm", entries, tensors)


# ---- other ways to know positions ----------------------------------------------------------------


def _gpt_layers(rng: np.random.Generator, n_layer: int) -> Tensors:
    """Layers in GPT-2's shape: fused queries, keys and values, biases everywhere."""
    tensors: Tensors = {}
    matrices = {
        "attn_qkv": (3 * _WIDTH, _WIDTH),
        "attn_output": (_WIDTH, _WIDTH),
        "ffn_up": (_N_FF, _WIDTH),
        "ffn_down": (_WIDTH, _N_FF),
    }
    for il in range(n_layer):
        for name, shape in matrices.items():
            tensors[f"blk.{il}.{name}.weight"] = weight(rng, *shape, gain=1.5)
            tensors[f"blk.{il}.{name}.bias"] = _zeros(shape[0])
        for name in ("attn_norm", "ffn_norm"):
            tensors |= {f"blk.{il}.{name}.weight": _ones(_WIDTH), f"blk.{il}.{name}.bias": _zeros(_WIDTH)}
    return tensors


def write_gpt2(path: Path) -> Path:
    """Learned positions, added to the embeddings; beyond the table llama.cpp ends the process."""
    rng = np.random.default_rng(7)
    tensors = _around(rng, _gpt_layers(rng, 2), bias=True)
    tensors["token_embd.weight"] /= 8
    tensors["position_embd.weight"] = weight(rng, N_CTX_TRAIN, _WIDTH)
    extra = {"attention.layer_norm_epsilon": 1e-5}
    return _save(path, "gpt2", extra, tensors, n_layer=2, n_head_kv=_N_HEAD)


def write_bloom(path: Path) -> Path:
    """ALiBi: attention falls with the distance, keys hold no position."""
    rng = np.random.default_rng(8)
    tensors = _around(rng, _gpt_layers(rng, 2), bias=True)
    tensors |= {"token_embd_norm.weight": _ones(_WIDTH), "token_embd_norm.bias": _zeros(_WIDTH)}
    extra = {"attention.layer_norm_epsilon": 1e-5}
    return _save(path, "bloom", extra, tensors, n_layer=2, n_head_kv=_N_HEAD)


# ---- recurrent -----------------------------------------------------------------------------------

_D_CONV, _D_STATE, _DT_RANK = 4, 8, 4
_SSM = {
    "ssm.conv_kernel": _D_CONV,
    "ssm.inner_size": 2 * _WIDTH,
    "ssm.state_size": _D_STATE,
    "ssm.time_step_rank": _DT_RANK,
}


def _mamba_layer(rng: np.random.Generator, il: int) -> Tensors:
    d_inner = 2 * _WIDTH
    named = {
        "attn_norm.weight": _ones(_WIDTH),
        "ssm_in.weight": weight(rng, 2 * d_inner, _WIDTH),
        "ssm_conv1d.weight": weight(rng, d_inner, _D_CONV),
        "ssm_conv1d.bias": _zeros(d_inner),
        "ssm_x.weight": weight(rng, _DT_RANK + 2 * _D_STATE, d_inner),
        "ssm_dt.weight": weight(rng, d_inner, _DT_RANK),
        "ssm_dt.bias": _zeros(d_inner),
        "ssm_a": -np.ones((d_inner, _D_STATE), np.float32),
        "ssm_d": _ones(d_inner),
        "ssm_out.weight": weight(rng, _WIDTH, d_inner),
    }
    return {f"blk.{il}.{name}": array for name, array in named.items()}


def write_mamba(path: Path) -> Path:
    """A recurrent state and no attention at all."""
    rng = np.random.default_rng(9)
    tensors = _mamba_layer(rng, 0) | _mamba_layer(rng, 1)
    extra = _SSM | {"attention.head_count": 0, "attention.head_count_kv": 0}
    return _save(path, "mamba", extra, _around(rng, tensors), n_layer=2)


def write_jamba(path: Path, extra: dict[str, Any] | None = None) -> Path:
    """A recurrent layer and one with attention."""
    rng = np.random.default_rng(10)
    attention = block(rng, 1, _WIDTH, _WIDTH // _N_HEAD, _N_HEAD, 2, _N_FF)
    feed_forward = {k.replace("blk.1", "blk.0"): v for k, v in attention.items() if ".ffn_" in k}
    tensors = _mamba_layer(rng, 0) | attention | feed_forward
    norms = {"ssm_dt_norm": _DT_RANK, "ssm_b_norm": _D_STATE, "ssm_c_norm": _D_STATE}
    tensors |= {f"blk.0.{name}.weight": _ones(width) for name, width in norms.items()}
    named = _SSM | {"attention.head_count_kv": [0, 2]} | (extra or {})
    return _save(path, "jamba", named, _around(rng, tensors), n_layer=2)


def _gemma3(n_swa: int) -> Callable[[Path], Path]:
    return lambda path: write_gemma3(path, n_swa=n_swa, n_ctx_train=N_CTX_TRAIN)


def _llama64(path: Path) -> Path:
    return write_llama(path, n_embd=128, n_head=2, n_head_kv=2, n_ctx_train=N_CTX_TRAIN)


FAMILIES = (
    Family("llama", "RoPE in all layers", write_llama, "packed"),
    Family("qwen2", "RoPE in all layers, neox order", write_qwen2, "packed"),
    Family("olmoe", "mixture of experts", write_olmoe, "packed"),
    Family("stablelm", "half of each head is rotated", write_stablelm, "packed"),
    Family("gemma3-wide", "sliding window of 512 tokens, 256 cells", _gemma3(512), "packed"),
    Family("bloom", "ALiBi", write_bloom, "packed"),
    Family("gemma3", "sliding window of 32 tokens, 256 cells", _gemma3(32), "gaps"),
    Family("qwen2-yarn", "YaRN x 4", write_qwen2_yarn, "gaps"),
    Family("phi3-longrope", "LongRoPE", write_phi3_longrope, "gaps"),
    Family("smollm3", "every fourth layer without positions", write_smollm3, "gaps"),
    Family("gpt2", "learned positions", write_gpt2, "gaps"),
    Family("qwen2vl", "M-RoPE", write_qwen2vl, "gaps"),
    Family("stablelm+q8_0", "half of each head is rotated, q8_0 keys", write_stablelm, "gaps", "q8_0"),
    Family("llama64+q4_0", "RoPE in all layers, q4_0 keys", _llama64, "gaps", "q4_0"),
    Family("mamba", "recurrent", write_mamba, "refused"),
    Family("jamba", "recurrent and attention layers", write_jamba, "refused"),
)
