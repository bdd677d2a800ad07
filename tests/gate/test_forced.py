"""Every refusal of the gate has a reason that one can measure."""

from pathlib import Path

import pytest
from forced import force
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
