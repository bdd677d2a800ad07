"""The gate matrix: each family's verdict, and the damage of packing it nevertheless, measured."""

import argparse
import platform
import tempfile
from pathlib import Path

from forced import MOVES, Damage, force, removals
from tiny_families import FAMILIES, Family

from edge_sir.errors import ModelFileError
from edge_sir.llama.engine import EngineOptions, LlamaEngine
from edge_sir.llama.gguf.check import check_model_file
from edge_sir.llama.kshift.admission import build_id, judge, run_probe
from edge_sir.llama.native import NativeModel

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "gate-matrix.md"
N_CELLS = 256
HEAD = f"""# The gate matrix

Made by `scripts/gate-matrix --write`; do not edit. [What the gate does](models.md).

Each row is a tiny model with random weights of one family (tests/tiny_families.py), in a context of {N_CELLS} cells.
*Moved* is how far {len(MOVES)} K-shifts that leave all distances as they were move the logits, in standard deviations
of the logits, with the gate overruled; it should be nothing but rounding. *Tolerance* is what the gate allows for
rounding on that model. For the sliding window, cells come back into the window after they were overwritten. For
recurrent memory the column says whether llama.cpp agrees to remove tokens from the middle and from the end; where it
says yes, it removes them from the attention layers alone.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    write = parser.parse_args().write
    with tempfile.TemporaryDirectory() as folder:
        rows = [row(family, Path(folder)) for family in FAMILIES]
    columns = ("model", "family", "mode", "why", "moved", "tolerance", "factor")
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}", *(f"| {' | '.join(r)} |" for r in rows)]
    version = build_id().partition("-")[0]
    foot = f"llama-cpp-python {version}, CPU ({platform.machine()}), one thread.\n"
    page = "\n".join([HEAD, *lines, "", foot])
    if write:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page, encoding="utf-8")
    else:
        print(page, end="")


def row(family: Family, folder: Path) -> tuple[str, ...]:
    mode, why = verdict(family, folder)
    if mode == "refused":
        middle, tail = ("yes" if done else "no" for done in removals(family, folder))
        return family.name, family.what, mode, why, f"removes: middle {middle}, end {tail}", "", ""
    return family.name, family.what, mode, why, *damage_cells(force(family, folder))


def verdict(family: Family, folder: Path) -> tuple[str, str]:
    """What a user of the file would get."""
    header = check_model_file(family.file(folder))
    try:
        test = judge(header, run_probe(header, threads=1))
    except ModelFileError as refusal:
        return "refused", str(refusal).replace(f"{header.path} ", "")
    options = EngineOptions(threads=1, chunk=64, kv_k=family.type_k)
    engine = LlamaEngine(NativeModel(header.path, header=header), N_CELLS, options, owns_model=True, shift_test=test)
    spec = engine.spec
    engine.close()
    return "packed" if spec.can_pack else "gaps", spec.why


def damage_cells(damage: Damage) -> tuple[str, str, str]:
    if damage.died:
        return f"llama.cpp aborts: `{damage.died}`", "", ""
    return (
        f"{damage.moved:.2g}",
        f"{damage.tolerance:.2g}",
        f"{damage.factor:.0f}" if damage.factor >= 10 else f"{damage.factor:.1f}",
    )


if __name__ == "__main__":
    main()
