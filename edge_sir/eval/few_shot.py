"""The paper's baseline without a cache: every question gets a fresh prompt of the last rounds."""

from dataclasses import replace

from edge_sir.eval.player import Player
from edge_sir.eval.records import Row
from edge_sir.eval.script import Line, Script
from edge_sir.eval.stage import Stage
from edge_sir.eval.task import Ask
from edge_sir.policies import from_spec
from edge_sir.text.encoder import Part

__all__ = ["few_shot_rows"]


def few_shot_rows(stage: Stage, script: Script, rounds: int) -> list[Row]:
    """One row per question, asked after the `rounds` steps before it and nothing else."""
    rows: list[Row] = []
    chosen: dict[int, int] = {}
    tokens = seconds = 0.0
    for i in range(len(script)):
        if not isinstance(script.line(i).step, Ask):
            continue
        window = range(max(0, i - rounds), i)
        n_cells = 64 + sum(len(t) for _, t in script.opening())
        n_cells += sum(script.line(j).n_tokens for j in (*window, i))
        player = Player.start(script, stage.engine(n_cells), from_spec("keep-all"), n_cells)
        for j in window:
            line = script.line(j, first=j == window[0])
            player.say([*line.parts, *_reply(line, chosen.get(j, 0))])
        player.ask(script.line(i, first=not window))
        row = player.rows[-1]
        chosen[i] = row.chosen
        tokens, seconds = tokens + row.tokens, seconds + player.seconds
        rows.append(replace(row, index=len(rows), turn=i + 1, tokens=int(tokens), seconds=seconds))
    return rows


def _reply(line: Line, chosen: int) -> list[Part]:
    """What was answered to a question of the window, nothing for another step."""
    if not isinstance(line.step, Ask):
        return []
    said = line.options[chosen if line.step.reply == "chosen" else line.step.gold]
    return [("assistant", said), *([line.end] if line.end else [])]
