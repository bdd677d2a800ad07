"""Rock-paper-scissors against players with a favourite: does the model come to counter it?

The conversation is never reset. Every round tells the player's last move and asks for the model's, whose own choice
stays. `--n` and `--offset` count rounds, the same for every player: `--n 2000` is the paper's length, and plays 2000
rounds against each. Without data there is one player more, who changes his favourite half-way; his rounds count apart,
as "win_before" and "win_after".
"""

import random
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from edge_sir.errors import ConfigError
from edge_sir.eval.task import Ask, Dialogue, Setup, Task
from edge_sir.eval.tasks._paper import ranges
from edge_sir.eval.tasks._paper.files import check_range, find, item, read_jsonl

__all__ = ["Rps"]

MOVES = ("rock", "paper", "scissors")
"""Each is beaten by the next, the last by the first."""
PLAYERS = {"rock": (0.5, 0.3, 0.2), "paper": (0.2, 0.5, 0.3), "scissors": (0.3, 0.2, 0.5)}
"""How often the player with this favourite plays rock, paper and scissors."""
TURNCOAT = "turncoat"
FILE = "rps_dominant_{}.jsonl"

_BEFORE, _AFTER = "rock", "scissors"  # the turncoat's favourites


class Rps(Task):
    """Rock-paper-scissors against players with a favourite; --n and --offset count rounds per player."""

    metrics = ("win", "win_before", "win_after")
    chance = 1 / 3
    n_default = 100
    data_files = f"a folder with {', '.join(FILE.format(name) for name in PLAYERS)}, or one of them"

    def files(self, data: Path) -> tuple[Path, ...]:
        return tuple(find(data, FILE.format(player)) for player in _players(data))

    def dialogue(self, setup: Setup, index: int) -> Dialogue:
        """Player number `index`, for the default number of rounds."""
        players = _players(setup.data)
        check_range(len(players), index, index + 1, "players")
        return _play(setup, players[index], self.n_default, 0)

    def dialogues(self, setup: Setup, n: int, offset: int) -> Iterator[Dialogue]:
        """One dialogue per player, each of rounds `offset` .. `offset + n`."""
        for player in _players(setup.data):
            yield _play(setup, player, n, offset)

    def counted(self, ids: Collection[str]) -> Collection[str]:
        return ranges.apart(ids)


def _players(data: Path | None) -> list[str]:
    """Who plays: of given data those whose files are there, else all and the turncoat."""
    if data is None:
        return [*PLAYERS, TURNCOAT]
    if data.is_dir():
        return list(PLAYERS)
    named = [player for player in PLAYERS if data.name == FILE.format(player)]
    if not named:
        raise ConfigError(f"{data} is not a player's file: give --data {Rps.data_files}")
    return named


def _play(setup: Setup, player: str, n: int, offset: int) -> Dialogue:
    """Its id names the rounds as well: a longer run is another dialogue, for the turncoat turns later in it."""
    end = offset + n
    if setup.data is not None:
        moves: Sequence[int] = _read(find(setup.data, FILE.format(player)))
        check_range(len(moves), offset, end, "rounds")
    else:
        moves = _draw(random.Random(f"{setup.seed}/{player}"), player, offset + n // 2, end)
    steps = []
    for i in range(offset, end):
        metric = "win" if player != TURNCOAT else "win_before" if i < offset + n // 2 else "win_after"
        steps.append(_round(moves[i], moves[i - 1] if i > offset else None, metric))
    return Dialogue(ranges.range_id(player, offset, end), tuple(steps))


def _round(move: int, last: int | None, metric: str) -> Ask:
    before = "Let us play Rock-Paper-Scissors." if last is None else f"I played {MOVES[last]}."
    return Ask(
        f"{before} The next round: what do you play?",
        "I play",
        tuple(f" {move}" for move in MOVES),
        (move + 1) % 3,
        metric=metric,
        reply="chosen",
    )


def _draw(r: random.Random, player: str, turn: int, end: int) -> list[int]:
    """Moves of rounds 0 .. `end`; the turncoat changes his favourite in round `turn`."""
    favourites = ((_BEFORE if i < turn else _AFTER) if player == TURNCOAT else player for i in range(end))
    return [r.choices(range(3), PLAYERS[favourite])[0] for favourite in favourites]


@lru_cache(maxsize=3)
def _read(path: Path) -> tuple[int, ...]:
    return read_jsonl(path, _move)


def _move(row: dict[str, Any]) -> int:
    """The move that the player made. Raises ValueError if the answer that the row gives does not beat it."""
    game = item(row)
    move = "ABC".index(row["user_choice"])
    if game.options != MOVES or game.gold != (move + 1) % 3:
        raise ValueError("not a round of rock-paper-scissors")
    return move
