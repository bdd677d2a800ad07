"""How much worse is a dialogue predicted with gaps between positions than with packed ones, at the same budget?

    scripts/gaps-cost --model smollm2-135m-instruct --dialogues 16 --budget 256

Short dialogues that people wrote are said one after another in one session, in an order of each seed's own. What is
compared is the mean surprisal of the assistant's tokens, dialogue by dialogue; keep-all, which evicts nothing, shows
what the eviction itself costs.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from bench_stats import bootstrap
from numpy.typing import NDArray

import edge_sir
from edge_sir.eval import texts
from edge_sir.llama.engine import LlamaEngine

__all__ = ["ARMS", "dialogue", "main", "report", "surprisals"]

ARMS = ("packed", "gaps", "keep-all")
Pair = tuple[str, str]


def dialogue(seed: int, n_turns: int) -> list[Pair]:
    """What the user and the assistant say in each turn."""
    text = (Path(texts.__file__).parent / "dialogues.txt").read_text(encoding="utf-8")
    blocks = [[line.split("|") for line in block.splitlines()] for block in text.strip().split("\n\n")]
    order = np.random.default_rng(seed).permutation(len(blocks))
    turns = [(said, reply) for i in order for said, reply in blocks[i]]
    return turns[:n_turns]


@contextmanager
def _scores() -> Iterator[list[float]]:
    """While it is open, the surprisal of every token that is decoded and known is noted, in nats."""
    found: list[float] = []
    real = LlamaEngine.decode

    def decode(self: LlamaEngine, slices: Any) -> Any:
        results = real(self, slices)
        for result in results:
            values = result.scores.get("surprisal", np.zeros(0))
            found.extend(float(v) for v in values if np.isfinite(v))
        return results

    LlamaEngine.decode = decode  # type: ignore[method-assign]
    try:
        yield found
    finally:
        LlamaEngine.decode = real  # type: ignore[method-assign]


def surprisals(model: edge_sir.Model, turns: Sequence[Pair], arm: str, policy: str, budget: int) -> tuple[float, int]:
    """The mean surprisal of the assistant's tokens in the second half of the dialogue, and how many were evicted."""
    terms: dict[str, Any] = {"positions": "gaps", "policy": "keep-all", "recall": "off"}
    if arm != "keep-all":
        terms |= {"positions": arm, "policy": policy, "budget": budget}
    mine: list[float] = []
    with model.chat(**terms) as chat, _scores() as found:
        for i, (said, reply) in enumerate(turns):
            chat.add("user", said)
            found.clear()
            chat.add("assistant", reply)
            mine += found if i >= len(turns) // 2 else []
        return float(np.mean(mine)), chat.session.stats.evicted


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints what was found."""
    parser = argparse.ArgumentParser(prog="scripts/gaps-cost", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--dialogues", type=int, default=16)
    parser.add_argument("--turns", type=int, default=60)
    parser.add_argument("--budget", type=int, default=256)
    parser.add_argument("--policy", default="sir")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    found: dict[str, list[float]] = {arm: [] for arm in ARMS}
    n_evicted = 0
    with edge_sir.load(args.model, threads=args.threads, quiet=True) as model:
        for i in range(args.dialogues):
            turns = dialogue(args.seed + i, args.turns)
            for arm in ARMS:
                mean, evicted = surprisals(model, turns, arm, args.policy, args.budget)
                found[arm].append(mean)
                n_evicted += evicted if arm == "gaps" else 0
    held = f"{args.dialogues} dialogues of {args.turns} turns, {n_evicted / args.dialogues:.0f} tokens evicted in each"
    print(f"{args.model}, policy {args.policy}, budget {args.budget}: {held}")
    for line in report({arm: np.array(values) for arm, values in found.items()}):
        print(line)
    return 0


def report(found: dict[str, NDArray[np.float64]]) -> list[str]:
    """The mean of each arm, and the differences with bootstrap intervals over dialogues (95 %)."""
    lines = [f"surprisal, nats a token: {', '.join(f'{arm} {values.mean():.3f}' for arm, values in found.items())}"]
    for one, other in (("gaps", "packed"), ("packed", "keep-all")):
        apart = found[one] - found[other]
        low, high = bootstrap(len(apart), lambda i, apart=apart: float(apart[i].mean()))  # type: ignore[misc]
        lines.append(f"{one} less {other}: {apart.mean():+.4f} [{low:+.4f}, {high:+.4f}], n = {len(apart)}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
