"""Random walks of chats that are saved; the whole of them: `--toy-walks 10000`. A walk is its seed."""

from collections import Counter
from pathlib import Path

import pytest
from keeping_walks import walk_kept

_PARTS = 4  # so that a failure does not hide the others'
_IN_MEMORY = Path("/dev/shm")  # an fsync for each record is most of a walk elsewhere


@pytest.mark.parametrize("part", range(_PARTS))
def test_walks_of_chats_that_are_saved(part: int, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    n, first = request.config.getoption("--toy-walks") // 5, request.config.getoption("--walk-seed")
    folder = _IN_MEMORY if _IN_MEMORY.is_dir() else tmp_path
    counts: Counter[str] = Counter()
    for seed in range(first + part, first + n, _PARTS):
        counts += walk_kept(seed, folder)
    assert min(counts[how] for how in ("exact", "replayed", "rebuilt", "died", "said the same")) > 0
