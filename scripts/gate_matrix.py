"""The gate matrix: each family's verdict, and the damage of packing it nevertheless, measured."""

import argparse
import platform
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from itertools import product
from pathlib import Path

from forced import MOVES, Damage, force, removals
from tiny_families import FAMILIES, Family

from edge_sir.errors import CapabilityError, ModelFileError
from edge_sir.llama.engine import EngineOptions, LlamaEngine
from edge_sir.llama.gguf.check import check_model_file
from edge_sir.llama.kshift.admission import build_id, judge, run_probe
from edge_sir.llama.kshift.gate import KV_TYPES, RestoreTest
from edge_sir.llama.kshift.trial import restore_test, trial_options
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
*Restored* is how far the logits move where cells are saved, removed, overwritten by another sequence and put back at
their old positions; *lost* is how far they move where nothing is put back.
"""
TYPES = """
## Restoring, by types of K and V

The same for all types of K and V that llama.cpp takes: the largest *restored / tolerance* and the smallest *lost /
tolerance* of each family, and in which of the contexts. At most 1 is rounding.

| model | contexts | restored / tolerance | lost / tolerance |
|---|---|---|---|
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    write = parser.parse_args().write
    with tempfile.TemporaryDirectory() as folder:
        rows = [row(family, Path(folder)) for family in FAMILIES]
        types = [types_row(family, Path(folder)) for family in FAMILIES if family.mode != "refused"]
    columns = ("model", "family", "mode", "why", "moved", "tolerance", "factor", "restores", "restored", "lost")
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}", *(f"| {' | '.join(r)} |" for r in rows)]
    version = build_id().partition("-")[0]
    foot = f"llama-cpp-python {version}, CPU ({platform.machine()}), one thread.\n"
    page = "\n".join([HEAD, *lines, TYPES.rstrip("\n"), *(r for r in types if r), "", foot])
    if write:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page, encoding="utf-8")
    else:
        print(page, end="")


def row(family: Family, folder: Path) -> tuple[str, ...]:
    mode, why, restores = verdict(family, folder)
    if mode == "refused":
        middle, tail = ("yes" if done else "no" for done in removals(family, folder))
        return family.name, family.what, mode, why, f"removes: middle {middle}, end {tail}", "", "", "no", "", ""
    options = replace(trial_options(threads=1), kv_k=family.type_k)
    [(_, kept, lost)] = restorals(family, folder, [options])
    moved = damage_cells(force(family, folder))
    return family.name, family.what, mode, why, *moved, restores, f"{kept.moved:.2g}", f"{lost.moved:.2g}"


def verdict(family: Family, folder: Path) -> tuple[str, str, str]:
    """What a user of the file would get: mode, why, and whether cells are restored."""
    header = check_model_file(family.file(folder))
    try:
        trials = judge(header, run_probe(header, threads=1, kv_k=family.type_k))
    except ModelFileError as refusal:
        return "refused", str(refusal).replace(f"{header.path} ", ""), "no"
    options = EngineOptions(threads=1, chunk=64, kv_k=family.type_k)
    engine = LlamaEngine(NativeModel(header.path, header=header), N_CELLS, options, owns_model=True, trials=trials)
    spec = engine.spec
    engine.close()
    return "packed" if spec.can_pack else "gaps", spec.why, "yes" if spec.can_restore else f"no: {spec.why_restore}"


def restorals(
    family: Family, folder: Path, contexts: Iterable[EngineOptions]
) -> list[tuple[EngineOptions, RestoreTest, RestoreTest]]:
    """Each context that llama.cpp takes for the family, with the trial of restoring and that of restoring nothing."""
    model = NativeModel(family.file(folder))
    found = []
    for options in contexts:
        with suppress(CapabilityError):
            found.append((options, restore_test(model, options), restore_test(model, options, restore=False)))
    model.close()
    return found


def types_row(family: Family, folder: Path) -> str:
    if "+" in family.name and family.name != "llama64+q4_0":
        return ""  # the same file as another family's
    trial = trial_options(threads=1)
    kinds = product(KV_TYPES, KV_TYPES, ("off", "on"))
    found = restorals(family, folder, [replace(trial, kv_k=k, kv_v=v, flash_attn=flash) for k, v, flash in kinds])

    def in_words(at: int, choose: Callable[..., tuple[float, str]]) -> str:
        value, what = choose(
            (t[at].moved / t[at].tolerance, f"K {t[0].kv_k}, V {t[0].kv_v}, flash attention {t[0].flash_attn}")
            for t in found
        )
        return f"{value:.2f} ({what})" if value < 10 else f"{value:.0f} ({what})"

    return f"| {family.name.partition('+')[0]} | {len(found)} | {in_words(1, max)} | {in_words(2, min)} |"


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
