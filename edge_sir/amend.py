"""What a user changes in mid-conversation: facts are forgotten, policy, cells and engine replaced.

Each function changes all or nothing: what it refuses leaves the session as it was.
"""

import numpy as np
from numpy.typing import NDArray

from edge_sir._shield import shield
from edge_sir.core.budget import Budget
from edge_sir.core.plan import EvictionPlan
from edge_sir.core.policy import Policy
from edge_sir.core.room import Room
from edge_sir.engine import Engine
from edge_sir.errors import CapabilityError
from edge_sir.policies import to_spec
from edge_sir.positions import resolve_positions
from edge_sir.session import Session, check_context

__all__ = ["forget", "move_to", "reset", "set_budget", "set_policy"]


def forget(session: Session, rows: NDArray[np.intp]) -> int:
    """Removes ledger `rows` and their cells, pinned or not, and returns how many those are.

    What later tokens took in from them when they were decoded stays in those.
    """
    session.make_ready()
    if len(rows):
        session.evict(EvictionPlan(np.unique(rows), session.ledger.epoch, "forgotten"))
    return len(rows)


def reset(session: Session) -> None:
    """Empties the session: turn 0 begins again. What was counted stays counted, here and in its `stats`."""
    session.make_ready()
    with shield():  # rows of no turn, or a turn of no rows, would be what the next message is added to
        session.discard_pending()
        if session.turn > 0 and session.ledger.journal is not None:  # a first system prompt replaced is no conversation
            session.ledger.journal.cleared()
        session.rewind(len(session.ledger))
        session.turn = 0


def set_policy(session: Session, policy: Policy) -> None:
    """Makes room by another policy from now on. Raises BudgetError if the pins leave it none.

    Scores that were not computed so far stay unknown; those that were go on being computed.
    """
    room = Room(session.ledger, policy, session.budget)
    room.check_pins(0, f"policy {to_spec(policy)}", "unpin something")
    session.policy, session.room = policy, room
    session.score_also(policy.needs)
    if session.ledger.journal is not None:
        session.ledger.journal.changed("policy", to_spec(policy), session.turn)


def set_budget(session: Session, n_cells: int) -> int:
    """Changes the budget, and evicts at once what no longer fits, no more; returns how many tokens that are.

    Raises BudgetError if the engine has no such context, or the pins and a turn do not fit.
    """
    session.make_ready()
    session.room.check_budget(n_cells)
    budget = Budget(n_cells)
    check_context(budget, session.engine)
    room = Room(session.ledger, session.policy, budget)
    plan = room.plan(0, session.turn, None)
    with shield():
        if session.ledger.journal is not None:
            session.ledger.journal.changed("budget", n_cells, session.turn)
        if plan is not None:
            session.evict(plan)
        session.ledger.resize(n_cells)
        session.budget, session.room = budget, room
    return 0 if plan is None else len(plan)


def move_to(session: Session, engine: Engine) -> None:
    """Goes on in another engine of the same model, with the same cells; the old one stays as it is.

    Raises CapabilityError or StateError if the other cannot take them.
    """
    session.make_ready()
    if engine.spec.fingerprint != session.engine.spec.fingerprint:
        raise CapabilityError(f"{engine.spec.model} is not the model of this conversation")
    resolve_positions(session.mode, engine)
    engine.load(session.seq, session.engine.dump(session.seq))
    session.engine = engine
    session.make_ready()
