"""The pure helpers of scripts/bench: statistics, table, JSON. No test depends on a time."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edge_sir.llama.native import NativeModel
from edge_sir.memory.transcript import Message
from edge_sir.store.folder import StateFolder
from edge_sir.store.values import Record

HOST = {"cpu": "abacus", "threads": 2}


@pytest.fixture
def stats(import_script: Callable[[str], ModuleType]) -> ModuleType:
    return import_script("bench_stats")


def test_pairs_cancel_what_slows_both(stats: ModuleType) -> None:
    load = np.linspace(1, 9, 30)
    figure = stats.paired("overflow_decode_steps", 2 * load, load)
    assert (figure.value, figure.low, figure.high) == (2, 2, 2)
    assert figure.reached is True


def test_a_line_through_chunks_ignores_outliers_and_gaps(stats: ModuleType) -> None:
    times = 3 + 0.5 * np.tile(np.arange(8.0), (2, 1))
    times[0, 1], times[1, 6] = 90, np.nan
    assert stats.robust_line(times) == pytest.approx(3 + 0.5 * np.arange(8))


def test_growth_finds_a_leak_and_no_leak(stats: ModuleType) -> None:
    noise = np.random.default_rng(1).normal(0, 0.01, 300)
    leak = stats.growth("rss_growth_mb_per_1000_turns", 100 + 0.05 * np.arange(300) + noise)
    assert leak.value == pytest.approx(50, abs=0.2) and leak.detail["robust_slope"] == pytest.approx(50, abs=0.2)
    assert leak.low < 50 < leak.high and leak.reached is False
    assert stats.growth("rss_growth_mb_per_1000_turns", np.full(200, 351.0)).value == 0


def test_bootstrap_holds_the_mean(stats: ModuleType) -> None:
    sample = np.random.default_rng(2).normal(5, 1, 100)
    low, high = stats.bootstrap(100, lambda i: float(sample[i].mean()), block=3)
    assert low < sample.mean() < high < 6


def test_reports(stats: ModuleType) -> None:
    figures = [
        stats.Figure("decode_vs_bare", 0.9, 0.8, 0.99, limit=2.0, limit_is="copies", detail={"n": 3}),
        stats.Figure("prefill_scored_ratio", 1.1),
        stats.Figure("reread_over_overflow", None, note="no packing"),
    ]
    report = json.loads(json.dumps(stats.report(HOST, figures), allow_nan=False))
    assert report["host"] == HOST and list(report["figures"]) == [f.key for f in figures]
    slow, fast, missing = report["figures"].values()
    assert (slow["reached"], fast["reached"], missing["reached"]) == (False, True, None)
    assert (slow["target"], slow["target_is"], slow["over_limit"]) == (0.95, "least", 0.45)
    shown = stats.table(HOST, figures)
    assert "cpu: abacus" in shown and "no packing" in shown
    assert [word for line in shown.splitlines() for word in line.split() if word in ("NO", "yes")] == ["NO", "yes"]


def test_every_figure_has_a_target(stats: ModuleType) -> None:
    assert stats.TARGETS["prefill_scored_ratio"] == ("<=", 1.2)
    assert stats.head_flop_ratio(106_203_456, 28_311_552) == pytest.approx(1.267, abs=1e-3)


def test_a_model_that_is_not_here_is_named_with_the_remedy(
    import_script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EDGE_SIR_MODELS_DIR", str(tmp_path))
    bench, stats = import_script("bench"), import_script("bench_stats")
    assert bench._parser().parse_args([]).model == "smollm2-135m-instruct"
    setup = bench.Setup("smollm2-135m-instruct", 1, True, bench.clock_of(1))
    figures = [*bench._gemma(setup), *bench._half(setup, 1e9)]
    keys = ["decode_vs_bare_0.5b", "prefill_scored_ratio_0.5b", "reread_over_overflow_0.5b"]
    keys += ["restore_vs_reread_0.5b", "archive_bytes_per_token_0.5b"]
    keys += ["snapshot_over_raw_0.5b", "resume_s_0.5b", "state_bytes_over_kv_0.5b"]
    keys += ["recall_first_token_ratio_0.5b", "recall_hit_decode_steps_0.5b"]
    assert [figure.key for figure in figures] == ["prefill_scored_ratio_gemma", *keys]
    assert set(stats.TARGETS) >= {figure.key for figure in figures}
    assert all(figure.value is None and "edge-sir models get" in figure.note for figure in figures)


def test_what_was_said_is_searched_and_the_slowest_kind_is_the_figure(
    import_script: Callable[[str], ModuleType],
) -> None:
    search, rig = import_script("bench_search"), import_script("bench_rig")
    setup = rig.Setup("none", 1, True, rig.clock_of(1))
    figures = search.searching(setup, 1, n_messages=300)
    assert [figure.key for figure in figures] == ["search_ms_100k", "search_ms_100k_short"]
    for figure in figures:
        kinds = [value for name, value in figure.detail.items() if name.endswith("_ms")]
        assert figure.value == max(kinds) > 0 and len(kinds) >= 2 and figure.detail["messages"] == 300


def test_what_the_bench_calls_never_said_is_not_found(
    import_script: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    search = import_script("bench_search")
    random = np.random.default_rng(0)
    words = search._vocabulary(random)
    with StateFolder(tmp_path / "state") as folder:
        texts = search._fill(folder, random, words, 500)
        for kinds in search._queries(random, words, texts):
            assert not any(folder.search(query) for query in kinds["never_said"])
            assert all(folder.search(query) for query in kinds["common"])


def test_a_session_on_disk_is_measured_beside_bare_files(
    import_script: Callable[[str], ModuleType], smollm2: NativeModel
) -> None:
    sessions, rig = import_script("bench_sessions"), import_script("bench_rig")
    written, resumed, size = sessions.snapshots(smollm2, rig.Setup("none", 1, True, rig.clock_of(1)), 2)
    assert [figure.key for figure in (written, resumed, size)] == list(sessions.KEYS)
    assert written.value > 0 and resumed.value > resumed.limit > 0
    assert size.detail["resident"] == 1024 and 1 < size.value <= 1.1
    assert written.detail["bytes"] == size.detail["bytes"] > size.detail["kv_bytes"] > 20e6


def test_records_of_turns_are_written_again_as_they_were(
    import_script: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    sessions = import_script("bench_sessions")
    said = [Message(i, "user", f"this is turn {i}", i + 1) for i in range(14)]
    added = [Record(i, (said[i],), bytes([i]), {"n": i}, i, pieces={i: b"piece"}) for i in range(14)]
    with StateFolder(tmp_path / "one") as folder, folder.create("a", model="m", fingerprint="f") as store:
        before, found = store.read(), []
        for record in added:
            store.write(record)
            now = store.read()
            found.append(sessions._added(store, before, now))
            before = now
    assert found == added
    pairs, n_bytes, n_emptied, mean = sessions._rewritten(found, 2, tmp_path)
    assert len(pairs) == len(n_bytes) == 2 * (14 - 10) and n_emptied == 0
    assert min(n_bytes) > 4096 and mean > 0 and all(ours > 0 and bare > 0 for ours, bare in pairs)
    assert (tmp_path / "bare").stat().st_size == sum(n_bytes)
