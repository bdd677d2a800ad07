"""Puts the parts together: from options to a chat on a real model."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edge_sir import models
from edge_sir._shield import shield
from edge_sir.chat import Chat
from edge_sir.core.budget import Budget
from edge_sir.core.records import Eviction
from edge_sir.engine import SamplingParams
from edge_sir.errors import ConfigError, TemplateError
from edge_sir.models import hub
from edge_sir.options import Options
from edge_sir.policies import from_spec
from edge_sir.template import ChatTemplate
from edge_sir.trace import Trace

if TYPE_CHECKING:
    from edge_sir.llama.engine import EngineOptions, LlamaEngine

__all__ = ["ensure_model", "load_template", "open_chat"]


def open_chat(options: Options | None = None, *, on_evict: Callable[[Eviction], None] | None = None) -> Chat:
    """Loads a model and opens a conversation on it; close it, or use it in a `with` block.

    A model of the manifest that is not here yet is downloaded. on_evict is called with all that is let go.
    Raises UserError for what the caller can mend, EngineError for what llama.cpp refuses.
    """
    options = options or Options()
    policy = from_spec(options.policy)
    found = ensure_model(options.model, quiet=options.quiet)
    engine = None
    trace = None if options.trace is None else Trace(options.trace)
    try:
        engine = _load(found.path, options, keep_all=not policy.evicts)
        text = engine.text
        return Chat(
            engine,
            text,
            load_template(found, engine, options.chat_template),
            policy,
            options.budget if policy.evicts else engine.spec.n_ctx_train,
            sampling=_sampling(options),
            max_tokens=options.max_tokens,
            stop=options.stop if options.chat_template else (*options.stop, *found.stop),
            system=options.system,
            positions=options.positions,
            on_evict=on_evict,
            owns_engine=True,
            reopen=_reopener(engine, options),
            on_close=engine.model.close,
            trace=trace,
        )
    except BaseException:
        if engine is not None:
            engine.close()
            engine.model.close()
        if trace is not None:
            trace.close()
        raise


def _load(path: Path, options: Options, *, keep_all: bool) -> "LlamaEngine":
    from edge_sir.llama.admission import admit
    from edge_sir.llama.gguf_check import check_model_file

    header = check_model_file(path)
    n_cells = header.n_ctx_train if keep_all else options.budget
    Budget(n_cells).check_trained_length(header.n_ctx_train, path.name)  # before memory is taken for it
    shift_test = admit(header, gpu_layers=options.gpu_layers, threads=options.threads)

    with shield():  # llama.cpp logs through a callback, in which a KeyboardInterrupt would be lost
        # llama.cpp takes half a second to import; nothing but an open chat needs it.
        from edge_sir.llama.engine import LlamaEngine
        from edge_sir.llama.native import NativeModel

        model = NativeModel(path, gpu_layers=options.gpu_layers, header=header)
        try:
            return LlamaEngine(model, n_cells, _engine_options(options), shift_test=shift_test)
        except BaseException:
            model.close()
            raise


def _reopener(engine: "LlamaEngine", options: Options) -> "Callable[[int], LlamaEngine]":
    """More cells for the same model, which therefore must outlive its engines."""

    def reopen(n_cells: int) -> "LlamaEngine":
        with shield():
            return type(engine)(engine.model, n_cells, _engine_options(options), shift_test=engine.shift_test)

    return reopen


def _engine_options(options: Options) -> "EngineOptions":
    from edge_sir.llama.engine import EngineOptions

    return EngineOptions(
        threads=options.threads,
        kv_k=options.kv_k,
        kv_v=options.kv_v,
        flash_attn=options.flash_attn,
        chunk=options.chunk,
    )


def ensure_model(name_or_path: str, *, quiet: bool) -> models.ResolvedModel:
    """The model's file, fetched if it is not here and the manifest or `hf:` says from where. Raises ModelError."""
    if (file := hub.parse(name_or_path)) is not None:
        return models.ResolvedModel(hub.fetch(file, quiet=quiet))
    entry = models.find_model(name_or_path)
    if not isinstance(entry, Path) and models.model_state(entry) != "ready":
        models.fetch(entry, accept_licence=False, quiet=quiet)
    return models.resolve(name_or_path)


def load_template(found: models.ResolvedModel, engine: "LlamaEngine", file: Path | None = None) -> ChatTemplate:
    """The chat template of `file`, else the manifest's, else the model's own. Raises ConfigError or TemplateError."""
    if file is not None:
        try:
            source: str | None = file.expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise ConfigError(f"cannot read the chat template {file}: {reason}") from None
    else:
        source = found.chat_template or engine.model.header.chat_template
    if not source:
        raise TemplateError(f"{found.path} has no chat template; give one with --chat-template FILE")
    return ChatTemplate(source, bos=engine.text.bos_text, eos=engine.text.eos_text)


def _sampling(options: Options) -> SamplingParams:
    return SamplingParams(
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        min_p=options.min_p,
        repeat_penalty=options.repeat_penalty,
        seed=options.seed,
    )
