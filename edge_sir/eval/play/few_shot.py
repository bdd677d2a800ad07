"""The paper's baseline without a cache: every question gets a fresh prompt of the last rounds."""

from dataclasses import replace

from edge_sir.eval.play.contexts import Contexts
from edge_sir.eval.play.dialogue_run import DialogueRun
from edge_sir.eval.play.encoded import EncodedDialogue, EncodedStep
from edge_sir.eval.records import Row
from edge_sir.eval.task import Ask
from edge_sir.policies import from_spec
from edge_sir.text.encoder import Part

__all__ = ["few_shot_rows"]


def few_shot_rows(contexts: Contexts, dialogue: EncodedDialogue, rounds: int) -> list[Row]:
    """One row per question, asked after the `rounds` steps before it and nothing else."""
    rows: list[Row] = []
    chosen: dict[int, int] = {}
    tokens = seconds = 0.0
    for i in range(len(dialogue)):
        if not isinstance(dialogue.step(i).source, Ask):
            continue
        window = range(max(0, i - rounds), i)
        n_cells = 64 + sum(len(t) for _, t in dialogue.opening())
        n_cells += sum(dialogue.step(j).n_tokens for j in (*window, i))
        run = DialogueRun.start(dialogue, contexts.engine(n_cells), from_spec("keep-all"), n_cells)
        for j in window:
            step = dialogue.step(j, first=j == window[0])
            run.say([*step.parts, *_reply(step, chosen.get(j, 0))])
        run.ask(dialogue.step(i, first=not window))
        row = run.rows[0][-1]
        chosen[i] = row.chosen
        tokens, seconds = tokens + row.tokens, seconds + run.seconds
        rows.append(replace(row, index=len(rows), turn=i + 1, tokens=int(tokens), seconds=seconds))
    return rows


def _reply(step: EncodedStep, chosen: int) -> list[Part]:
    """What was answered to a question of the window, nothing for another step."""
    if not isinstance(step.source, Ask):
        return []
    said = step.options[chosen if step.source.reply == "chosen" else step.source.gold]
    return [("assistant", said), *([step.end] if step.end else [])]
