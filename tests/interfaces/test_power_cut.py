"""scripts/power-cut: a process that talks in a session on a real model is killed 20 times, and nothing is lost."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

N_KILLS = 20
SAID = [[1, "user", "Hi"], [1, "assistant", "Hello."], [2, "user", "My word is qxzjvkqx."], [2, "assistant", "Good."]]
AND = [[3, "user", "And?"], [3, "assistant", "No."]]


@pytest.fixture
def power_cut(import_script: Callable[[str], ModuleType]) -> ModuleType:
    for name in ("one_line_parser", "power_cut_points", "power_cut_talk", "power_cut_judge"):
        import_script(name)
    return import_script("power_cut")


def test_nothing_that_was_acknowledged_is_lost(power_cut: ModuleType, smollm2_path: Path, tmp_path: Path) -> None:
    report = power_cut.play(tmp_path, N_KILLS, 7, str(smollm2_path), n_calls=3)
    assert report.faults == [], report.text()
    assert report.n_kills == N_KILLS and sum(report.missed.values()) <= N_KILLS // 4, report.text()
    assert report.ways["exact"] and report.ways["replayed"] and report.n_calls > N_KILLS, report.text()


def view(said: list[list[Any]], record: int = 5, **other: Any) -> dict[str, Any]:
    now = {"said": said, "unsent": [], "record": record, "rows": "rows", "positions": "positions", "budget": 192}
    return now | other


def judged(
    power_cut: ModuleType, opened: dict[str, Any], doing: str = "", argument: str = "", *, steps: Any = (), **how: Any
) -> list[str]:
    """What is found of a process that had acknowledged all of `SAID`, and was cut in a call."""
    known = power_cut.Known()
    known.note({"opened": view(SAID[:2], 4)})
    known.note({"doing": "say", "argument": SAID[2][2]})
    known.note({"done": "say"} | view(SAID))
    for step in [{"doing": doing, "argument": argument}] * bool(doing) + list(steps):
        known.note(step)
    of_all = {"how": "exact", "wrong": "", "problems": [], "problem": "", "told_unsent": opened["unsent"]}
    texts = {"texts": [text for _, _, text in SAID + opened["said"]]}
    return list(known.faults(of_all | texts | opened, **{"other_build": False, "is_first": True} | how))


@pytest.mark.parametrize(
    ("opened", "doing", "argument"),
    [
        (view(SAID), "", ""),
        (view(SAID), "say", "And?"),
        (view(SAID, unsent=["And?"]), "say", "And?"),
        (view(SAID + AND, 6, rows="more"), "say", "And?"),
        (view(SAID[:2], 6, rows="fewer"), "undo", ""),
        (view([*SAID[:3], [2, "assistant", "Bad."]], 6), "regen", ""),
        (view([*SAID[:2], SAID[3]], 6, rows="fewer"), "forget", "qxzjvkqx"),
        (view(SAID[2:], 6, rows="fewer"), "forget", "1"),
        (view([], 6, rows="none"), "clear", ""),
        (view([*SAID, [3, "system", "Be brief."]], 6, rows="more"), "system", "Be brief."),
        (view(SAID, 6, rows="pinned"), "pin", "1"),
        (view(SAID, 6, budget=256, rows="as many"), "budget", "256"),
    ],
)
def test_a_call_that_was_cut_has_happened_whole_or_not_at_all(
    power_cut: ModuleType, opened: dict[str, Any], doing: str, argument: str
) -> None:
    assert judged(power_cut, opened, doing, argument) == []


@pytest.mark.parametrize(
    ("opened", "doing", "argument"),
    [
        (view(SAID[:2]), "", ""),
        (view(SAID[:3], 6), "regen", ""),
        (view([]), "say", "And?"),
        (view([*SAID, AND[0]], 6), "say", "And?"),
        (view(SAID + AND, 6, unsent=["And?"]), "say", "And?"),
        (view(SAID, unsent=["And?", "And?"]), "say", "And?"),
        (view(SAID, 6, unsent=["Or?"]), "say", "And?"),
        (view(SAID, 4), "", ""),
        (view(SAID, budget=256), "budget", "256"),
        (view(SAID, rows="others"), "pin", "1"),
        (view(SAID, 6, rows="others"), "say", "And?"),
        (view(SAID, positions="others"), "", ""),
        (view(SAID[:3], 6), "forget", "qxzjvkqx"),
        (view([[0, "system", "Be brief."]], 6), "system", "Be brief."),
        (view(SAID, wrong="the cache has 3 cells"), "", ""),
        (view(SAID, problems=["record 3 is missing"]), "", ""),
        (view(SAID, how="rebuilt"), "", ""),
        (view(SAID, how="read again"), "", ""),
        (view(SAID, told_unsent=["And?"]), "", ""),
        (view(SAID, texts=["Hi"]), "", ""),
    ],
)
def test_what_is_lost_is_seen(power_cut: ModuleType, opened: dict[str, Any], doing: str, argument: str) -> None:
    assert judged(power_cut, opened, doing, argument)


def test_what_was_being_read_is_unsent(power_cut: ModuleType) -> None:
    reading = [{"reading": "And?"}]
    assert judged(power_cut, view(SAID, unsent=["And?"]), "say", "And?", steps=reading) == []
    assert judged(power_cut, view(SAID), "say", "And?", steps=reading)


def test_after_a_snapshot_the_next_process_goes_on_exactly(power_cut: ModuleType) -> None:
    taken = [{"done": "snapshot"} | view(SAID)]
    assert judged(power_cut, view(SAID), "snapshot", steps=taken) == []
    assert judged(power_cut, view(SAID, how="replayed"), "snapshot", steps=taken)
    assert judged(power_cut, view(SAID, how="rebuilt"), "snapshot", steps=taken, other_build=True) == []


def test_what_was_forgotten_is_looked_for_in_all_files(power_cut: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "snapshots").mkdir()
    (tmp_path / "snapshots" / "1-1").write_bytes(b"...QxzjVkqx...")
    assert list(power_cut.in_files(tmp_path, {"qxzjvkqx"}, SAID[:2])) == ["qxzjvkqx stands in 1-1"]
    assert list(power_cut.in_files(tmp_path, {"qxzjvkqx"}, SAID)) == [], "it was said again"
    assert list(power_cut.in_files(tmp_path, {"vvvvvvvv"}, SAID)) == []
