"""The pure helpers of scripts/bench: statistics, table, JSON. Nothing here is timed."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

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
