"""What dialogues are played on: one model, and contexts of any size that are made once and reused."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from edge_sir.engine import Engine, EngineTimes, TextCodec
from edge_sir.models.files import file_sha256
from edge_sir.runtime import ensure_model, load
from edge_sir.text.template import ChatTemplate

__all__ = ["N_OPTIONS", "N_SCRATCH", "Stage", "open_stage"]

N_OPTIONS = 8
"""Options of a question that are valued at once, each on a copy of the sequence."""
N_SCRATCH = 256
"""Cells for the options' tokens, beside the budget."""

_CHUNK = 128  # whatever the vocabulary: a question's options are decoded at once, and memory is no concern here
_MOST_ENGINES = 6
_STEP = 256  # sizes are rounded up, so that dialogues of about one length share a context


@dataclass(slots=True)
class Stage:
    """A model's text side, and `engine(n_cells)`.

    open_engine: makes an Engine of so many cells and sequences. model: the file's stem. given: what to write after
    `--model` to get it, a file without its folder.
    """

    codec: TextCodec
    template: ChatTemplate
    open_engine: Callable[[int, int], Engine]
    n_ctx_train: int
    model: str
    given: str
    sha256: str = ""
    release: Callable[[Engine], None] = lambda engine: engine.close()
    on_close: Callable[[], None] = lambda: None
    _engines: "OrderedDict[int, Engine]" = field(default_factory=OrderedDict)
    _past: EngineTimes = field(default_factory=EngineTimes)

    def engine(self, n_cells: int) -> Engine:
        """An empty engine of at least `n_cells` cells and the scratch beside them."""
        size = -(-n_cells // _STEP) * _STEP + N_SCRATCH
        if size not in self._engines:
            while len(self._engines) >= _MOST_ENGINES:
                self._retire(self._engines.popitem(last=False)[1])
            self._engines[size] = self.open_engine(size, 1 + N_OPTIONS)
        self._engines.move_to_end(size)
        engine = self._engines[size]
        for seq in range(1 + N_OPTIONS):
            engine.remove(seq, 0, -1)
        return engine

    def count_tokens(self, text: str) -> int:
        """How many tokens `text` has, markers not counted."""
        return len(self.codec.encode(text, special=False))

    def times(self) -> EngineTimes:
        """Seconds in all engines so far."""
        all_times = [self._past, *(e.times for e in self._engines.values())]
        return EngineTimes(sum(t.decode_s for t in all_times), sum(t.score_s for t in all_times))

    def close(self) -> None:
        """Frees all engines, then the model."""
        while self._engines:
            self._retire(self._engines.popitem()[1])
        self.on_close()

    def _retire(self, engine: Engine) -> None:
        self._past = EngineTimes(self._past.decode_s + engine.times.decode_s, self._past.score_s + engine.times.score_s)
        self.release(engine)


def open_stage(model: str, *, threads: int = 0, chat_template: Path | None = None, quiet: bool = False) -> Stage:
    """A stage on a model of the manifest or a GGUF file. Raises UserError for what the caller can mend."""
    found = ensure_model(model, quiet=quiet)
    loaded = load(model, threads=threads, chat_template=chat_template, quiet=quiet, chunk=_CHUNK)
    return Stage(
        loaded.codec,
        loaded.template,
        lambda n_cells, n_seq: loaded.open_engine(n_cells, n_seq_max=n_seq),
        loaded.header.n_ctx_train,
        model=found.path.stem,
        given=found.path.name if found.entry is None else model,
        sha256=file_sha256(found.path),
        release=loaded.release,
        on_close=loaded.close,
    )
