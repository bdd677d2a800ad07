"""A contexts on the toy engine, and dialogues of a few words."""

from collections.abc import Sequence
from dataclasses import replace

from edge_sir.eval.play.arms import arms_of, play_dialogue
from edge_sir.eval.play.contexts import Contexts
from edge_sir.eval.play.encoded import EncodedDialogue
from edge_sir.eval.records import Row
from edge_sir.eval.task import Ask, Dialogue, Say, Step

FACT = Say("I like plums.", "OK.", fact="fruit", gold=("plums",))
QUESTION = Ask("What do I like?", "You like", (" plums", " figs", " pears", " limes"), 0, fact="fruit")


def chat(n: int, word: str = "talk") -> list[Step]:
    return [Say(f"{word} {i} about it", f"well, {i}.") for i in range(n)]


def dialogue(*steps: Step, name: str = "0") -> Dialogue:
    return Dialogue(name, steps, system="Be kind.")


def play(contexts: Contexts, told: Dialogue, specs: Sequence[str], *budgets: int, answer: str = "rank") -> list[Row]:
    """All rows, arm after arm, without their seconds."""
    encoded = EncodedDialogue(told, contexts.model.codec, contexts.model.template, answer)  # type: ignore[arg-type]
    groups = play_dialogue(contexts, encoded, arms_of(specs, budgets))
    return [replace(row, seconds=0.0) for rows in groups for row in rows]
