"""A dialogue as tokens: what each step feeds, and what the options of a question are."""

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from edge_sir.engine import TextCodec, Tokens
from edge_sir.eval.task import Answer, Ask, Dialogue, Read, Say, Step, is_valued
from edge_sir.text.encoder import MessageEncoder, Part
from edge_sir.text.template import ChatTemplate

__all__ = ["EncodedDialogue", "EncodedStep"]


@dataclass(frozen=True, slots=True)
class EncodedStep:
    """One step as tokens.

    parts: fed before anything is asked. options: tokens of each option and its closing mark; with `rank` all of
    them are valued, else the first token alone. end: closes the turn after the chosen option. gold: half-open
    ranges in `parts`' tokens that carry the step's fact.
    """

    source: Step
    parts: tuple[Part, ...]
    options: tuple[Tokens, ...] = ()
    rank: bool = True
    end: Part | None = None
    gold: tuple[tuple[int, int], ...] = ()

    @property
    def n_reply(self) -> int:
        """Most tokens that an answer adds, int."""
        return max(map(len, self.options), default=0) + (len(self.end[1]) if self.end else 0)

    @property
    def n_tokens(self) -> int:
        """Most tokens that the step decodes, options of a question counted once."""
        return sum(len(tokens) for _, tokens in self.parts) + self.n_reply


@dataclass(slots=True)
class EncodedDialogue:
    """A dialogue under one tokenizer, template and way to answer. Steps are encoded when they are played.

    metrics: the questions that are valued, empty for all; of the others, those with a right reply are read with it.
    """

    source: Dialogue
    codec: TextCodec
    template: ChatTemplate
    answer: Answer
    metrics: tuple[str, ...] = ()
    encoder: MessageEncoder = field(init=False)
    _steps: dict[tuple[int, bool], EncodedStep] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.encoder = MessageEncoder(self.codec, self.template, self.source.system)

    def __len__(self) -> int:
        return len(self.source.steps)

    @property
    def plain(self) -> bool:
        """Whether it is plain text, without markers."""
        return any(isinstance(step, Read) for step in self.source.steps)

    @property
    def only_probes(self) -> bool:
        """Whether all that is valued is questions that leave no trace: each can be asked in several ways in turn."""
        if self.plain:
            return False
        asked = [step for step in self.source.steps if isinstance(step, Ask)]
        return all(step.is_probe or self._is_told(step) for step in asked)

    def _is_told(self, step: Ask) -> bool:
        """Whether a question is not valued, and is read with its right reply instead."""
        return step.reply == "gold" and not is_valued(step.metric, self.metrics)

    def opening(self) -> list[Part]:
        """What stands before the first step."""
        if self.plain:
            return [("frame", self.codec.encode(self.codec.bos_text, special=True)[:1])] if self.codec.bos >= 0 else []
        return self.encoder.opening()

    @property
    def n_opening(self) -> int:
        """Tokens before the first step, int."""
        return sum(len(tokens) for _, tokens in self.opening())

    def n_tokens(self) -> int:
        """Most tokens that the whole dialogue decodes."""
        return self.n_opening + sum(self.step(i).n_tokens for i in range(len(self)))

    def step(self, i: int, *, first: bool | None = None) -> EncodedStep:
        """Step `i`; first: whether it stands right after the opening (by default step 0 does)."""
        key = (i, i == 0 if first is None else first)
        if key not in self._steps:
            self._steps[key] = self._make(self.source.steps[i], key[1])
        return self._steps[key]

    def _make(self, step: Step, first: bool) -> EncodedStep:
        if isinstance(step, Read):
            return EncodedStep(step, (("user", self.codec.encode(step.text, special=False)),))
        if isinstance(step, Say):
            return self._say(step, first)
        rank = self.answer == "rank" or len(step.options) == 1
        letters = string.ascii_uppercase[: len(step.options)]
        user, stem = step.user, step.stem
        options = [option + step.close for option in step.options]
        if not rank:
            listed = " ".join(f"({x}) {o.strip()}" for x, o in zip(letters, step.options, strict=True))
            # A question may list its options in plain words for ranking.
            user = user.removesuffix("\n" + ", ".join(o.strip() for o in step.options))
            user, stem, options = f"{user}\n{listed}", "The answer is (", [f"{x})" for x in letters]
        asked = self.encoder.message("user", user, first=first)
        parts = [*asked, *self.encoder.reply_opening(), ("assistant", self.codec.encode(stem, special=False))]
        encoded = tuple(self.codec.encode(option, special=False) for option in options)
        end = ("frame", self.encoder.assistant_close)
        if self._is_told(step):
            return EncodedStep(Say(user, options[step.gold]), (*parts, ("assistant", encoded[step.gold]), end))
        return EncodedStep(step, tuple(parts), encoded, rank, end)

    def _say(self, step: Say, first: bool) -> EncodedStep:
        parts = [*self.encoder.message("user", step.user, first=first)]
        if step.assistant:
            parts += self.encoder.message("assistant", step.assistant, first=False)
        ranges: list[tuple[int, int]] = []
        before = 0
        for role, tokens in parts:
            if role != "frame":
                text = step.user if role == "user" else step.assistant
                here = [span[1:] for span in step.gold if not isinstance(span, str) and span[0] == role]
                words = [span for word in step.gold if isinstance(word, str) and (span := _place(word, text))]
                ranges += [(before + a, before + b) for a, b in self._spans(text, tokens, [*words, *here])]
            before += len(tokens)
        return EncodedStep(step, tuple(parts), gold=tuple(ranges))

    def _spans(self, text: str, tokens: Tokens, gold: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Ranges of `tokens`, those of `text`, that spell these ranges of its characters."""
        pieces = [self.codec.piece(int(token)) for token in tokens]
        ends = np.cumsum([len(piece) for piece in pieces])
        # A tokenizer may put a blank before the first word.
        shift = max(0, b"".join(pieces).find(text.encode()))
        spans = []
        for span in gold:
            start, stop = (shift + len(text[:at].encode()) for at in span)
            # All tokens that share a byte with it.
            spans.append((int(np.searchsorted(ends, start, "right")), int(np.searchsorted(ends, stop)) + 1))
        return spans


def _place(word: str, text: str) -> tuple[int, int] | None:
    """Where the words `word` stand in a text, as whole words; None if they do not."""
    found = re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text)
    return found.span() if found else None
