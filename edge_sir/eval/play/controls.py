"""Arms of an evaluation that are no policies to use: they know which turns hold the answer, or re-read the last turns.

`keep-gold` and `drop-gold` show that a task measures memory: keeping the fact's turn on purpose must do as well as
keeping everything, dropping it on purpose must do as badly as guessing. `few-shot:rounds=N` is the paper's
baseline without a cache: the last N rounds as a plain prompt.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from edge_sir.core.policy import LedgerView, Policy, ScorePolicy, Scores
from edge_sir.errors import ConfigError
from edge_sir.policies import from_spec

__all__ = ["FewShot", "Gold", "arm_policy", "scores_needed"]


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


def _refuse(rest: str, name: str) -> None:
    if rest:
        raise ConfigError(f"{name} has no keys, not even '{rest}'")


def scores_needed(policies: Iterable[Policy | FewShot]) -> frozenset[str]:
    """All score columns that any of them needs."""
    return frozenset().union(*(p.needs for p in policies if isinstance(p, Policy)))
