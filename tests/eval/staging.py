"""A stage on the toy engine, and dialogues of a few words."""

from collections.abc import Sequence
from dataclasses import replace

from edge_sir.eval.records import Row
from edge_sir.eval.runner import arms_of, play_dialogue
from edge_sir.eval.script import Script
from edge_sir.eval.stage import Stage
from edge_sir.eval.task import Ask, Dialogue, Say, Step
from edge_sir.testing import ByteTokenizer, ToyEngine
from edge_sir.text.template import ChatTemplate


def toy_stage(n_ctx_train: int = 4096) -> Stage:
    codec = ByteTokenizer()
    template = ChatTemplate(codec.CHAT_TEMPLATE, bos=codec.bos_text, eos=codec.eos_text)

    def open_engine(n_cells: int, n_seq: int) -> ToyEngine:
        return ToyEngine(n_cells, n_seq_max=n_seq, n_ctx_train=n_ctx_train)

    return Stage(codec, template, open_engine, n_ctx_train, "toy", "toy", "0" * 64)


FACT = Say("I like plums.", "OK.", fact="fruit", gold=("plums",))
QUESTION = Ask("What do I like?", "You like", (" plums", " figs", " pears", " limes"), 0, fact="fruit")


def chat(n: int, word: str = "talk") -> list[Step]:
    return [Say(f"{word} {i} about it", f"well, {i}.") for i in range(n)]


def dialogue(*steps: Step, name: str = "0") -> Dialogue:
    return Dialogue(name, steps, system="Be kind.")


def play(stage: Stage, told: Dialogue, specs: Sequence[str], *budgets: int, answer: str = "rank") -> list[Row]:
    """All rows, arm after arm, without their seconds."""
    script = Script(told, stage.codec, stage.template, answer)  # type: ignore[arg-type]
    groups = play_dialogue(stage, script, arms_of(specs, budgets))
    return [replace(row, seconds=0.0) for rows in groups for row in rows]
