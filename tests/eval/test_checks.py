"""An arm that cannot play a dialogue to its end is refused before anything is played."""

from pathlib import Path

import pytest
from playing import FACT, QUESTION, chat, dialogue
from toy_model import toy_contexts

from edge_sir.errors import BudgetError, ConfigError, EdgeSirError
from edge_sir.eval.play.arms import arms_of
from edge_sir.eval.play.checks import check
from edge_sir.eval.play.encoded import EncodedDialogue
from edge_sir.eval.play.evaluate import Request, evaluate
from edge_sir.eval.task import Dialogue, Read

SHORT = Dialogue("short", (FACT, QUESTION), system="Be kind. " * 10)
LONG = dialogue(*chat(40), FACT, *chat(40), QUESTION, name="long")
TEXT = Dialogue("text", (Read("It rained all day.", "perplexity"),))


def checked(told: Dialogue, specs: list[str], budget: int) -> None:
    contexts = toy_contexts(600)
    encoded = EncodedDialogue(told, contexts.model.codec, contexts.model.template, "rank")
    check(contexts, encoded, [(arm.policy(), arm.budget) for arm in arms_of(specs, [budget])])


@pytest.mark.parametrize(
    ("told", "specs", "budget", "said"),
    [
        (
            SHORT,
            ["streaming", "sir"],
            80,
            r"the system prompt of dialogue 'short' takes \d+ of 80 cells; give a larger",
        ),
        (SHORT, ["retrieval"], 120, r"question 0 of dialogue 'short' takes \d+ of 120 cells; give a larger --budget"),
        (
            LONG,
            ["streaming", "retrieval"],
            1000,
            "a budget of 1000 cells exceeds the 600 positions that toy was trained",
        ),
        (LONG, ["sir"], 1000, "a budget of 1000 cells exceeds the 600 positions that toy was trained on; use --budget"),
        (LONG, ["sir", "streaming:n_sink=100"], 110, "a budget of 110 cells is too small: 100 would be fixed"),
        (LONG, ["sir", "few-shot:rounds=60"], 256, r"few-shot:rounds=60 takes up to \d+ cells in dialogue 'long', and"),
    ],
)
def test_it_is_said_why(told: Dialogue, specs: list[str], budget: int, said: str) -> None:
    with pytest.raises((BudgetError, ConfigError), match=said):
        checked(told, specs, budget)


@pytest.mark.parametrize(
    ("told", "specs", "budget"),
    [
        (LONG, ["retrieval", "few-shot:rounds=2", "streaming", "sir:n_sink=100", "keep-all"], 600),
        (SHORT, ["streaming:n_sink=300", "sir"], 1000),  # nothing is evicted
        (TEXT, ["retrieval", "few-shot"], 64),  # asks nothing
    ],
)
def test_what_can_be_played_is_not_refused(told: Dialogue, specs: list[str], budget: int) -> None:
    checked(told, specs, budget)


def test_what_is_refused_leaves_no_folder(tmp_path: Path) -> None:
    asked = Request("single-item", n=1, out=tmp_path / "rows")
    with pytest.raises(EdgeSirError, match="takes"):
        evaluate(toy_contexts(), arms_of(["streaming", "retrieval"], [80]), asked)
    assert not (tmp_path / "rows").exists()
