"""Puts the parts together, in this one place: a file becomes a Model, a Model gives chats and contexts.

load(name) ──> Model ──chat()──> Chat, in a context of its own
                 ├──batch()──> results of many dialogues in one context
                 └──open_engine()──> Engine, for whoever plays dialogues otherwise
"""

import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from edge_sir import models
from edge_sir._shield import shield
from edge_sir.chat import Chat
from edge_sir.chat.conversation import scores_of
from edge_sir.core.budget import Budget
from edge_sir.core.recall_mode import recall_mode
from edge_sir.core.records import Eviction
from edge_sir.engine import Engine, TextCodec
from edge_sir.errors import BudgetError, ConfigError, TemplateError
from edge_sir.models import hub
from edge_sir.options import Options
from edge_sir.policies import from_spec
from edge_sir.text.template import ChatTemplate
from edge_sir.text.tools import Tools
from edge_sir.trace.record import Trace

if TYPE_CHECKING:
    from edge_sir.batch.contexts import Contexts, Parallel
    from edge_sir.batch.loop import Request
    from edge_sir.batch.result import BatchResult
    from edge_sir.batch.run import BatchRun
    from edge_sir.batch.terms import BatchTerms
    from edge_sir.llama.engine import EngineOptions, LlamaEngine
    from edge_sir.llama.gguf.header import GGUFHeader
    from edge_sir.named import Named
    from edge_sir.recall.dense import SentenceEncoder

__all__ = ["Model", "ensure_model", "load", "open_chat"]

_log = logging.getLogger(__name__)

_LEAST_BATCH = 64  # tokens: several slices of a model with a large vocabulary and so a small chunk

_OF_LOADING = ("model", "threads", "gpu_layers", "kv_k", "kv_v", "flash_attn", "chunk", "chat_template", "quiet")


def load(name_or_path: str | Path | None = None, **options: Any) -> "Model":
    """Loads a model by name, path or `hf:OWNER/REPO:FILE`; close it, or use it in a `with` block.

    options: those fields of `Options` that say how it is loaded (threads, gpu_layers, kv_k, kv_v, flash_attn, chunk,
    chat_template, quiet); others become the defaults of its chats. A model that is not here yet is downloaded. Raises
    UserError for what the caller can mend, EngineError for what llama.cpp refuses.
    """
    if "trace" in options:
        raise ConfigError("'trace' is one chat's; give it to Model.chat")
    if name_or_path is not None:
        options["model"] = str(name_or_path)
    chosen = Options(**options)
    return _with_template(Model(ensure_model(chosen.model, quiet=chosen.quiet), chosen))


def open_chat(
    options: Options | None = None, *, on_evict: Callable[[Eviction], None] | None = None, wait_s: float = 0.0
) -> Chat:
    """Loads a model and opens one chat on it; closing the chat closes the model, too.

    on_evict, wait_s: as in `Model.chat`. With a session that is there already, the model is the one that held it, if
    none is given. Raises as `load` and `Model.chat`.
    """
    with ExitStack() as opened:
        named = _named(options or Options(), opened)
        options = named.options if named is not None else options or Options()
        policy = from_spec(options.policy)
        found = ensure_model(options.model, quiet=options.quiet)
        header = None
        if named is not None:
            from edge_sir.llama.gguf.check import check_model_file

            header = check_model_file(found.path)
            named.check_model(header.fingerprint, found.path.name)  # before minutes of loading
        trace = None if options.trace is None else opened.enter_context(Trace(options.trace))
        model = _with_template(Model(found, options, options.budget if policy.evicts else None, header))
        opened.callback(model.close)
        chat = model._open(options, on_evict=on_evict, trace=trace, wait_s=wait_s, named=named)
        opened.pop_all()
    model._closes_with_its_chat = True
    return chat


