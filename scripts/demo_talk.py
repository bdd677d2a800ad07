"""The conversation of scripts/demo: read from its file, played, and its answers judged."""

import re
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_sir import Chat
from edge_sir.errors import ConfigError

__all__ = ["Answer", "Played", "Question", "Talk", "is_right", "play", "read_script", "read_talk"]

Script = TypeVar("Script", bound=BaseModel)


class Question(BaseModel):
    """ask: the question. told: the words of a turn that answer it. also: other ways to write them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ask: str = Field(min_length=1)
    told: str = Field(min_length=1)
    also: tuple[str, ...] = ()


class Talk(BaseModel):
    """turns: what the user says, in order. questions: asked after the last turn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    turns: tuple[str, ...] = Field(min_length=1)
    questions: tuple[Question, ...] = Field(min_length=1)

    @property
    def n_telling(self) -> int:
        """How many turns it takes until everything that is asked for is told."""
        return 1 + max(self._told_in(question) for question in self.questions)

    def _told_in(self, question: Question) -> int:
        """Index of the first turn that tells it. Raises ConfigError if none does."""
        for i, text in enumerate(self.turns):
            if is_right(text, [question.told]):
                return i
        raise ConfigError(f"no turn tells '{question.told}', the answer to '{question.ask}'; say it in one")


@dataclass(frozen=True, slots=True)
class Answer:
    """One reply to a question. in_cache: whether the words that answer it were resident when the questions began."""

    text: str
    right: bool
    in_cache: bool


@dataclass(frozen=True, slots=True)
class Played:
    """The conversation under one policy.

    n_tokens: read and written in its turns, template tokens included. n_resident: cells in use after the last turn, of
    n_cells. answers: one per question. took_s: wall time, questions included, loading the model not.
    """

    policy: str
    model: str
    n_tokens: int
    n_resident: int
    n_cells: int
    answers: tuple[Answer, ...]
    took_s: float

    @property
    def n_right(self) -> int:
        return sum(answer.right for answer in self.answers)

    @property
    def n_in_cache(self) -> int:
        return sum(answer.in_cache for answer in self.answers)


def read_script(path: Path, kind: type[Script]) -> Script:
    """What a TOML file says, as `kind`. Raises ConfigError for any other file."""
    try:
        return kind.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ConfigError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def read_talk(path: Path) -> Talk:
    """The conversation in a TOML file. Raises ConfigError for any other file, or if a turn lacks what is asked for."""
    talk = read_script(path, Talk)
    assert talk.n_telling  # raises for a question that nothing answers
    return talk


def is_right(text: str, accepted: list[str]) -> bool:
    """Whether `text` holds one of these answers, in any case, as whole words."""
    return any(re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text, re.IGNORECASE) for words in accepted)


def play(chat: Chat, talk: Talk, policy: str, note: Callable[[str], None]) -> Played:
    """Plays all turns, then asks every question of the memory that they left.

    A question and its answer are taken back (`undo`) before the next one, so that no answer helps another; what made
    room for them does not come back. note: called with each thing the user says.
    """
    started = time.perf_counter()
    for text in talk.turns:
        note(text)
        chat.reply(text)
    stats = chat.stats()
    in_cache = [_in_cache(chat, question.told, talk.n_telling) for question in talk.questions]
    answers = []
    for question, resident in zip(talk.questions, in_cache, strict=True):
        note(question.ask)
        text = chat.reply(question.ask).text
        chat.undo()
        answers.append(Answer(text, is_right(text, [question.told, *question.also]), resident))
    return Played(
        policy=policy,
        model=stats.model,
        n_tokens=stats.tokens_in + stats.tokens_out,
        n_resident=stats.resident,
        n_cells=stats.budget,
        answers=tuple(answers),
        took_s=time.perf_counter() - started,
    )


def _in_cache(chat: Chat, words: str, n_turns: int) -> bool:
    """Whether these words, as they were said in the first `n_turns` turns, are resident."""
    return any(match.passage.turn <= n_turns and match.state == "whole" for match in chat.matches(words))
