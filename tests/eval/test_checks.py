"""An arm that cannot play a dialogue to its end is refused before anything is played."""

import pytest
from playing import FACT, QUESTION, chat, dialogue
from toy_model import toy_contexts

from edge_sir.errors import EdgeSirError
from edge_sir.eval.play.arms import arms_of, play_dialogues
from edge_sir.eval.store import Store
from edge_sir.eval.task import Dialogue, Read

SHORT = Dialogue("short", (FACT, QUESTION), system="Be kind. " * 10)
LONG = dialogue(*chat(40), FACT, *chat(40), QUESTION, name="long")
TEXT = Dialogue("text", (Read("It rained all day.", "perplexity"),))


@pytest.mark.parametrize(
    ("specs", "budget", "said"),
    [
        (
            ["streaming", "sir"],
            80,
            r"the system prompt of dialogue 'short' takes \d+ of 80 cells; give a larger",
        ),
        (["retrieval"], 120, r"question 0 of dialogue 'short' takes \d+ of 120 cells; give a larger --budget"),
        (["streaming", "retrieval"], 1000, r"retrieval writes prompts of 1000 tokens, .* 600; give a smaller --budget"),
        (["streaming", "few-shot:rounds=60"], 256, r"few-shot:rounds=60 takes up to \d+ tokens in dialogue 'long', .*"),
    ],
)
def test_it_is_said_why_and_no_dialogue_before_it_was_played(specs: list[str], budget: int, said: str) -> None:
    contexts, store = toy_contexts(600), Store(None, {})
    with pytest.raises(EdgeSirError, match=said):
        play_dialogues(contexts, [LONG, SHORT], arms_of(specs, [budget]), store)
    assert not store.rows


@pytest.mark.parametrize("spec", ["retrieval", "few-shot"])
def test_plain_text_asks_nothing(spec: str) -> None:
    with pytest.raises(EdgeSirError, match=f"{spec} answers questions, and dialogue 'text' is plain text; leave out"):
        play_dialogues(toy_contexts(), [TEXT], arms_of([spec, "streaming"], [64]), Store(None, {}))


def test_what_can_be_played_is_played() -> None:
    contexts, store = toy_contexts(600), Store(None, {})
    play_dialogues(contexts, [SHORT, LONG], arms_of(["retrieval", "few-shot:rounds=2", "streaming"], [600]), store)
    assert len(store.rows) == 6
