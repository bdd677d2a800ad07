"""On a real model: a fact that was evicted and came back is known as if it had never left."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_sir.core.budget import Budget
from edge_sir.core.plan import EvictionPlan
from edge_sir.engine import Slice
from edge_sir.policies import from_spec
from edge_sir.session import Session

if TYPE_CHECKING:
    from edge_sir.llama.engine import LlamaEngine
    from edge_sir.llama.native import NativeModel

pytestmark = pytest.mark.model

FACT = "Please remember: my cousin Beatrix keeps seventeen turtles in Ljubljana."
FILL = (
    "What is a good way to cook rice? Rinse the rice, add one and a half cups of water for each cup and simmer.",
    "Tell me about the history of the bicycle. Pedals came in the 1860s and the safety bicycle with a chain in 1885.",
)
ASK = "<|im_start|>user\nHow many turtles does Beatrix keep?<|im_end|>\n<|im_start|>assistant\nBeatrix keeps"


def conversation(engine: "LlamaEngine", positions: str) -> tuple[Session, range]:
    """A session that has read the fact and other things; and the fact's rows."""
    session = Session(engine, from_spec("streaming"), Budget(256), positions=positions)  # type: ignore[arg-type]
    for text in ("You are a helpful assistant.", FACT, *FILL):
        session.begin_turn()
        session.start_message()
        session.feed(engine.text.encode(f"<|im_start|>user\n{text}<|im_end|>\n", special=True), "user")
        while session.step():
            pass
    rows = np.flatnonzero(session.ledger["turn"] == 2)
    return session, range(int(rows[0]), int(rows[-1]) + 1)


def answer(session: Session) -> NDArray[np.float64]:
    """The log-probabilities of what comes after the question, which is taken out again."""
    engine = session.engine
    ask = engine.text.encode(ASK, special=True)  # type: ignore[attr-defined]
    at = session.ledger.next_pos
    [result] = engine.decode([Slice(0, ask, at, np.full(len(ask), -1, np.int32))])
    engine.remove(0, at, -1)
    assert result.logits is not None
    x = result.logits.astype(np.float64)
    return x - x.max() - np.log(np.exp(x - x.max()).sum())


def divergence(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float((np.exp(a) * (a - b)).sum())


@pytest.mark.parametrize("flash_attn", ["off", "on"])
@pytest.mark.parametrize("positions", ["packed", "gaps"])
def test_a_fact_comes_back(
    smollm2: "NativeModel", make_llama_engine: Callable[..., "LlamaEngine"], positions: str, flash_attn: str
) -> None:
    engine = make_llama_engine(smollm2, 256, threads=1, chunk=64, flash_attn=flash_attn)
    session, fact = conversation(engine, positions)
    gold = int(engine.text.encode(" seventeen", special=False)[0])
    whole = answer(session)
    saved = session.save_rows(fact)
    session.evict(EvictionPlan(np.arange(fact.start, fact.stop), session.ledger.epoch, "room"))
    lost = answer(session)
    assert lost[gold] < whole[gold] - 2
    assert session.restore(saved) == len(fact)
    back = answer(session)
    assert abs(back[gold] - whole[gold]) < 0.3
    assert divergence(whole, back) < 0.03 < divergence(whole, lost)


def test_given_away_positions_are_left_by_rotation(
    smollm2: "NativeModel", make_llama_engine: Callable[..., "LlamaEngine"]
) -> None:
    engine = make_llama_engine(smollm2, 256, threads=1, chunk=64)
    session, fact = conversation(engine, "gaps")
    gold = int(engine.text.encode(" seventeen", special=False)[0])
    whole = answer(session)
    saved = session.save_rows(fact)
    session.evict(EvictionPlan(np.arange(fact.start, fact.stop), session.ledger.epoch, "room"))
    session._renumber()
    assert session.ledger["pos"].tolist() == list(range(len(session.ledger)))
    assert session.restore(saved) == len(fact)
    assert session.ledger["pos"].tolist() == list(range(len(session.ledger)))
    assert abs(answer(session)[gold] - whole[gold]) < 0.3
