"""Every refusal of the gate has a reason that one can measure."""

from pathlib import Path

import pytest
from forced import force, removals
from tiny_families import FAMILIES, Family

REFUSED = [family for family in FAMILIES if family.mode == "gaps"]
PACKED = [family for family in FAMILIES if family.mode == "packed"]
ABORTS = {"qwen2vl": "n_pos_per_embd", "stablelm+q8_0": "not implemented"}


@pytest.mark.parametrize("family", REFUSED, ids=[family.name for family in REFUSED])
def test_where_the_gate_refuses_packing_does_damage(family: Family, tiny_folder: Path) -> None:
    damage = force(family, tiny_folder)
    if family.name in ABORTS:
        assert ABORTS[family.name] in damage.died
    else:
        assert damage.factor > 100, damage


@pytest.mark.parametrize("family", PACKED, ids=[family.name for family in PACKED])
def test_where_the_gate_allows_packing_forty_moves_do_none(family: Family, tiny_folder: Path) -> None:
    damage = force(family, tiny_folder)
    assert not damage.died and damage.factor < 2, damage


def test_recurrent_memory_cannot_forget(tiny_folder: Path) -> None:
    """A hybrid says yes to the middle, of which its recurrent layers keep everything (llama-memory-hybrid.cpp)."""
    mamba, jamba = (family for family in FAMILIES if family.mode == "refused")
    assert removals(mamba, tiny_folder)[1] is False
    assert removals(jamba, tiny_folder) == (True, False)


def test_the_matrix_in_the_docs_is_of_these_families() -> None:
    page = (Path(__file__).parents[2] / "docs" / "gate-matrix.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in page.partition("\n## ")[0].splitlines() if line.startswith("| ")][1:]
    assert [row[7] for row in rows] == ["no" if family.mode == "refused" else "yes" for family in FAMILIES]
    assert [(row[0].lstrip("| "), row[2]) for row in rows] == [(family.name, family.mode) for family in FAMILIES]
