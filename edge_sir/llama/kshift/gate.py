"""May cells of this model be moved to other positions? llama.cpp's own answer is not enough.

`llama_memory_can_shift` is true for families whose keys a K-shift silently damages (YaRN, layers without RoPE,
quantized keys), and for some it ends the process. So packing is allowed only where metadata knows of no harm and
a trial moved keys without moving logits (trial.py, run once per file by admission.py). Everything else runs in
gap mode, which never touches a key and is right for every model with plain attention.

Whether cells may be saved, evicted and restored is decided by a trial as well, for the types of K and V and the
flash-attention setting in use. At their old positions no key is touched, so that models that cannot pack can restore.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

from edge_sir.errors import CapabilityError
from edge_sir.llama.gguf.header import GGUFHeader

__all__ = [
    "KV_TYPES",
    "KVType",
    "RestoreTest",
    "ShiftTest",
    "Trials",
    "Verdict",
    "backend_note",
    "check_kv_types",
    "known_harm",
    "packing_verdict",
    "restore_verdict",
]

KVType = Literal["f16", "q8_0", "q4_0"]

KV_TYPES: dict[str, tuple[int, float]] = {"f16": (1, 2.0), "q8_0": (8, 34 / 32), "q4_0": (2, 18 / 32)}
"""Types of K and V caches: ggml's number and bytes per value."""

_PROVEN = ("llama", "qwen2", "gemma3")
"""Architectures trusted without a trial: all their layers rotate keys the way the K-shift graph does."""

_LAYERS_WITHOUT_ROPE = frozenset(
    ("smollm3", "llama4", "cohere2", "cohere2moe", "afmoe", "maple", "muse-glimmer", "dots3note")
)
"""llama.cpp rotates the keys of all their layers when it shifts (only granite's files set hparams.rope_pattern).

Where that depends on the file (exaone4, smallthinker), the trial finds it out.
"""

_INDEXED = frozenset(("deepseek32", "glm-dsa", "minimax-m3"))  # their second key cache is not shifted rightly

_N_ROUNDINGS = 2.0
"""Moved keys may change logits this much more than another order of the same sums does: up to 0.75 measured."""

_LEAST_TOLERANCE = 0.002  # where both ways to attend round alike


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether something is right for a model in a context, and why."""

    allowed: bool
    why: str


@dataclass(frozen=True, slots=True)
class _Trial:
    """Something was done to cells that must not change a logit.

    moved: root mean square change of logits, in standard deviations of the logits. rounding: their change when the same
    attention is summed in another order. died: why there is no result, as how llama.cpp ended the process; empty if
    there is one.
    """

    moved: float = 0.0
    rounding: float = 0.0
    died: str = ""

    _failed: ClassVar[str] = ""
    _done: ClassVar[str] = ""

    @property
    def tolerance(self) -> float:
        """The most that `moved` may be."""
        return max(_N_ROUNDINGS * self.rounding, _LEAST_TOLERANCE)

    @property
    def passed(self) -> bool:
        return not self.died and self.moved <= self.tolerance  # false for NaN, too

    def __str__(self) -> str:
        if self.died:
            return f"{self._failed} ({self.died})"
        compared = "within" if self.passed else "beyond"
        return f"{self._done} moved logits by {self.moved:.2g} sd, {compared} the {self.tolerance:.2g} of rounding"


class ShiftTest(_Trial):
    """All keys were moved alike, five times. RoPE is relative, so that this must not change a logit."""

    __slots__ = ()
    _failed = "keys could not be moved"
    _done = "moving keys"


class RestoreTest(_Trial):
    """Cells were saved and removed, another sequence took and left theirs, and they were put back."""

    __slots__ = ()
    _failed = "cells could not be restored"
    _done = "restoring cells"


@dataclass(frozen=True, slots=True)
class Trials:
    """What was found out about a file. shift: None where it was not tried because harm is known. restore: None where
    it was not tried.
    """

    shift: ShiftTest | None = None
    restore: RestoreTest | None = None


def known_harm(header: GGUFHeader) -> str | None:
    """Why moving f16 keys of this model is known to be wrong, from metadata alone; None if no harm is known."""
    scaling, arch = header.rope_scaling.kind, header.architecture
    if scaling in ("yarn", "longrope"):
        return f"RoPE scaling '{scaling}' rescales keys at every shift"
    if arch in _LAYERS_WITHOUT_ROPE:
        return f"some layers of {arch} know no positions, and a shift would rotate their keys"
    if arch in _INDEXED:
        return f"{arch} indexes its keys in a second cache, which a shift leaves wrong"
    return None


def packing_verdict(
    header: GGUFHeader, n_ctx: int, n_swa: int, can_shift: bool, *, kv_k: str = "f16", test: ShiftTest | None = None
) -> Verdict:
    """The verdict for a context of `n_ctx` cells with keys of type `kv_k`.

    n_swa, can_shift: what llama_model_n_swa and llama_memory_can_shift say. test: the trial's outcome; without
    one, only architectures that are proven pack.
    """
    if kv_k != "f16":
        return Verdict(False, f"moving {kv_k} keys ruins them; packing needs --kv-k f16")
    if not can_shift:
        return Verdict(False, "llama.cpp cannot shift this kind of cache")
    if harm := known_harm(header):
        return Verdict(False, harm)
    if 0 < n_swa < n_ctx:
        return Verdict(False, f"{n_ctx} cells exceed the sliding window of {n_swa}, whose old cells are overwritten")
    if test is not None:
        return Verdict(test.passed, str(test))
    plain = header.rope_scaling.kind == "none" and header.rope_dim == header.head_dim_k
    if header.architecture not in _PROVEN or not plain:
        return Verdict(False, f"shifting keys was not tried for this file of architecture '{header.architecture}'")
    return Verdict(True, f"plain RoPE ({header.architecture}), f16 keys")


def restore_verdict(header: GGUFHeader, test: RestoreTest | None) -> Verdict:
    """Whether cells may be saved and restored in a context of the kind that was tried; without a trial, only those of
    architectures that are proven.
    """
    if test is not None:
        return Verdict(test.passed, str(test))
    if header.architecture not in _PROVEN:
        return Verdict(False, f"restoring cells was not tried for this file of architecture '{header.architecture}'")
    return Verdict(True, f"a plain cache of K and V ({header.architecture})")


def check_kv_types(header: GGUFHeader, kv_k: str, kv_v: str, flash_attn: str) -> None:
    """Raises CapabilityError for types of K and V that llama.cpp cannot make a cache of, on any backend."""
    if kv_v != "f16" and flash_attn == "off":
        raise CapabilityError("a quantized V cache needs flash attention: use --flash-attn auto or --kv-v f16")
    for kind, chosen, width in (("K", kv_k, header.head_dim_k), ("V", kv_v, header.head_dim_v)):
        if chosen != "f16" and width % 32:
            raise CapabilityError(
                f"{header.path.name} has heads of {width} values, which do not fill the blocks of 32 of a quantized "
                f"{kind} cache; use --kv-{kind.lower()} f16"
            )


def backend_note(backends: Iterable[str], kv_k: str, kv_v: str) -> str:
    """What a pair of cache types costs on a backend (as ggml names them), empty for nothing special."""
    if kv_k == kv_v:
        return ""
    names = {name.upper() for name in backends}
    if names & {"MTL", "METAL"}:
        return "slow on Metal, whose flash attention needs K and V of one type; attention runs on the CPU"
    if names & {"CUDA", "ROCM", "MUSA"}:
        return "slow on CUDA, whose standard build has flash attention for K and V of one type only"
    return ""
