"""What conversations need of a loaded model, so that a toy can stand in for one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from edge_sir.chat.conversation import Host
from edge_sir.engine import TextCodec
from edge_sir.server.terms import Feature
from edge_sir.text.template import ChatTemplate

if TYPE_CHECKING:
    from edge_sir.recall.dense import SentenceEncoder
    from edge_sir.runtime import Model

__all__ = ["CAN", "Loaded", "Served", "loaded_of", "served_of"]


CAN: frozenset[Feature] = frozenset(get_args(Feature))
"""What every model can do here."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that can hold conversations.

    host: gives contexts, and takes them back. fingerprint: of its file. terms: what each session keeps of how it was
    begun. stop: texts that end its replies. recall_encoder: gives what finds texts that mean alike, where that is used.
    n_vocab: tokens of its vocabulary, or more where that is not known.
    """

    host: Host
    codec: TextCodec
    template: ChatTemplate
    fingerprint: str
    model: str
    terms: Mapping[str, Any]
    stop: tuple[str, ...] = ()
    recall_encoder: Callable[[], "SentenceEncoder"] | None = None
    n_vocab: int = 2**31


@dataclass(frozen=True, slots=True)
class Served:
    """The model that answers. name: its id. fingerprint: of its file. created: unix seconds. can: what it can do."""

    name: str
    fingerprint: str
    created: int
    can: frozenset[Feature] = frozenset()


def loaded_of(model: "Model") -> Loaded:
    """The model as it was loaded. Raises TemplateError."""
    from edge_sir.named import kept_terms

    options = model.options
    name = model.named_as(options)
    return Loaded(
        model,
        model.codec,
        model.template.with_arguments(options.template_args),
        model.header.fingerprint,
        name,
        kept_terms(options, name),
        model.stop,
        lambda: model.recall_encoder,
        model.native.n_vocab,
    )


def served_of(model: "Model") -> Served:
    """How clients see the model."""
    name = model.named_as(model.options)
    name = model.path.stem if name == str(model.path.resolve()) else name
    return Served(name, model.header.fingerprint, int(model.path.stat().st_mtime), CAN)
