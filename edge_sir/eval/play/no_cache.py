"""Baselines without a cache: each question gets a fresh prompt, of the last rounds or of what matches it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from edge_sir.eval.play.contexts import Contexts
from edge_sir.eval.play.dialogue_run import DialogueRun
from edge_sir.eval.play.encoded import EncodedDialogue, EncodedStep
from edge_sir.eval.records import Row
from edge_sir.eval.task import Ask, Say, Step
from edge_sir.memory.transcript import Message
from edge_sir.policies import from_spec
from edge_sir.recall.index import TurnIndex
from edge_sir.text.encoder import Part

__all__ = ["few_shot_rows", "few_shot_windows", "question_sizes", "retrieval_rows"]


def few_shot_rows(contexts: Contexts, dialogue: EncodedDialogue, rounds: int) -> list[Row]:
    """One row per question, asked after the `rounds` steps before it and nothing else; probes are no rounds."""
    rows: list[Row] = []
    chosen: dict[int, int] = {}
    for i, window, n_cells in few_shot_windows(dialogue, rounds):
        rows.append(_asked(contexts, dialogue, i, window, n_cells, chosen, rows))
        chosen[i] = rows[-1].chosen
    return rows


def few_shot_windows(dialogue: EncodedDialogue, rounds: int) -> Iterator[tuple[int, list[int], int]]:
    """Of each question: its step, the `rounds` steps before it, and the cells that the prompt takes at most."""
    for i in _questions(dialogue):
        window = [j for j in range(i) if not _is_probe(dialogue.source.steps[j])][-rounds:]
        yield i, window, 64 + dialogue.n_opening + sum(dialogue.step(j).n_tokens for j in (*window, i))


def retrieval_rows(contexts: Contexts, dialogue: EncodedDialogue, n_cells: int) -> list[Row]:
    """One row per question, asked after what matches it, as recall finds it, and nothing else: plain retrieval.

    The steps that match come first, best first, then the newest, as many as fit into `n_cells` with the question; in
    the prompt they stand in the order in which they were said. Each question must fit alone (`question_sizes`).
    """
    rows: list[Row] = []
    chosen: dict[int, int] = {}
    index = TurnIndex()
    try:
        for i in _questions(dialogue):
            room = n_cells - dialogue.n_opening - _most_tokens(dialogue, i)
            window = _matching(dialogue, i, room, index, chosen)
            row = _asked(contexts, dialogue, i, window, n_cells, chosen, rows)
            rows.append(replace(row, archive_bytes=index.n_bytes))
            chosen[i] = row.chosen
    finally:
        index.close()
    return rows


def question_sizes(dialogue: EncodedDialogue) -> Iterator[int]:
    """How many cells each question takes alone, after the system prompt."""
    return (dialogue.n_opening + _most_tokens(dialogue, i) for i in _questions(dialogue))


def _questions(dialogue: EncodedDialogue) -> Iterator[int]:
    return (i for i in range(len(dialogue)) if isinstance(dialogue.step(i).source, Ask))


def _most_tokens(dialogue: EncodedDialogue, i: int) -> int:
    """What a step takes at most, wherever it stands in a prompt."""
    return max(dialogue.step(i, first=first).n_tokens for first in (False, True))


def _asked(
    contexts: Contexts,
    dialogue: EncodedDialogue,
    i: int,
    window: Sequence[int],
    n_cells: int,
    chosen: Mapping[int, int],
    before: Sequence[Row],
) -> Row:
    """Question `i` after the steps of `window`; tokens and seconds go on from the rows before it."""
    run = DialogueRun.start(dialogue, contexts.engine(n_cells), from_spec("keep-all"), n_cells)
    for j in window:
        step = dialogue.step(j, first=j == window[0])
        run.say([*step.parts, *_reply(step, chosen.get(j, 0))])
    run.ask(dialogue.step(i, first=not window))
    row = run.rows[0][-1]
    tokens, seconds = (before[-1].tokens, before[-1].seconds) if before else (0, 0.0)
    return replace(row, index=len(before), turn=i + 1, tokens=tokens + row.tokens, seconds=seconds + run.seconds)


def _reply(step: EncodedStep, chosen: int) -> list[Part]:
    """What was answered to a question of the window, nothing for another step."""
    if not isinstance(step.source, Ask):
        return []
    said = step.options[step.source.kept(chosen)]
    return [("assistant", said), *([step.end] if step.end else [])]


# ---- what matches ----------------------------------------------------------------------------------


def _matching(dialogue: EncodedDialogue, i: int, room: int, index: TurnIndex, chosen: Mapping[int, int]) -> list[int]:
    """Steps before question `i` that fit into `room` tokens: those that match it, best first, then the newest."""
    steps = dialogue.source.steps
    past = [j for j in range(i) if not _is_probe(steps[j])]
    index.sync(message for j in past for message in _said(steps[j], j + 1, chosen.get(j, 0)))
    question = steps[i]
    best = [match.turn - 1 for match in index.search(question.user)] if isinstance(question, Ask) else []
    found: list[int] = []
    for j in dict.fromkeys((*best, *reversed(past))):
        n = _most_tokens(dialogue, j)
        if n <= room:
            found.append(j)
            room -= n
        elif j not in best:
            break  # of the newest none is left out
    return sorted(found)


def _is_probe(step: Step) -> bool:
    return isinstance(step, Ask) and step.is_probe


def _said(step: Step, turn: int, chosen: int) -> Iterator[Message]:
    """What a step says, as messages of this turn."""
    if isinstance(step, Say | Ask):
        yield Message(turn, "user", step.user)
    if isinstance(step, Say) and step.assistant:
        yield Message(turn, "assistant", step.assistant)
    elif isinstance(step, Ask):
        yield Message(turn, "assistant", step.said(step.kept(chosen)))
