"""What dialogues are played on: one model, and contexts of any size that are made once and used again."""

from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from edge_sir.engine import Engine, EngineTimes, TextCodec
from edge_sir.models.files import file_sha256
from edge_sir.runtime import ensure_model, load
from edge_sir.text.template import ChatTemplate

__all__ = ["MOST_OPTION", "N_OPTIONS", "N_SCRATCH", "Contexts", "LoadedModel", "open_contexts"]

N_OPTIONS = 8
"""Options of a question that are valued at once, each on a copy of the sequence."""
N_SCRATCH = 256
"""Cells for the options' tokens, beside the budget."""

MOST_OPTION = 128
"""Tokens that an option can have: they are decoded at once."""

_CHUNK = MOST_OPTION  # whatever the vocabulary: a question's options are decoded at once, and memory is no concern here
_MOST_ENGINES = 6
_STEP = 256  # sizes are rounded up, so that dialogues of about one length share a context


class LoadedModel(Protocol):
    """What is asked of a `runtime.Model`; the toy stands in for one in tests."""

    @property
    def codec(self) -> TextCodec: ...

    @property
    def template(self) -> ChatTemplate: ...

    def open_engine(self, n_cells: int, *, n_seq_max: int) -> Engine: ...

    def release(self, engine: Engine) -> None: ...

    def close(self) -> None: ...


@dataclass(slots=True)
class Contexts:
    """A loaded model, and `engine(n_cells)`.

    n_ctx_train: the trained length in positions. name: the file's stem. given: what to write after `--model` to get
    it, a file without its folder.
    """

    model: LoadedModel
    n_ctx_train: int
    name: str
    given: str
    sha256: str = ""
    _engines: "OrderedDict[int, Engine]" = field(default_factory=OrderedDict)
    _past: EngineTimes = field(default_factory=EngineTimes)

    def engine(self, n_cells: int) -> Engine:
        """An empty engine of at least `n_cells` cells and the scratch beside them."""
        size = -(-n_cells // _STEP) * _STEP + N_SCRATCH
        if size not in self._engines:
            while len(self._engines) >= _MOST_ENGINES:
                self._retire(self._engines.popitem(last=False)[1])
            self._engines[size] = self.model.open_engine(size, n_seq_max=1 + N_OPTIONS)
        self._engines.move_to_end(size)
        engine = self._engines[size]
        for seq in range(1 + N_OPTIONS):
            engine.remove(seq, 0, -1)
        return engine

    def count_tokens(self, text: str) -> int:
        """How many tokens `text` has, markers not counted."""
        return len(self.model.codec.encode(text, special=False))

    def times(self) -> EngineTimes:
        """Seconds in all engines so far."""
        all_times = [self._past, *(e.times for e in self._engines.values())]
        return EngineTimes(sum(t.decode_s for t in all_times), sum(t.score_s for t in all_times))

    def close(self) -> None:
        """Frees all engines, then the model."""
        while self._engines:
            self._retire(self._engines.popitem()[1])
        self.model.close()

    def _retire(self, engine: Engine) -> None:
        self._past = EngineTimes(self._past.decode_s + engine.times.decode_s, self._past.score_s + engine.times.score_s)
        self.model.release(engine)


def open_contexts(model: str, *, threads: int = 0, chat_template: Path | None = None, quiet: bool = False) -> Contexts:
    """Contexts on a model of the manifest or a GGUF file. Raises UserError for what the caller can mend."""
    found = ensure_model(model, quiet=quiet)
    loaded = load(model, threads=threads, chat_template=chat_template, quiet=quiet, chunk=_CHUNK)
    given = found.path.name if found.entry is None else model
    return Contexts(loaded, loaded.header.n_ctx_train, found.path.stem, given, file_sha256(found.path))
