"""Everyday dialogues of two people, written for this project: an exchange a line, a bar between its halves."""

from edge_sir.eval.texts import read

__all__ = ["DIALOGUES"]

DIALOGUES: tuple[tuple[tuple[str, str], ...], ...] = tuple(
    tuple((said, answer) for said, answer in (line.split("|") for line in told.splitlines()))
    for told in read("dialogues.txt").strip().split("\n\n")
)
"""Each a row of exchanges: (what one says, what the other answers)."""
