"""What the dialogues of a batch have in common, and what of that a request changes."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge_sir.batch.body import TERMS
from edge_sir.batch.dialogue import Dialogue
from edge_sir.batch.request import BatchRequest
from edge_sir.batch.schedule import Waiting
from edge_sir.chat.chat import Chat
from edge_sir.core.budget import Budget
from edge_sir.core.policy import Policy
from edge_sir.core.recall_mode import recall_mode
from edge_sir.engine import Engine, TextCodec
from edge_sir.errors import ConfigError
from edge_sir.memory.transcript import Message
from edge_sir.options import Options
from edge_sir.policies import from_spec
from edge_sir.session import SessionState
from edge_sir.text.encoder import MessageEncoder
from edge_sir.text.template import ChatTemplate

if TYPE_CHECKING:
    from edge_sir.recall.dense import SentenceEncoder

__all__ = ["BatchTerms", "Prepared", "seed_of"]


def seed_of(seed: int, custom_id: str) -> int:
    """The seed of one dialogue among many of the same `seed`: the same in every process, whatever runs beside it."""
    digest = hashlib.sha256(custom_id.encode("utf-8", "surrogatepass")).digest()
    entropy = [seed, *np.frombuffer(digest, "<u4").tolist()]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


@dataclass(frozen=True, slots=True)
class BatchTerms:
    """The terms of a dialogue whose request gives none of its own.

    template: with the arguments of the options. stop: texts that end a reply beside those of the options. n_ctx_train:
    the trained length of `model`. sentences: gives the encoder for a dense index of recall.
    """

    codec: TextCodec
    template: ChatTemplate
    options: Options
    stop: tuple[str, ...]
    n_ctx_train: int
    model: str
    sentences: "Callable[[], SentenceEncoder]"

    def n_cells(self, options: Options) -> int:
        """The budget; where the policy never evicts, the trained length, as in a chat."""
        return options.budget if from_spec(options.policy).evicts else self.n_ctx_train

    def prepare(self, request: BatchRequest) -> "Prepared":
        """The request with all its terms. Raises UserError where they cannot be met."""
        if not request.said:
            raise ConfigError("nothing is said that could be answered; give at least one text of the user")
        if foreign := sorted(request.terms.keys() - TERMS.keys()):
            raise ConfigError(f"'{foreign[0]}' cannot differ between dialogues; give it for all of them")
        options = Options(**(self.options.model_dump(by_alias=True, exclude_unset=True) | dict(request.terms)))
        first = request.messages[:1] if request.messages and request.messages[0].role == "system" else ()
        changed = {
            "seed": seed_of(options.seed, request.custom_id),
            "system": first[0].text if first else options.system,
            # With gaps keys stay as they are: a K-shift would run over the cells of all sequences.
            "positions": "gaps" if options.positions == "auto" else options.positions,
        }
        options = options.model_copy(update=changed)
        Budget(self.n_cells(options)).check_trained_length(self.n_ctx_train, self.model)
        template = self.template.with_arguments(request.terms.get("template_args", {}))
        waiting = Waiting(self.n_cells(options), self._opening(options, template))
        return Prepared(self, request, options, template, request.messages[len(first) :], waiting)

    def _opening(self, options: Options, template: ChatTemplate) -> str:
        """A name for what dialogues share whose openings are the same rows: tokens, scores and positions."""
        parts = MessageEncoder(self.codec, template, options.system or None).opening()
        if not any(len(tokens) for _, tokens in parts):
            return ""
        needs = sorted(from_spec(options.policy).needs)
        name = repr((needs, options.positions, [(role, tokens.tolist()) for role, tokens in parts]))
        return hashlib.sha256(name.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that can begin. messages: those between the system prompt and what is said."""

    terms: BatchTerms
    request: BatchRequest
    options: Options
    template: ChatTemplate
    messages: tuple[Message, ...]
    waiting: Waiting

    def begin(self, engine: Engine, seq: int, opened: SessionState | None = None) -> Dialogue:
        """The dialogue, in a sequence that holds the cells of `opened`, else nothing. Raises as `Chat`."""
        options, terms, policy = self.options, self.terms, self.policy
        recall = recall_mode(options.recall, policy)
        is_dense = recall != "off" and options.recall_index == "dense"
        chat = Chat(
            engine,
            terms.codec,
            self.template,
            policy,
            self.waiting.n_cells,
            sampling=options.sampling,
            max_tokens=options.max_tokens,
            stop=(*options.stop, *terms.stop),
            system=options.system,
            positions=options.positions,
            seq=seq,
            recall=recall,
            recall_encoder=terms.sentences() if is_dense else None,
            is_driven=True,
            opened=opened,
        )
        return Dialogue(self, chat, opened)

    @property
    def policy(self) -> Policy:
        """What evicts."""
        return from_spec(self.options.policy)
