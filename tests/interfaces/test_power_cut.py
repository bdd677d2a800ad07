"""scripts/power-cut: a process that talks in a session on a real model is killed 20 times, and nothing is lost."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

N_KILLS = 20


@pytest.fixture
def power_cut(import_script: Callable[[str], ModuleType]) -> ModuleType:
    for name in ("one_line_parser", "power_cut_talk"):
        import_script(name)
    return import_script("power_cut")


def test_nothing_that_was_acknowledged_is_lost(power_cut: ModuleType, smollm2_path: Path, tmp_path: Path) -> None:
    options = {"model": str(smollm2_path), "budget": 192, "max_tokens": 8, "threads": 1}
    report = power_cut.play(tmp_path, N_KILLS, 7, options, n_calls=5)
    assert report.faults == [], report.text()
    assert sum(report.kinds.values()) == N_KILLS and report.n_acknowledged > N_KILLS


def judged(power_cut: ModuleType, said: list[list[object]], **before: object) -> list[str]:
    opened = {"said": said, "how": "exact", "unsent": [], "agrees": True}
    faults: list[str] = power_cut._missing(opened, power_cut.Life(**before))
    return faults


def test_what_is_lost_is_seen(power_cut: ModuleType) -> None:
    said = [[1, "user", "Hi"], [1, "assistant", "Hello."]]
    doing = {"doing": "say", "argument": "And?"}
    assert judged(power_cut, said, acknowledged=said) == []
    assert (
        judged(power_cut, [*said, [2, "user", "And?"], [2, "assistant", "No."]], acknowledged=said, doing=doing) == []
    )
    assert judged(power_cut, said[:1], acknowledged=said), "half a turn"
    assert judged(power_cut, [], acknowledged=said, doing=doing), "a turn that was acknowledged"
    assert judged(power_cut, said, acknowledged=said, doing=doing, reading="And?"), "what was being read"
    assert judged(power_cut, said, acknowledged=[*said, [2, "user", "7315"]], doing={"doing": "undo"}) == []
    kept = [[1, "user", "It is 7315."], [1, "assistant", "Fine."]]
    assert judged(power_cut, [kept[0]], acknowledged=kept, doing={"doing": "forget", "argument": "7315"}), "forgotten"
