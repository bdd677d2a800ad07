"""Baselines without a cache: each question gets a fresh prompt, of the last rounds or of what matches it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from edge_sir.eval.play.contexts import Contexts
from edge_sir.eval.play.controls import FewShot
from edge_sir.eval.play.dialogue_run import DialogueRun
from edge_sir.eval.play.encoded import EncodedDialogue, EncodedStep
from edge_sir.eval.records import Row
from edge_sir.eval.task import Ask, Say
from edge_sir.memory.transcript import Message
from edge_sir.policies import from_spec
from edge_sir.recall.index import TurnIndex
from edge_sir.text.encoder import Part

__all__ = ["few_shot_rows"]


def few_shot_rows(contexts: Contexts, dialogue: EncodedDialogue, few: FewShot) -> list[Row]:
    """One row per question, asked after some of the steps before it and nothing else.

    These are the last `few.rounds` steps, or as many as fit into `few.tokens` cells with the question: the ones that
    match it best, as recall finds them, then the newest, in the order in which they were said.
    """
    index = TurnIndex()
    try:
        return _rows(contexts, dialogue, few, index)
    finally:
        index.close()


def _rows(contexts: Contexts, dialogue: EncodedDialogue, few: FewShot, index: TurnIndex) -> list[Row]:
    rows: list[Row] = []
    chosen: dict[int, int] = {}
    tokens = seconds = 0.0
    opening = sum(len(t) for _, t in dialogue.opening())
    for i in range(len(dialogue)):
        if not isinstance(dialogue.step(i).source, Ask):
            continue
        if few.tokens:
            n_cells = few.tokens
            window: Sequence[int] = _matching(dialogue, i, n_cells - opening - dialogue.step(i).n_tokens, index)
        else:
            window = range(max(0, i - few.rounds), i)
            n_cells = 64 + opening + sum(dialogue.step(j).n_tokens for j in (*window, i))
        run = DialogueRun.start(dialogue, contexts.engine(n_cells), from_spec("keep-all"), n_cells)
        for j in window:
            step = dialogue.step(j, first=j == window[0])
            run.say([*step.parts, *_reply(step, chosen.get(j, 0))])
        run.ask(dialogue.step(i, first=not window))
        row = run.rows[0][-1]
        chosen[i] = row.chosen
        tokens, seconds = tokens + row.tokens, seconds + run.seconds
        kept = index.n_bytes if few.tokens else 0
        rows.append(replace(row, index=len(rows), turn=i + 1, tokens=int(tokens), seconds=seconds, archive_bytes=kept))
    return rows


def _matching(dialogue: EncodedDialogue, i: int, room: int, index: TurnIndex) -> list[int]:
    """Steps before question `i` that fit into `room` tokens: those that match it, best first, then the newest."""
    past = [j for j in range(i) if not _is_probe(dialogue.source.steps[j])]
    index.sync(message for j in past for message in _said(dialogue.source.steps[j], j + 1))
    question = dialogue.source.steps[i]
    best = [match.turn - 1 for match in index.search(question.user)] if isinstance(question, Ask) else []
    found: list[int] = []
    for j in dict.fromkeys((*best, *reversed(past))):
        n = dialogue.step(j, first=False).n_tokens
        if n <= room:
            found.append(j)
            room -= n
        elif j not in best:
            break  # of the newest none is left out
    return sorted(found)


def _is_probe(step: object) -> bool:
    return isinstance(step, Ask) and step.reply == "none"


def _said(step: object, turn: int) -> Iterator[Message]:
    """What a step says, as messages of this turn."""
    if isinstance(step, Say | Ask):
        yield Message(turn, "user", step.user)
    if isinstance(step, Say) and step.assistant:
        yield Message(turn, "assistant", step.assistant)
    elif isinstance(step, Ask):
        yield Message(turn, "assistant", f"{step.stem}{step.options[step.gold]}{step.close}")


def _reply(step: EncodedStep, chosen: int) -> list[Part]:
    """What was answered to a question of the window, nothing for another step."""
    if not isinstance(step.source, Ask):
        return []
    said = step.options[chosen if step.source.reply == "chosen" else step.source.gold]
    return [("assistant", said), *([step.end] if step.end else [])]