class Model:
    """A loaded model: its weights, its text side, and the contexts that were opened on it.

    Chats on one model share its weights; each has a context of its own. codec: text to tokens. loaded: what memory that
    took. n_cells: cells that are going to be asked for; more than the model was trained for are refused before it is
    loaded. header: what `check_model_file` said of the file, if it was asked already. Its chats may run in threads of
    their own.
    """

    def __init__(
        self,
        found: models.ResolvedModel,
        options: Options,
        n_cells: int | None = None,
        header: "GGUFHeader | None" = None,
    ) -> None:
        from edge_sir.llama.gguf.check import check_model_file
        from edge_sir.llama.kshift.admission import admit

        self.options = options
        self.path = found.path
        self.header = header or check_model_file(found.path)
        if self.header.warning:
            _log.warning("%s %s", found.path.name, self.header.warning)
        if n_cells is not None:  # before minutes of loading, and before memory is taken for it
            Budget(n_cells).check_trained_length(self.header.n_ctx_train, found.path.name)
        self.trials = admit(
            self.header,
            gpu_layers=options.gpu_layers,
            threads=options.threads,
            kv_k=options.kv_k,
            kv_v=options.kv_v,
            flash_attn=options.flash_attn,
        )
        with shield():  # llama.cpp logs through a callback, in which a KeyboardInterrupt would be lost
            # llama.cpp takes half a second to import; nothing but a loaded model needs it.
            from edge_sir.llama.footprint import load_measured
            from edge_sir.llama.text import LlamaText

            self.native, self.loaded = load_measured(found.path, gpu_layers=options.gpu_layers, header=self.header)
        self.codec: TextCodec = LlamaText(self.native)
        self._template_source = found.chat_template or self.header.chat_template
        self.stop = () if options.chat_template else found.stop
        self._engines: set[LlamaEngine] = set()
        self._chats: set[Chat] = set()
        _bound_archive(options.archive)
        self._closes_with_its_chat = False

    # ---- what it gives -------------------------------------------------------------------------

    @cached_property
    def template(self) -> ChatTemplate:
        """The chat template: the chosen one, else the manifest's, else the file's own.

        Raises TemplateError, also for a model that has none, and ConfigError for a file that cannot be read.
        """
        chosen = self.options.chat_template
        source = self._template_source if chosen is None else _read_template(chosen)
        if not source:
            raise TemplateError(f"{self.path} has no chat template; give one with --chat-template FILE")
        return ChatTemplate(source, bos=self.codec.bos_text, eos=self.codec.eos_text)

    def engine_options(self, n_seq_max: int = 1) -> "EngineOptions":
        """How contexts for `n_seq_max` sequences are made on this model."""
        from edge_sir.llama.engine import EngineOptions

        names = ("threads", "kv_k", "kv_v", "flash_attn", "chunk")
        return EngineOptions(n_seq_max=n_seq_max, **{name: getattr(self.options, name) for name in names})

    def chat(
        self,
        *,
        on_evict: Callable[[Eviction], None] | None = None,
        wait_s: float = 0.0,
        tools: Sequence[Mapping[str, Any]] | str | None = None,
        **options: Any,
    ) -> Chat:
        """Opens a chat in a context of its own. Close it, or the model.

        options: fields of `Options` that say how one talks (budget, policy, recall, positions, system, max_tokens,
        those of `SamplingParams`, stop, trace); what is not given is as the session has it, if it is there already, and
        else as in `load`. archive is the exception: it bounds the evicted cells of all chats of the process, and the
        last one given counts, here or in `load`.
        on_evict is called with all that is evicted; it may look at the chat and close it. wait_s: how many seconds a
        call waits while another thread's is at work on the chat, or a stream of its open; then, and by default at once,
        it raises SessionError. tools: functions that the model may call, in OpenAI's form; None for those that the
        session has. Raises ConfigError for an unknown option, BudgetError for a budget that memory or the
        model does not have, CapabilityError, SessionError if the model is closed.
        """
        merged = self._merged(options)
        with ExitStack() as opened:
            named = _named(merged, opened, options, {name: getattr(self.options, name) for name in _OF_LOADING})
            merged = merged if named is None else named.options
            trace = None if merged.trace is None else opened.enter_context(Trace(merged.trace))
            chat = self._open(merged, on_evict=on_evict, trace=trace, wait_s=wait_s, named=named, tools=tools)
            opened.pop_all()
        return chat

    # ---- many dialogues at once ------------------------------------------------------------------

    def batch(
        self, requests: "Iterable[Request]", *, parallel: "Parallel" = "auto", **options: Any
    ) -> "Iterator[BatchResult]":
        """Holds many dialogues and yields their results as they finish, in any order.

        requests: `BatchRequest`s, or objects as lines of OpenAI's batch files have them; they are taken as dialogues
        end, never all at once. parallel: how many dialogues are held at a time, in one context; "auto" measures what is
        fastest here, up to 16 or as many as memory holds, in one context or in several of one thread each (a line of
        the logger `edge_sir.batch` says what was chosen, and why). options: as in `chat`, for all dialogues whose
        requests give none of their own; positions "auto" is gaps here. What is wrong with one request is its result's
        `error`, and the others go on. Leaving early (closing the iterator) frees everything. Raises as `chat`, and what
        the source of the requests raises.
        """
        from edge_sir.batch.run import results

        return results(self._batch(requests, parallel, options))

    def abatch(
        self, requests: "Iterable[Request]", *, parallel: "Parallel" = "auto", **options: Any
    ) -> "AsyncIterator[BatchResult]":
        """As `batch`, each step in a thread of its own: nothing else of the program waits for it."""
        from edge_sir.batch.run import results_async

        return results_async(self._batch(requests, parallel, options))

    def _batch(
        self, requests: "Iterable[Request]", parallel: "Parallel", options: Mapping[str, Any]
    ) -> "AbstractContextManager[BatchRun]":
        from edge_sir.batch.contexts import checked

        terms, parallel = self._batch_terms(options), checked(parallel)
        n_cells = terms.n_cells(terms.options)
        Budget(n_cells).check_trained_length(self.header.n_ctx_train, self.path.name)
        return self._contexts.run(requests, terms, n_cells, parallel)

    @cached_property
    def _contexts(self) -> "Contexts":
        """Opens the contexts of batches, and knows which way writes fastest here."""
        from edge_sir.batch.contexts import Contexts
        from edge_sir.llama.native import default_threads

        def open_(n: int, n_cells: int, threads: int) -> Engine:
            return self.open_engine(n * n_cells, n_seq_max=n, shares=True, threads=threads)

        return Contexts(open_, self.release, self.options.threads or default_threads())

    def _batch_terms(self, options: Mapping[str, Any]) -> "BatchTerms":
        from edge_sir.batch.terms import BatchTerms

        merged = self._merged(options)
        for name in ("session", "trace"):
            if getattr(merged, name) is not None:
                raise ConfigError(f"'{name}' is one chat's; a batch holds many dialogues")
        return BatchTerms(
            self.codec,
            self._with_arguments(merged.template_args),
            merged,
            self.stop,
            self.header.n_ctx_train,
            self.path.name,
            lambda: self.recall_encoder,
        )

    # ---- contexts --------------------------------------------------------------------------------

    def open_engine(self, n_cells: int, *, n_seq_max: int = 1, shares: bool = False, threads: int = 0) -> "LlamaEngine":
        """A context of `n_cells` cells for `n_seq_max` sequences; `release` frees it, and so does `close`.

        shares: several sequences are in one decode, each with as many tokens as it would have alone. threads: 0 for
        those of the options.
        Raises BudgetError, before llama.cpp is asked, where memory does not suffice; LoadError, CapabilityError.
        """
        from edge_sir.llama.engine import LlamaEngine

        self._check_open()
        with shield():
            options = self._sharing_options(n_seq_max) if shares else self.engine_options(n_seq_max)
            if threads:
                options = replace(options, threads=threads)
            engine = LlamaEngine(self.native, n_cells, options, trials=self.trials)
        self._engines.add(engine)
        self._close_if_late(engine)
        return engine

    def _sharing_options(self, n_seq_max: int) -> "EngineOptions":
        """A decode has room for the largest slice of one sequence and a token of each other.

        Each sequence has cells of its own where they can be copied and put back there: one by one or many at once, then
        nothing but rounding makes a difference.
        """
        from edge_sir.llama.kshift.gate import restore_verdict
        from edge_sir.llama.native import lib

        alone = self.engine_options().on(self.native.n_vocab)
        has_window = bool(lib.llama_model_n_swa(self.native.handle))
        streams = not has_window and restore_verdict(self.header, self.trials.restore).allowed
        n_batch = alone.n_batch if n_seq_max == 1 else max(_LEAST_BATCH, alone.chunk + n_seq_max)
        return replace(alone, n_seq_max=n_seq_max, n_batch=n_batch, streams=streams)

    def release(self, engine: Engine) -> None:
        """Frees a context that `open_engine` gave; the last one of `open_chat` takes the model along."""
        engine.close()
        self._engines.discard(engine)
        if self._closes_with_its_chat and not self._engines:
            self.close()

    def close(self) -> None:
        """Closes its chats, frees all contexts and then the weights; a second call does nothing."""
        self.native.close()  # nobody gets in any more; it is freed with the last context
        while self._chats:
            self._chats.pop().close()
        while self._engines:
            self._engines.pop().close()

    def __enter__(self) -> "Model":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    # ---- helpers -------------------------------------------------------------------------------

    def _open(
        self,
        options: Options,
        *,
        on_evict: Callable[[Eviction], None] | None,
        trace: Trace | None,
        wait_s: float,
        named: "Named | None",
        tools: Sequence[Mapping[str, Any]] | str | None = None,
    ) -> Chat:
        saver = None
        wanted = None if tools is None else Tools.of(tools)
        if named is not None:
            named.check_model(self.header.fingerprint, self.path.name)
            saver = named.saver(self.named_as(options), self.header.fingerprint)
        policy = from_spec(options.policy)
        n_cells = options.budget if policy.evicts else self.header.n_ctx_train
        recall = recall_mode(options.recall, policy)
        dense = recall != "off" and options.recall_index == "dense"
        recall_encoder = self.recall_encoder if dense else None  # before memory is taken: it may not be installed
        Budget(n_cells).check_trained_length(self.header.n_ctx_train, self.path.name)
        try:
            engine = self.open_engine(max(n_cells, 0 if named is None else named.n_cells))
        except BudgetError as error:
            if policy.evicts:
                raise
            raise BudgetError(f"{error}; keep-all takes the model's whole length: use --policy sir") from None
        try:
            if named is not None and saver is not None:
                named.resume(saver, engine, self.codec, scores_of(trace))
            chat = Chat(
                engine,
                self.codec,
                self._with_arguments(options.template_args),
                policy,
                n_cells,
                sampling=options.sampling,
                max_tokens=options.max_tokens,
                stop=(*options.stop, *self.stop),
                system=options.system,
                positions=options.positions,
                on_evict=on_evict,
                host=self,
                recall=recall,
                recall_encoder=recall_encoder,
                trace=trace,
                wait_s=wait_s,
                saver=saver,
                tools=named.tools if wanted is None and named is not None else wanted,
            )
        except BaseException:
            self.release(engine)
            raise
        if named is not None and saver is not None:
            try:
                named.go_on(chat, saver)
                if wanted is not None and wanted != chat.tools:
                    chat.set_tools(wanted)
            except BaseException:
                chat.close()
                raise
        self._chats.difference_update([other for other in tuple(self._chats) if other.is_closed])
        self._chats.add(chat)
        self._close_if_late(chat)
        return chat

    @cached_property
    def recall_encoder(self) -> "SentenceEncoder":
        from edge_sir.recall.dense import MiniLm

        return MiniLm()

    def named_as(self, options: Options) -> str:
        """By which name another process finds this model."""
        name = options.model
        is_file = hub.parse(name) is None and isinstance(models.find_model(name), Path)
        return str(self.path.resolve()) if is_file else name

    def _merged(self, options: Mapping[str, Any]) -> Options:
        """Those of the model, with these on top. Raises ConfigError, SessionError if the model is closed."""
        self._check_open()
        if of_loading := [name for name in options if name in _OF_LOADING]:
            raise ConfigError(f"'{of_loading[0]}' says how a model is loaded; give it to edge_sir.load")
        merged = Options(**(self.options.model_dump(by_alias=True, exclude_unset=True) | dict(options)))
        if "archive" in options:
            _bound_archive(merged.archive)
        return merged

    def _with_arguments(self, arguments: Mapping[str, Any]) -> ChatTemplate:
        unknown = sorted(set(arguments) - self.template.asks_for)
        if unknown:
            known = ", ".join(sorted(self.template.asks_for)) or "nothing"
            _log.warning("the chat template does not ask for %s; it asks for %s", ", ".join(unknown), known)
        return self.template.with_arguments(arguments)

    def _check_open(self) -> None:
        self.native.owner.check()

    def _close_if_late(self, opened: "Chat | LlamaEngine") -> None:
        """Closes what was opened while another thread closed the model. Raises SessionError then."""
        if self.native.owner.over:
            opened.close()
            self._check_open()


