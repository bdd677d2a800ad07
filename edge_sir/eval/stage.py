"""What dialogues are played on: one model, and contexts of any size that are made once and reused."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from edge_sir.engine import Engine, EngineTimes, TextCodec
from edge_sir.template import ChatTemplate

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
        engine.close()


def open_stage(model: str, *, threads: int = 0, chat_template: Path | None = None, quiet: bool = False) -> Stage:
    """A stage on a model of the manifest or a GGUF file. Raises UserError for what the caller can mend."""
    import hashlib

    # llama.cpp takes half a second to import; `eval list` and `eval report` do without it.
    from edge_sir.llama.admission import admit
    from edge_sir.llama.engine import EngineOptions, LlamaEngine
    from edge_sir.llama.gguf_check import check_model_file
    from edge_sir.llama.native import NativeModel
    from edge_sir.runtime import ensure_model, load_template

    found = ensure_model(model, quiet=quiet)
    header = check_model_file(found.path)
    shift_test = admit(header, gpu_layers=-1, threads=threads)
    native = NativeModel(found.path, header=header)

    def open_engine(n_cells: int, n_seq: int) -> LlamaEngine:
        options = EngineOptions(threads=threads, chunk=_CHUNK, n_seq_max=n_seq)
        return LlamaEngine(native, n_cells, options, shift_test=shift_test)

    try:
        first = open_engine(N_SCRATCH, 1)
        template = load_template(found, first, chat_template)
        codec = first.text
        first.close()
        with found.path.open("rb") as file:
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
    except BaseException:
        native.close()
        raise
    return Stage(
        codec,
        template,
        open_engine,
        native.header.n_ctx_train,
        model=found.path.stem,
        given=found.path.name if found.entry is None else model,
        sha256=digest.hexdigest(),
        on_close=native.close,
    )
