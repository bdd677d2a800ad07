"""Arms of an evaluation that are no policies to use: they know which turns hold the answer, or re-read the last turns.

`keep-gold` and `drop-gold` show that a task measures memory: keeping the fact's turn on purpose must do as well as
keeping everything, dropping it on purpose must do as badly as guessing. `few-shot:rounds=N` is the paper's
baseline without a cache: the last N rounds as a plain prompt. `retrieval` is plain retrieval: what matches the
question, then the newest, as a prompt that takes no more cells than the budget.

An arm's spec may say more than its policy, as further keys: how evicted turns come back (`sir:recall=cells`), in how
large a share of the cells (`recall_share=0.125`), and whether room is made for each slice alone (`room=exact`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

import numpy as np

from edge_sir.core.policy import LedgerView, Policy, ScorePolicy, Scores
from edge_sir.core.recall_mode import recall_mode
from edge_sir.errors import ConfigError
from edge_sir.eval.play.tried import SirTried
from edge_sir.policies import from_spec
from edge_sir.recall.recall import SHARE

__all__ = [
    "CONTROLS",
    "RECALLS",
    "ArmKeys",
    "ArmRecall",
    "FewShot",
    "Gold",
    "Retrieval",
    "arm_keys",
    "arm_policy",
    "explicit",
    "scores_needed",
    "with_keys",
    "with_recall",
]

ArmRecall = Literal["off", "text", "cells", "dense", "last", "oracle"]
RECALLS: tuple[ArmRecall, ...] = get_args(ArmRecall)
"""As in a chat (dense: cells, found with `recall_index=dense`), and two controls: last puts cells right before the
question, oracle recalls the turn that is right."""

CONTROLS = ("drop-gold", "few-shot", "keep-gold", "retrieval")
"""Arms that are no policies to use."""

ROOMS: tuple[str, ...] = ("chunks", "exact")


@dataclass(frozen=True, kw_only=True)
class Gold(ScorePolicy):
    """StreamingLLM that keeps (or drops first) the turns in `turns`, which a run fills in as facts are said."""

    keep: bool = True
    turns: set[int] = field(default_factory=set)

    def score(self, view: LedgerView) -> Scores:
        is_gold = np.isin(view["turn"], list(self.turns))
        return np.where(is_gold, np.inf if self.keep else -np.inf, view["born"].astype(float))


@dataclass(frozen=True, slots=True)
class FewShot:
    """Not a policy: every question gets a fresh prompt of the last `rounds` rounds."""

    rounds: int = 1


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Not a policy: every question gets a fresh prompt of what matches it, as large as the budget."""


def arm_policy(spec: str) -> Policy | FewShot | Retrieval:
    """What `--policy` of an evaluation names: any policy, or one of the controls. Raises ConfigError."""
    name, _, rest = spec.partition(":")
    if name in ("keep-gold", "drop-gold"):
        _refuse(rest, name)
        return Gold(keep=name == "keep-gold")
    if name == "retrieval":
        _refuse(rest, name)
        return Retrieval()
    if name == "few-shot":
        key, _, value = rest.partition("=")
        if rest and (key.strip() != "rounds" or not value.strip().isdecimal() or int(value) < 1):
            raise ConfigError(f"few-shot takes rounds=N with N from 1 on, not '{rest}'")
        return FewShot(int(value) if rest else 1)
    return from_spec(spec, {"sir-tried": SirTried}, CONTROLS)


@dataclass(frozen=True, slots=True)
class ArmKeys:
    """What an arm's spec says beside its policy.

    recall_share: the most cells that recalled tokens take, as a share of the budget. room: evicted at once are chunks,
    as in a chat, or (exact) what one slice needs.
    """

    recall: ArmRecall = "off"
    recall_share: float = SHARE
    room: str = ROOMS[0]

    def __post_init__(self) -> None:
        if self.recall not in RECALLS:
            raise ConfigError(f"recall is one of {', '.join(RECALLS)}, not '{self.recall}'")
        if self.room not in ROOMS:
            raise ConfigError(f"room is one of {', '.join(ROOMS)}, not '{self.room}'")
        if not 0 < self.recall_share <= 1:
            raise ConfigError(f"recall_share must be above 0 and at most 1, not {self.recall_share}")


def arm_keys(spec: str) -> tuple[str, ArmKeys]:
    """An arm's policy alone, and what its spec says beside it. Raises ConfigError."""
    policy, given = _split(spec)
    return policy, _keys(given)


def with_keys(policy: str, keys: ArmKeys) -> str:
    """The spec of an arm of this policy with these keys; those that say what is usual are left out."""
    changed = [f"{f.name}={getattr(keys, f.name)}" for f in fields(keys) if getattr(keys, f.name) != f.default]
    return f"{policy}{',' if ':' in policy else ':'}{','.join(changed)}" if changed else policy


def _split(spec: str) -> tuple[str, dict[str, str]]:
    """An arm's policy alone, and the further keys as they are given."""
    name, _, rest = spec.partition(":")
    known, own, given = {f.name for f in fields(ArmKeys)}, [], {}
    for pair in filter(None, (part.strip() for part in rest.split(","))):
        key, _, value = (part.strip() for part in pair.partition("="))
        if key in known:
            given[key] = value
        else:
            own.append(pair)
    if not given:
        return spec, {}
    return f"{name}:{','.join(own)}" if own else name, given


def _keys(given: Mapping[str, str]) -> ArmKeys:
    values: dict[str, Any] = dict(given)
    try:
        return ArmKeys(**values | {key: float(values[key]) for key in ("recall_share",) if key in values})
    except ValueError:
        raise ConfigError(f"recall_share must be a number, not '{given['recall_share']}'") from None


def with_recall(spec: str, recall: str) -> str:
    """The spec of an arm that recalls so, in place of what it says itself; auto: as it says, else as in a chat.

    Policies that keep everything never do. Raises ConfigError for another value.
    """
    policy, given = _split(spec)
    made, keys = arm_policy(policy), _keys(given)
    if recall not in ("auto", *RECALLS):
        raise ConfigError(f"--recall is one of auto, {', '.join(RECALLS)}, not '{recall}'")
    if not isinstance(made, Policy) or not made.evicts:
        if keys.room != ROOMS[0] or keys.recall_share != SHARE:
            raise ConfigError(f"{policy} evicts nothing, so it has no recall_share and no room")
        return policy
    if recall == "auto":
        recall = given.get("recall") or recall_mode("auto", made)
    return with_keys(policy, replace(keys, recall=next(known for known in RECALLS if known == recall)))


def explicit(spec: str) -> str:
    """The spec that names the same arm whatever `--recall` is by default; of a policy of an earlier version itself."""
    try:
        is_explicit = with_recall(spec, "auto") == spec
    except ConfigError:
        return spec
    return spec if is_explicit else f"{spec}{',' if ':' in spec else ':'}recall=off"


def _refuse(rest: str, name: str) -> None:
    if rest:
        raise ConfigError(f"{name} has no keys, not even '{rest}'")


def scores_needed(policies: Iterable[Policy | FewShot | Retrieval]) -> frozenset[str]:
    """All score columns that any of them needs."""
    return frozenset().union(*(p.needs for p in policies if isinstance(p, Policy)))