def _named(
    options: Options,
    opened: ExitStack,
    given: Collection[str] | None = None,
    loaded: Mapping[str, Any] | None = None,
) -> "Named | None":
    """The session that the options name, None for none; `opened` closes it. given, loaded: as in `Named.open`."""
    if options.session is None:
        if options.read_only:
            raise ConfigError("--read-only looks at a session that is saved; give --session NAME, too")
        return None
    from edge_sir.named import Named  # with a database, which a chat without a name does not need

    named = Named.open(options, given, loaded)
    opened.callback(named.close)
    return named


def ensure_model(name_or_path: str, *, quiet: bool) -> models.ResolvedModel:
    """The model's file, fetched if it is not here and the manifest or `hf:` says from where. Raises ModelError."""
    if (file := hub.parse(name_or_path)) is not None:
        return models.ResolvedModel(hub.fetch(file, quiet=quiet))
    entry = models.find_model(name_or_path)
    if not isinstance(entry, Path) and models.model_state(entry) != "ready":
        models.fetch(entry, accept_licence=False, quiet=quiet)
    return models.resolve(name_or_path)


def _bound_archive(n_bytes: int | None) -> None:
    """Bounds what all chats of the process keep of evicted cells; None leaves the bound as it is."""
    if n_bytes is not None:
        from edge_sir.recall.store import process_store

        process_store().bound = n_bytes


def _with_template(model: Model) -> Model:
    """The model, which can hold a conversation; else it is closed. Raises as `Model.template`."""
    try:
        _ = model.template
    except BaseException:
        model.close()
        raise
    return model


def _read_template(file: Path) -> str:
    try:
        return file.expanduser().read_text(encoding="utf-8-sig")
    except (OSError, ValueError, RuntimeError) as error:  # a null byte in its name, ~somebody who does not exist
        reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else getattr(error, "strerror", None)
        raise ConfigError(f"cannot read the chat template {file}: {reason or error}") from None
