"""Batches on the toy engine, and the same dialogues one after another in chats of their own."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from edge_sir.batch.loop import BatchLoop, Request
from edge_sir.batch.request import BatchRequest
from edge_sir.batch.result import BatchResult
from edge_sir.batch.terms import BatchTerms, seed_of
from edge_sir.chat import Chat
from edge_sir.core.recall_mode import recall_mode
from edge_sir.engine import Slice, SliceResult
from edge_sir.memory.transcript import Message
from edge_sir.options import Options
from edge_sir.policies import from_spec
from edge_sir.testing import ByteTokenizer, ToyEngine
from edge_sir.text.template import ChatTemplate

CODEC = ByteTokenizer()
TEMPLATE = ChatTemplate(CODEC.CHAT_TEMPLATE, bos=CODEC.bos_text, eos=CODEC.eos_text)
N_SLICE = 24
WORDS = ("Ada", "garden", "river", "Henrik", "ferry", "Bergen", "yellow", "boat", "morning", "seven", "crate", "uncle")
NUMBERS = ("zeta", "theta", "kappa", "lambda", "sigma", "omega")


class Watched(ToyEngine):
    """Notes every decode: the sequences in it, and how many tokens of each.

    failing: those whose decodes fail, and how; -1 for every decode of several. n_batch: 0 for as little as a model has.
    """

    def __init__(self, n_seq_max: int = 1, n_cells: int = 0, *, n_batch: int = 0, **options: Any) -> None:
        options |= {"n_batch": n_batch or N_SLICE + n_seq_max - 1, "n_slice": N_SLICE, "n_seq_max": n_seq_max}
        super().__init__(n_cells or 160 * n_seq_max, **options)
        self.steps: list[dict[int, int]] = []
        self.failing: dict[int, Exception] = {}

    def decode(self, slices: Sequence[Slice]) -> list[SliceResult]:
        self.steps.append({piece.seq: len(piece.tokens) for piece in slices})
        for seq in [piece.seq for piece in slices] + [-1] * (len(slices) > 1):
            if seq in self.failing:
                raise self.failing[seq]
        return super().decode(slices)


def terms(*, n_ctx_train: int = 4096, **options: Any) -> BatchTerms:
    chosen = Options(**{"budget": 128, "max_tokens": 8, "temperature": 1.0, "seed": 5} | options)
    return BatchTerms(CODEC, TEMPLATE, chosen, (), n_ctx_train, "toy", _no_encoder)


def _no_encoder() -> Any:
    raise AssertionError("nobody asked for a dense index")


def request(custom_id: str = "a", *said: str, messages: Iterable[tuple[str, str]] = (), **own: Any) -> BatchRequest:
    before = tuple(Message(0, role, text) for role, text in messages)
    return BatchRequest(custom_id, before, said or ("Hello there.",), own)


def some_requests(n: int, seed: int = 0, **own: Any) -> list[BatchRequest]:
    """Dialogues of some turns with different terms; some have a system prompt, of three, and some a history."""
    rng, out = np.random.default_rng(seed), []
    for i in range(n):
        said = [f"Mind {number}. {' '.join(rng.choice(WORDS, rng.integers(0, 5)))}." for number in NUMBERS[: 1 + i % 6]]
        said += [f"{said[0]}?"] * (i % 2)
        messages = [("system", f"Be {'kind' if i % 3 else 'brief'}.")] if i % 4 else []
        messages += [("user", "My uncle is Henrik."), ("assistant", "I see.")] * int(rng.integers(0, 3))
        policy = ("sir", "streaming", "sirllm", "units:unit=sentence", "entropy")[i % 5]
        found = {"policy": policy, "budget": int(rng.integers(90, 160)), "max_tokens": int(rng.integers(1, 12))} | own
        out.append(request(f"id {i}", *said, messages=messages, **found))
    return out


def run(requests: Iterable[Request], engine: ToyEngine, **options: Any) -> list[BatchResult]:
    """The results in the order in which they came."""
    with BatchLoop(requests, terms(n_ctx_train=engine.spec.n_ctx_train, **options), engine) as loop:
        return list(loop)


def by_id(results: Iterable[BatchResult]) -> dict[str, BatchResult]:
    found = list(results)
    assert len({one.custom_id for one in found}) == len(found)
    return {one.custom_id: one for one in found}


def alone(asked: BatchRequest, engine: ToyEngine, **options: Any) -> tuple[Chat, BatchResult]:
    """The same dialogue in a chat of its own, as a user would hold it."""
    chosen = Options(**terms(**options).options.model_dump(exclude_unset=True) | dict(asked.terms))
    policy, messages = from_spec(chosen.policy), list(asked.messages)
    system = messages.pop(0).text if messages and messages[0].role == "system" else chosen.system
    sampling = chosen.model_copy(update={"seed": seed_of(chosen.seed, asked.custom_id)}).sampling
    n_cells = chosen.budget if policy.evicts else engine.spec.n_ctx_train
    more: dict[str, Any] = {"max_tokens": chosen.max_tokens, "stop": chosen.stop, "positions": "gaps"}
    more |= {"recall": recall_mode(chosen.recall, policy), "system": system, "sampling": sampling}
    chat = Chat(engine, CODEC, TEMPLATE, policy, n_cells, **more)
    for message in messages:
        chat.add(message.role, message.text)
    return chat, BatchResult(asked.custom_id, tuple(chat.reply(text) for text in asked.said))
