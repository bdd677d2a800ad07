"""The figure about evaluations: tokens per second of a played dialogue beside bare llama_decode."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from bench_rig import Bare, Setup, Tokens, parameters, prose, say
from bench_stats import Figure, bootstrap, head_flop_ratio
from numpy.typing import NDArray

from edge_sir.engine import Engine, Slice, SliceResult, TextCodec
from edge_sir.eval import task as tasks
from edge_sir.eval.play.arms import arms_of, play_dialogue
from edge_sir.eval.play.contexts import Contexts, LoadedModel, open_contexts
from edge_sir.eval.play.encoded import EncodedDialogue
from edge_sir.llama.native import NativeModel
from edge_sir.text.template import ChatTemplate

__all__ = ["evaluation"]

_BUDGET = 256
_N_TOKENS = 600  # of a dialogue
_N_CELLS = 1024  # of the bare context


class _Beside:
    """Does each decode of the engines it watches once more by bare llama.cpp, with the last row's logits alone.

    eval_s: seconds from the end of one bare decode to the end of the engine's next, so all that an evaluation does
    in between counts. bare_s: seconds of the bare decode of as many tokens behind as many cells. One of each per call.
    """

    def __init__(self, bare: Bare, setup: Setup, filler: Tokens) -> None:
        self.bare, self.clock, self.filler = bare, setup.clock, filler
        self.eval_s: list[float] = []
        self.bare_s: list[float] = []
        self.n_tokens = 0
        self.since = self.clock()

    def ratio(self, chosen: NDArray[np.intp] | None = None) -> float:
        """Seconds of the bare decodes over those of the evaluation; of the `chosen` ones."""
        ours, bare = np.array(self.eval_s), np.array(self.bare_s)
        every = np.arange(len(ours)) if chosen is None else chosen
        return float(bare[every].sum() / ours[every].sum())

    def watch(self, engine: Engine) -> Engine:
        decode = engine.decode

        def both(slices: Sequence[Slice]) -> list[SliceResult]:
            found = decode(slices)
            self.eval_s.append(self.clock() - self.since)
            self._bare(sum(len(s.tokens) for s in slices), slices[0].p0)
            self.since = self.clock()
            return found

        setattr(engine, "decode", both)  # noqa: B010 - mypy takes no assignment to a method
        return engine

    def _bare(self, n: int, at: int) -> None:
        self.bare.rewind(at)
        while self.bare.n < at:  # a budget's arm goes on from a saved state
            self.bare.prefill(self.filler[: at - self.bare.n])
        started = self.clock()
        self.bare.decode(self.filler[:n])
        self.bare_s.append(self.clock() - started)
        self.n_tokens += n


def evaluation(setup: Setup, path: Path) -> Figure:
    """Plays generated dialogues, options of the questions included, decode beside decode.

    The figure is about `sir`, for which every token is scored; beside it stands `streaming`, which needs no scores.
    """
    n = setup.pick(1, 3)
    contexts = open_contexts(str(path), threads=setup.threads, quiet=True)
    model = NativeModel(path)
    try:
        n_batch = contexts.engine(_BUDGET).spec.n_batch
        filler = prose(contexts.model.codec, n_batch)
        with Bare(model, _N_CELLS, n_batch, setup.threads) as bare:
            bare.prefill(filler)  # warm
            played = {policy: _Beside(bare, setup, filler) for policy in ("sir", "streaming")}
            for index in range(n):
                say(f"evaluation, dialogue {index + 1} of {n}")
                for policy, beside in played.items():
                    _play(contexts, beside, policy, index)
        n_body, n_head, _ = parameters(model)
    finally:
        contexts.close()
        model.close()
    scored, unscored = played["sir"], played["streaming"]
    low, high = bootstrap(len(scored.eval_s), scored.ratio)
    return Figure(
        "eval_vs_bare",
        scored.ratio(),
        low,
        high,
        f"95 % of {len(scored.eval_s)} decodes",
        limit=1 / head_flop_ratio(n_body, n_head),
        limit_is="bare throughput without over with the LM head's parameters for every token",
        detail={
            "tokens": scored.n_tokens,
            "tokens_per_s": scored.n_tokens / sum(scored.eval_s),
            "bare_tokens_per_s": scored.n_tokens / sum(scored.bare_s),
            "without_scores": unscored.ratio(),
        },
    )


@dataclass(frozen=True)
class _Watched:
    """A model whose contexts are watched; it is another's to free."""

    model: LoadedModel
    beside: _Beside

    @property
    def codec(self) -> TextCodec:
        return self.model.codec

    @property
    def template(self) -> ChatTemplate:
        return self.model.template

    def open_engine(self, n_cells: int, *, n_seq_max: int) -> Engine:
        return self.beside.watch(self.model.open_engine(n_cells, n_seq_max=n_seq_max))

    def release(self, engine: Engine) -> None:
        self.model.release(engine)

    def close(self) -> None:
        pass


def _play(contexts: Contexts, beside: _Beside, policy: str, index: int) -> None:
    dialogue = tasks.task("numbers").dialogue(tasks.Setup(contexts.count_tokens, n_tokens=_N_TOKENS), index)
    encoded = EncodedDialogue(dialogue, contexts.model.codec, contexts.model.template, "rank")
    watched = replace(contexts, model=_Watched(contexts.model, beside), _engines=OrderedDict())
    try:
        beside.since = beside.clock()
        list(play_dialogue(watched, encoded, arms_of([policy], [_BUDGET])))
    finally:
        watched.close()
