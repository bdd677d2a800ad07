"""The figure about text: a megabyte through the codec beside bare llama_tokenize."""

import ctypes
import time

import numpy as np
from bench_rig import Setup, Tokens, prose, say
from bench_stats import Figure, paired

from edge_sir.llama.native import NativeModel, lib
from edge_sir.llama.text import LlamaText

__all__ = ["encoding"]

_N_CHARS = 1_000_000


def encoding(model: NativeModel, setup: Setup, n_rounds: int) -> Figure:
    """Seconds of `LlamaText.encode` for a megabyte of English over those of llama_tokenize.

    On processor time of the whole process, since long texts of some models are tokenized on a thread of their own.
    """
    codec = LlamaText(model)
    page = b"".join(map(codec.piece, prose(codec, 20_000).tolist())).decode()
    text = (page * (_N_CHARS // len(page) + 1))[:_N_CHARS]
    codec.encode(text, special=False)  # what is found out once per model
    pairs = []
    for i in range(n_rounds):
        say(f"a megabyte of text, round {i + 1} of {n_rounds}")
        started = time.process_time()
        bare = _tokenize(model, text)
        between = time.process_time()
        tokens = codec.encode(text, special=False)
        pairs.append((time.process_time() - between, between - started))
        if not np.array_equal(tokens, bare):
            raise RuntimeError("the codec's tokens are not those of llama_tokenize")
    ours, bares = np.array(pairs).T
    return paired("encode_vs_bare", ours, bares, detail={"mb_per_s": _N_CHARS / 1e6 / float(np.median(ours))})


def _tokenize(model: NativeModel, text: str) -> Tokens:
    data = text.encode()
    tokens = np.empty(len(data) + 8, np.int32)
    pointer = tokens.ctypes.data_as(ctypes.POINTER(lib.llama_token))
    return tokens[: lib.llama_tokenize(model.vocab, data, len(data), pointer, len(tokens), False, False)].copy()
