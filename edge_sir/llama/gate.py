"""May cells of this model be moved to other positions? llama.cpp's own answer is not enough.

`llama_memory_can_shift` is true for families whose keys a K-shift silently damages (YaRN, layers
without RoPE, ...). So packing is allowed only where it is known to be right; everything else runs in
gap mode, which never touches a key.
"""

from dataclasses import dataclass

from edge_sir.llama.gguf_header import GGUFHeader

__all__ = ["Verdict", "packing_verdict"]

_PLAIN_ROPE = ("llama", "gemma3")
"""Architectures whose layers all rotate their keys the way the K-shift graph does."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether packing is right for a model in a context, and why."""

    can_pack: bool
    why: str


def packing_verdict(header: GGUFHeader, n_ctx: int, can_shift: bool) -> Verdict:
    """Decides from metadata. n_ctx: cells. can_shift: what llama_memory_can_shift says."""
    scaling, _ = header.rope_scaling
    if not can_shift:
        return Verdict(False, "llama.cpp cannot shift this kind of cache")
    if header.architecture not in _PLAIN_ROPE:
        return Verdict(False, f"shifting keys is not proven for the architecture '{header.architecture}'")
    if scaling != "none":
        return Verdict(False, f"RoPE scaling '{scaling}' may rescale keys at every shift")
    if header.rope_dim != header.head_dim_k:
        return Verdict(False, "only part of each key is rotated")
    if 0 < header.n_swa < n_ctx:
        return Verdict(
            False, f"{n_ctx} cells exceed the sliding window of {header.n_swa}, whose old cells are overwritten"
        )
    return Verdict(True, f"plain RoPE ({header.architecture}), f16 keys")
