"""Every exception that edge-sir raises on purpose.

    EdgeSirError
    ├── UserError              a mistake its maker can mend; one line that names the remedy, exit code 2
    │   ├── ConfigError        an option, environment variable or TOML key that is unknown or out of range
    │   ├── ModelError         the model cannot be used
    │   │   ├── ModelFileError     missing, empty, truncated, damaged or foreign file; embedding model
    │   │   ├── TemplateError      no chat template, or one that cannot be rendered turn by turn
    │   │   ├── DownloadError      the model could not be fetched, or what came is not what was asked for
    │   │   └── LicenceError       the model's terms must be accepted first
    │   ├── BudgetError        the cells do not suffice for the sinks, the pins and one turn
    │   ├── CapabilityError    this model or backend cannot do what was asked (pack, quantize V, ...)
    │   └── SessionBusyError   another process has this session open
    ├── EngineError            llama.cpp reported a failure
    │   ├── BatchError         llama_decode -1: an invalid batch; nothing changed
    │   ├── NoSlotError        llama_decode 1: no room for the batch; nothing changed
    │   ├── AbortedError       llama_decode 2: the abort callback stopped it; rolled back
    │   ├── ComputeError       llama_decode < -1: the computation failed; rolled back
    │   ├── LoadError          the model or the context could not be created
    │   ├── StateError         a saved sequence state was refused
    │   └── ShiftError         a K-shift failed although llama_decode returned 0; the cache is wrong
    ├── SessionError           the session was used against its rules
    │   ├── StalePlanError     an eviction plan made for another state of the ledger
    │   └── PoisonedError      ledger and cache disagree; the session refuses to go on
    └── StoreError             the state folder could not be read or written: disk full, read-only
        └── DamagedError       its database is not what was written

`UserError` is what a command line prints without a traceback. Anything outside this tree is a bug.
"""

__all__ = [
    "AbortedError",
    "BatchError",
    "BudgetError",
    "CapabilityError",
    "ComputeError",
    "ConfigError",
    "DamagedError",
    "DownloadError",
    "EdgeSirError",
    "EngineError",
    "LicenceError",
    "LoadError",
    "ModelError",
    "ModelFileError",
    "NoSlotError",
    "PoisonedError",
    "SessionBusyError",
    "SessionError",
    "ShiftError",
    "StalePlanError",
    "StateError",
    "StoreError",
    "TemplateError",
    "UserError",
]


class EdgeSirError(Exception):
    """Root of the tree."""


class UserError(EdgeSirError):
    """A mistake its maker can mend; the message is one line and names the remedy."""


class ConfigError(UserError):
    """An option is unknown, malformed or out of range."""


class ModelError(UserError):
    """The model cannot be used."""


class ModelFileError(ModelError):
    """The model file is missing, damaged, foreign or of a kind that cannot chat."""


class TemplateError(ModelError):
    """There is no chat template, or it cannot be rendered turn by turn."""


class DownloadError(ModelError):
    """The model could not be fetched or failed its checksum."""


class LicenceError(ModelError):
    """The model's terms must be accepted before it is fetched."""


class BudgetError(UserError):
    """The cells do not suffice for the sinks, the pins and one turn."""


class CapabilityError(UserError):
    """The model or the backend cannot do what was asked for."""


class SessionBusyError(UserError):
    """Another process has this session open."""


class EngineError(EdgeSirError):
    """llama.cpp reported a failure."""


class BatchError(EngineError):
    """The batch was invalid (llama_decode -1); nothing changed."""


class NoSlotError(EngineError):
    """No free cells for the batch (llama_decode 1); nothing changed."""


class AbortedError(EngineError):
    """The abort callback stopped the decode (llama_decode 2); the batch was rolled back."""


class ComputeError(EngineError):
    """The computation failed (llama_decode < -1); the batch was rolled back."""


class LoadError(EngineError):
    """llama.cpp could not create the model or the context."""


class StateError(EngineError):
    """llama.cpp refused a saved sequence state."""


class ShiftError(EngineError):
    """A K-shift failed silently (llama_decode returned 0); keys and positions disagree."""


class SessionError(EdgeSirError):
    """The session was used against its rules."""


class StalePlanError(SessionError):
    """An eviction plan was made for another state of the ledger."""


class PoisonedError(SessionError):
    """Ledger and cache disagree, so the session refuses to go on."""


class StoreError(EdgeSirError):
    """The state folder failed: full, read-only, damaged. One line that names the path and the remedy."""


class DamagedError(StoreError):
    """The database of the state folder is not what was written. what: without the remedy, which others may replace."""

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(f"{what}; {remedy}" if remedy else what)
        self.what = what
