"""How what was evicted comes back, if it does."""

from typing import Literal

from edge_sir.core.policy import Policy

__all__ = ["RecallMode", "WantedRecall", "recall_mode"]

RecallMode = Literal["off", "text", "cells"]
"""text: it is read again. cells: its cells are put back, where that cannot be, it is read again."""

WantedRecall = Literal["auto", "off", "text", "cells"]


def recall_mode(wanted: WantedRecall, policy: Policy) -> RecallMode:
    """What `auto` comes to: cells for a policy that is ours to shape, off for those of papers and for baselines."""
    if wanted == "auto":
        return "cells" if policy.recalls else "off"
    return wanted
