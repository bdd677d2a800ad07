"""Plays dialogues under many arms (a policy at a budget), each token once where arms still agree.

Up to the first eviction all arms hold the same cells. So a trunk that keeps everything plays on, and where a
budget would overflow, its state is saved; the arms of that budget go on from there, each on its own.
"""

import hashlib
import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from edge_sir.core.budget import Budget
from edge_sir.core.policy import Policy
from edge_sir.engine import Engine
from edge_sir.eval.play.contexts import Contexts
from edge_sir.eval.play.controls import ArmKeys, FewShot, Retrieval, arm_keys, arm_policy, scores_needed
from edge_sir.eval.play.dialogue_run import DialogueRun
from edge_sir.eval.play.encoded import EncodedDialogue
from edge_sir.eval.play.no_cache import few_shot_rows, retrieval_rows
from edge_sir.eval.records import Row
from edge_sir.eval.store import Store
from edge_sir.eval.task import Answer, Dialogue
from edge_sir.policies import from_spec
from edge_sir.session import Positions

__all__ = ["Arm", "arms_of", "digest", "play_dialogue", "play_dialogues"]


_LEAST = 64  # cells that a session wants even for a few words


@dataclass(frozen=True, slots=True)
class Arm:
    """A policy as it was named, at a budget of cells; budget 0: everything is kept (keep-all, few-shot)."""

    spec: str
    budget: int

    def policy(self) -> Policy | FewShot | Retrieval:
        """Made anew for each dialogue: a control notes where facts stand."""
        return arm_policy(arm_keys(self.spec)[0])

    @property
    def keys(self) -> ArmKeys:
        """How evicted turns come back, and how room is made."""
        return arm_keys(self.spec)[1]


def arms_of(specs: Sequence[str], budgets: Sequence[int]) -> list[Arm]:
    """Every policy at every budget, those that keep everything once. Raises ConfigError for a bad spec."""
    arms = []
    for spec in specs:
        policy = arm_policy(arm_keys(spec)[0])
        has_budget = isinstance(policy, Retrieval) or (isinstance(policy, Policy) and policy.evicts)
        arms += [Arm(spec, budget) for budget in budgets] if has_budget else [Arm(spec, 0)]
    return list(dict.fromkeys(arms))


def digest(arm: Arm, dialogue: Dialogue) -> str:
    """Of all that decides a row, 12 hexadecimal digits: the policy with its defaults, and the dialogue's words."""
    keys = () if arm.keys == ArmKeys() else (arm.keys,)
    return hashlib.sha256(repr((arm.policy(), *keys, dialogue)).encode()).hexdigest()[:12]


def play_dialogues(
    contexts: Contexts,
    dialogues: Sequence[Dialogue],
    arms: Sequence[Arm],
    store: Store,
    *,
    answer: Answer = "rank",
    metrics: tuple[str, ...] = (),
    positions: Positions = "auto",
    deadline: float = math.inf,
    on_rows: Callable[[Sequence[Row]], None] = lambda rows: None,
) -> None:
    """Plays what the store does not have yet.

    deadline: by time.monotonic, seconds; no dialogue is begun after it. on_rows: called with the rows of each dialogue
    under each arm.
    """
    for dialogue in dialogues:
        if time.monotonic() > deadline:
            return
        digests = {arm: digest(arm, dialogue) for arm in arms}
        todo = [arm for arm in arms if not store.is_done(arm.spec, arm.budget, dialogue.id, digests[arm])]
        encoded = EncodedDialogue(dialogue, contexts.model.codec, contexts.model.template, answer, metrics)
        for rows in play_dialogue(contexts, encoded, todo, positions=positions):
            rows = [replace(row, digest=digests[Arm(row.policy, row.budget)]) for row in rows]
            store.add(rows)
            on_rows(rows)


