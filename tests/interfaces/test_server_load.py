"""scripts/server-load in CI size: clients of a server on the toy engine that is killed three times meanwhile."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def server_load(import_script: Callable[[str], ModuleType]) -> ModuleType:
    for name in ("one_line_parser", "server_talk"):
        import_script(name)
    return import_script("server_load")


def test_nothing_is_lost_or_crossed_where_a_server_is_killed(server_load: ModuleType, tmp_path: Path) -> None:
    load = server_load.Load(clients=5, turns=8, sessions=2, kills=3)
    faults, server = server_load.play(load, tmp_path)
    assert faults.all == [] and faults.n_turns == 40 and server.n_killed == 3


def test_a_message_that_the_server_does_not_hold_is_found(server_load: ModuleType, tmp_path: Path) -> None:
    """The script would notice."""
    real = server_load.Talker.check

    def check(talker: object) -> None:
        talker.history.insert(0, {"role": "user", "content": "never said"})  # type: ignore[attr-defined]
        real(talker)

    server_load.Talker.check = check
    faults, _ = server_load.play(server_load.Load(clients=1, turns=2, sessions=1), tmp_path)
    assert len(faults.lost) == 1 and not faults.crossed
