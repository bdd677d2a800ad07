"""Arms of an evaluation that are no policies to use: they know which turns hold the answer, or re-read the last turns.

`keep-gold` and `drop-gold` show that a task measures memory: keeping the fact's turn on purpose must do as well as
keeping everything, dropping it on purpose must do as badly as guessing. `few-shot:rounds=N` is the paper's
baseline without a cache: the last N rounds as a plain prompt.

An arm's spec may say how evicted turns come back, as one more key of its policy: `sir:recall=cells`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from edge_sir.core.policy import LedgerView, Policy, ScorePolicy, Scores
from edge_sir.core.recall_mode import recall_mode
from edge_sir.errors import ConfigError
from edge_sir.policies import from_spec

__all__ = [
    "RECALLS",
    "ArmRecall",
    "FewShot",
    "Gold",
    "arm_policy",
    "arm_recall",
    "explicit",
    "scores_needed",
    "with_recall",
]

ArmRecall = Literal["off", "text", "cells", "dense", "last", "oracle"]
RECALLS: tuple[ArmRecall, ...] = get_args(ArmRecall)
"""As in a chat (dense: cells, found with `recall_index=dense`), and two controls: last puts cells right before the
question, oracle recalls the turn that is right."""

_RECALL = "recall="


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


def arm_policy(spec: str) -> Policy | FewShot:
    """What `--policy` of an evaluation names: any policy, or one of the controls. Raises ConfigError."""
    name, _, rest = spec.partition(":")
    if name in ("keep-gold", "drop-gold"):
        _refuse(rest, name)
        return Gold(keep=name == "keep-gold")
    if name == "few-shot":
        key, _, value = rest.partition("=")
        if rest and (key.strip() != "rounds" or not value.strip().isdigit() or int(value) < 1):
            raise ConfigError(f"few-shot takes rounds=N with N from 1 on, not '{rest}'")
        return FewShot(int(value) if rest else 1)
    return from_spec(spec)


def arm_recall(spec: str) -> tuple[str, ArmRecall]:
    """An arm's policy without its key `recall`, and what that says, "off" if it is not there. Raises ConfigError."""
    policy, recall = _split(spec)
    return policy, recall or "off"


def _split(spec: str) -> tuple[str, ArmRecall | None]:
    name, _, rest = spec.partition(":")
    keys = [key.strip() for key in rest.split(",") if key.strip()]
    given = [key.removeprefix(_RECALL) for key in keys if key.startswith(_RECALL)]
    if not given:
        return spec, None
    if given[-1] not in RECALLS:
        raise ConfigError(f"recall is one of {', '.join(RECALLS)}, not '{given[-1]}'")
    others = ",".join(key for key in keys if not key.startswith(_RECALL))
    recall: ArmRecall = next(known for known in RECALLS if known == given[-1])
    return f"{name}:{others}" if others else name, recall


def with_recall(spec: str, recall: str) -> str:
    """The spec of an arm that recalls so, in place of what it says itself; auto: as it says, else as in a chat.

    Policies that keep everything never do. Raises ConfigError for another value.
    """
    policy, own = _split(spec)
    made = arm_policy(policy)
    if recall not in ("auto", *RECALLS):
        raise ConfigError(f"--recall is one of auto, {', '.join(RECALLS)}, not '{recall}'")
    if not isinstance(made, Policy) or not made.evicts:
        return policy
    if recall == "auto":
        recall = own or recall_mode("auto", made)
    return policy if recall == "off" else f"{policy}{',' if ':' in policy else ':'}{_RECALL}{recall}"


def explicit(spec: str) -> str:
    """The spec that names the same arm whatever `--recall` is by default; of a policy of an earlier version itself."""
    try:
        is_explicit = with_recall(spec, "auto") == spec
    except ConfigError:
        return spec
    return spec if is_explicit else f"{spec}{',' if ':' in spec else ':'}{_RECALL}off"


def _refuse(rest: str, name: str) -> None:
    if rest:
        raise ConfigError(f"{name} has no keys, not even '{rest}'")


def scores_needed(policies: Iterable[Policy | FewShot]) -> frozenset[str]:
    """All score columns that any of them needs."""
    return frozenset().union(*(p.needs for p in policies if isinstance(p, Policy)))