def play_dialogue(
    contexts: Contexts, dialogue: EncodedDialogue, arms: Sequence[Arm], *, positions: Positions = "auto"
) -> Iterator[list[Row]]:
    """The rows of one dialogue, arm by arm. A keep-all arm that no context holds gets none."""
    if not arms:
        return
    n_tokens = max(dialogue.n_tokens(), _LEAST)
    keepers = [arm for arm in arms if _keeps_all(arm) and n_tokens <= contexts.n_ctx_train]
    budgets = {arm.budget for arm in arms if arm.budget and not isinstance(arm.policy(), Retrieval)}
    n_trunk = n_tokens if keepers else min(n_tokens, max(budgets, default=0))
    saved: dict[int, _Saved] = {}
    if n_trunk:
        trunk = DialogueRun.start(
            dialogue,
            contexts.engine(n_trunk),
            from_spec("keep-all"),
            n_trunk,
            positions=positions,
            also_score=scores_needed([arm.policy() for arm in arms]),
        )
        saved = _play_trunk(trunk, budgets, to_the_end=bool(keepers))
    for group in _streams(arms, dialogue):
        arm = group[0]
        policy = arm.policy()
        if isinstance(policy, FewShot):
            yield _named(few_shot_rows(contexts, dialogue, policy.rounds), arm)
        elif isinstance(policy, Retrieval):
            yield _named(retrieval_rows(contexts, dialogue, arm.budget), arm)
        elif arm.budget in saved:
            with saved[arm.budget].go_on(contexts.engine(arm.budget), policy, group) as branch:
                while branch.at < len(dialogue):
                    branch.play()
            yield from map(_named, branch.rows, group)
        elif arm in keepers or arm.budget:  # a budget that never overflows keeps everything, too
            yield from (_named(trunk.rows[0], each) for each in group)


def _streams(arms: Sequence[Arm], dialogue: EncodedDialogue) -> list[list[Arm]]:
    """The arms that one stream serves: alike but for recall, in a dialogue whose questions leave no trace."""
    streams: dict[object, list[Arm]] = {}
    for arm in arms:
        policy, keys = arm_keys(arm.spec)
        streams.setdefault((policy, arm.budget, keys.room) if dialogue.only_probes else arm, []).append(arm)
    return list(streams.values())


@dataclass(frozen=True, slots=True)
class _Saved:
    """The trunk as it was before a budget's first eviction: a run that stays where it is, and its cells."""

    run: DialogueRun
    cells: bytes

    def go_on(self, engine: Engine, policy: Policy, arms: Sequence[Arm]) -> DialogueRun:
        """A run from here on under `policy`, in the ways of these arms."""
        engine.load(0, self.cells)
        kept = {"kept_percent": 100, "least_batch": 0} if arms[0].keys.room == "exact" else {}
        return self.run.fork(engine, policy, Budget(arms[0].budget, **kept), [arm.keys for arm in arms])


def _play_trunk(trunk: DialogueRun, budgets: Collection[int], *, to_the_end: bool) -> dict[int, _Saved]:
    """Plays on as long as an arm needs it, and saves the state before each budget's first eviction."""
    saved: dict[int, _Saved] = {}
    session = trunk.session
    while trunk.at < len(trunk.dialogue):
        n_next = len(session.ledger) + trunk.next_size()
        full = [budget for budget in budgets if budget < n_next and budget not in saved]
        if full:
            cells = session.engine.dump(session.seq)
            at_rest = trunk.fork(session.engine, session.policy, session.budget)
            saved |= {budget: _Saved(at_rest, cells) for budget in full}
        if len(saved) == len(budgets) and not to_the_end:
            break
        trunk.play()
    return saved


def _keeps_all(arm: Arm) -> bool:
    return arm.budget == 0 and not isinstance(arm.policy(), FewShot)


def _named(rows: Sequence[Row], arm: Arm) -> list[Row]:
    """The rows of a whole dialogue as this arm's."""
    named = [replace(row, policy=arm.spec, budget=arm.budget, recall=arm.keys.recall) for row in rows]
    return [*named[:-1], replace(named[-1], last=True)] if named else []
