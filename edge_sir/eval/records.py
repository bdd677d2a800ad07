"""What one answer was, and what a table says about many."""

from dataclasses import asdict, dataclass, fields
from typing import Any

__all__ = ["Row"]

# What rows of earlier versions lack.
_LATER = {"n_gold": 0, "n_scored": 1, "ends": None, "recall": "off", "recalled": 0, "found": None, "archive_bytes": 0}


@dataclass(frozen=True, slots=True)
class Row:
    """One question answered by one arm (a policy at a budget). Numbers only, never the text of given data.

    policy: the spec as given. budget: cells, 0 for keep-all. dialogue, index: which question (index counts the
    questions of the dialogue). turn: the turn of the question. metric: what it counts for. gold, chosen: option
    numbers, -1 where there are none. logprobs: nats, per option; of a Read its mean per token. gold_logprob: nats.
    gold_resident: share of the fact's tokens that are in the cache, None without a fact. distance: tokens between
    the fact and the question, None without one. resident: tokens in the cache when it was answered. tokens: decoded
    so far in this dialogue, options not counted. evicted: tokens evicted so far. seconds: spent on the dialogue so
    far under this arm, what it shares with others up to its first eviction counted for each. digest: of the policy with
    all its fields and of the dialogue, so that rows of an older default or wording are not taken for new ones. last:
    whether this is the dialogue's last row. n_scored: tokens of a text that its mean is over, 1 for a question with
    options. n_gold: tokens of the right option with its closing mark, 0 where that was not noted.
    ends: seconds per turn in the first and in the last tenth of a long dialogue, in its last row; None elsewhere.
    recall: how evicted turns came back, "off" if they did not. recalled: tokens that did for this question. found:
    whether a turn that holds the fact was among them; None without a fact, or if nothing of it was missing.
    archive_bytes: of evicted cells that were kept outside the cache.
    """

    policy: str
    budget: int
    dialogue: str
    index: int
    turn: int
    metric: str
    gold: int
    chosen: int
    correct: bool
    logprobs: tuple[float, ...]
    gold_logprob: float
    gold_resident: float | None
    distance: int | None
    resident: int
    tokens: int
    evicted: int
    seconds: float
    digest: str = ""
    last: bool = False
    n_scored: int = 1
    ends: tuple[float, float] | None = None
    recall: str = "off"
    recalled: int = 0
    found: bool | None = None
    archive_bytes: int = 0
    n_gold: int = 0

    @property
    def margin(self) -> float | None:
        """How much likelier the right option is than the best wrong one, in nats; None where there is none."""
        wrong = [value for option, value in enumerate(self.logprobs) if option != self.gold]
        return self.gold_logprob - max(wrong) if self.gold >= 0 and wrong else None

    def to_json(self) -> dict[str, Any]:
        """As a plain mapping, log-probabilities rounded to 1e-4."""
        row = asdict(self)
        row["logprobs"] = [round(x, 4) for x in self.logprobs]
        row |= {"gold_logprob": round(self.gold_logprob, 4), "seconds": round(self.seconds, 3)}
        return row | {"ends": self.ends and [round(x, 5) for x in self.ends]}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> "Row":
        """The row that `to_json` wrote, now or earlier; unknown keys are ignored. Raises KeyError if one is missing."""
        row = _LATER | row
        values = {f.name: row[f.name] for f in fields(cls)}
        ends = values["ends"] and tuple(values["ends"])
        return cls(**values | {"logprobs": tuple(values["logprobs"]), "ends": ends})
