"""Pictures: each is there, of a sane size, and drawn from the right figures."""

import builtins
import random
import struct
from pathlib import Path
from typing import Any

import pytest
from making import arm, read, row, summary

from edge_sir.errors import UserError
from edge_sir.eval.records import Row
from edge_sir.eval.report import drawing, plots
from edge_sir.eval.report.stats import bootstrap_mean
from edge_sir.eval.report.summary import Summary
from edge_sir.policies import from_spec


def png_size(path: Path) -> tuple[int, int]:
    """Pixels; fails if it is no PNG."""
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:24])


def is_sane(path: Path | None) -> bool:
    assert path is not None
    width, height = png_size(path)
    return 500 <= width <= 3000 and 300 <= height <= 1500 and 10_000 < path.stat().st_size < 500_000


def rows_of(policies: tuple[str, ...], budgets: tuple[int, ...], n: int = 24) -> list[Row]:
    r = random.Random(0)
    arms = [("keep-all", 0), *((p, b) for p in policies for b in budgets)]
    return [
        row(p, b, f"d{i}", right=r.random() < 0.8, gold_resident=r.random(), distance=200 + 30 * i)
        for p, b in arms
        for i in range(n)
    ]


def decays(task: str, *, keep_all: int = 12) -> Summary:
    rows = arm("keep-all", 0, [1] * keep_all + [0] * (12 - keep_all), [-1.0] * 12)
    for spec, n_right in (("sir:decay=0.5", 3), ("sir:decay=0.9", 9), ("sir", 12)):
        rows += arm(spec, 256, [1] * n_right + [0] * (12 - n_right), [-1.0] * 12)
    return summary(rows, task=task)


def test_all_that_an_evaluation_can_show(tmp_path: Path) -> None:
    policies = ("sir", "sirllm", "streaming", "streaming:n_sink=40", "sir:decay=0.9", "sir:decay=0.5")
    rows = rows_of(policies, (256, 512))
    files = plots.draw_all(summary(rows), rows, tmp_path / "new")
    assert [file.name for file in files] == [
        "recall-by-budget.png",
        "recall-by-distance.png",
        "retention-by-decay.png",
        "gold-residency.png",
    ]
    assert all(map(is_sane, files))


def test_nothing_is_drawn_of_nothing(tmp_path: Path) -> None:
    one_budget = [row("sir", 256, f"d{i}", gold_resident=None, distance=None) for i in range(3)]
    text = [read("sir", 256, i, -1.0) for i in range(3)]
    assert plots.draw_all(summary(one_budget), one_budget, tmp_path) == []
    assert plots.draw_all(summary(text, metrics=("log_probability",)), text, tmp_path) == []
    assert plots.draw_all(summary([]), [], tmp_path) == []
    assert plots.retention_by_decay({}, tmp_path / "none.png") is None
    assert list(tmp_path.iterdir()) == []


def test_retention_by_decay_over_tasks(tmp_path: Path) -> None:
    runs = {"grocery, lead 0": decays("grocery"), "grocery, lead 10": decays("grocery")}
    assert is_sane(plots.retention_by_decay(runs, tmp_path / "decay.png"))


def test_decay_is_read_from_the_specification() -> None:
    curves = plots._decay_curves({"grocery": decays("grocery"), "order": decays("order", keep_all=3)})
    # The default of sir is its own; order is not measurable and left out. 3, 9 and 12 of 12 over 12 of 12.
    assert list(curves) == [("grocery", "sir", 256)]
    points = curves["grocery", "sir", 256]
    assert [(p.x, p.y) for p in points[:2]] == [(0.5, 0.25), (0.9, 0.75)]
    assert (points[2].x, points[2].y) == (from_spec("sir").decay, 1.0)
    # The table's intervals: 3 of 12 over 12 of 12, drawn in pairs.
    assert points[0].ci == bootstrap_mean([1] * 3 + [0] * 9, range(12))


def test_two_runs_of_a_task_are_two_curves_and_two_decays_are_none() -> None:
    rows = [
        r
        for spec in ("keep-all", "sir", "sir:decay=1")
        for r in arm(spec, 256 * (spec != "keep-all"), [1] * 12, [-1.0] * 12)
    ]
    runs = {"grocery, lead 0": decays("grocery"), "grocery, lead 10": decays("grocery"), "choosing": summary(rows)}
    assert list(plots._decay_curves(runs)) == [("grocery, lead 0", "sir", 256), ("grocery, lead 10", "sir", 256)]


def test_a_curve_looks_the_same_in_every_panel() -> None:
    looks = plots._decay_looks([("a", "sir"), ("a", "sirllm"), ("b", "sir"), ("a", "sir"), ("b", "sirllm")])
    assert [line.label for line in looks.values()] == ["a, sir", "a, sirllm", "b, sir", "b, sirllm"]
    assert len({(line.colour, line.dashes) for line in looks.values()}) == 4
    of_one_run = plots._decay_looks([("a", "sir"), ("a", "sirllm")])
    assert [(line.label, line.colour) for line in of_one_run.values()] == [
        (policy, drawing.look(policy)[0]) for policy in ("sir", "sirllm")
    ]


def test_a_legend_names_what_any_panel_shows(tmp_path: Path) -> None:
    with drawing.figure(tmp_path / "a.png", 2, title="t", note="n", size=(3, 3)) as (made, panels):
        for axes, label in zip(panels, ("left", "right"), strict=True):
            axes.axhline(1.0, label="both")
            axes.axhline(0.5, label=label)
        drawing.legend(made, *panels)
        assert [text.get_text() for text in made.legends[0].get_texts()] == ["both", "left", "right"]


def test_decay_of_variants_and_controls() -> None:
    assert plots._decay("sirllm:decay=0.7,n_sink=8") == ("sirllm:n_sink=8", 0.7)
    assert plots._decay("sirllm") == ("sirllm", 1.0)
    assert plots._decay("keep-gold") is None
    assert plots._decay("few-shot:rounds=2") is None


@pytest.mark.parametrize(("decay", "text"), [(1.0, "never"), (0.5, "1"), (0.9, "6.6"), (0.98, "34")])
def test_half_life_by_hand(decay: float, text: str) -> None:
    assert plots._half_life(decay) == text  # ln 0.5 / ln decay


def test_far_distances_keep_apart_and_near_ones_make_equal_groups() -> None:
    assert plots._groups([1000, 1040, 3000, 3010, 10_000, 100_000], 2) == [
        [1000, 1040],
        [3000, 3010],
        [10_000],
        [100_000],
    ]
    assert plots._groups(list(range(100, 112)), 3) == [
        list(range(100, 104)),
        list(range(104, 108)),
        list(range(108, 112)),
    ]
    assert plots._groups([500] * 9, 3) == [[500] * 9]
    assert plots._groups([], 3) == []


def test_recall_by_distance_by_hand() -> None:
    rows = [row("sir", 256, f"d{i}", right=i < 3, distance=1000 + i) for i in range(4)]
    rows += [row("sir", 256, f"e{i}", right=i < 1, distance=3000 + i) for i in range(4)]
    points = plots._by_group(rows, plots._groups([r.distance or 0 for r in rows], 6))
    assert [(p.x, p.y) for p in points] == [(1001.5, 0.75), (3001.5, 0.25)]


def test_long_distances(tmp_path: Path) -> None:
    rows = [
        row(p, 256, f"{d}-{i}", right=(p == "sir"), distance=d + i, metric=f"recall_{d // 1000}k")
        for p in ("sir", "streaming")
        for d in (1000, 3000, 10_000, 30_000, 100_000)
        for i in range(10)
    ]
    found = summary(rows, task="long", metrics=("recall_1k", "recall_3k", "recall_10k", "recall_30k", "recall_100k"))
    assert is_sane(plots.recall_by_distance(found, rows, tmp_path / "distance.png"))
    assert is_sane(plots.recall_by_number(found, tmp_path / "number.png"))


def test_distances_that_are_much_the_same_make_no_plot_and_an_old_one_goes(tmp_path: Path) -> None:
    rows = [row("sir", 256, f"d{i}", right=i % 2 == 0, distance=900 + i) for i in range(100)]
    (tmp_path / "recall-by-distance.png").write_bytes(b"of an earlier report")
    drawn = plots.draw_all(summary(rows), rows, tmp_path)
    assert "recall-by-distance.png" not in {path.name for path in [*drawn, *tmp_path.iterdir()]}


def test_wanted_plots_alone_are_drawn(tmp_path: Path) -> None:
    rows = rows_of(("sir",), (256, 512))
    wanted = {tmp_path / "recall-by-budget.png", tmp_path / "recall-by-number.png", tmp_path / "other" / "decay.png"}
    assert len(plots.draw_all(summary(rows), rows, tmp_path)) == 3
    assert plots.draw_all(summary(rows), rows, tmp_path, only=wanted) == [tmp_path / "recall-by-budget.png"]
    assert [path.name for path in tmp_path.iterdir()] == ["recall-by-budget.png"]


def test_families_of_metrics(tmp_path: Path) -> None:
    metrics = ("recall_5", "recall_10", "recall_20")
    rows = [
        row(p, b, f"d{i}", index=k, metric=m, right=i >= k)
        for p, b in (("keep-all", 0), ("sir", 256), ("sir", 512))
        for i in range(4)
        for k, m in enumerate(metrics)
    ]
    found = summary(rows, task="item-list", metrics=metrics)
    families = plots._families(found)
    assert families == {"recall": {5: "recall_5", 10: "recall_10", 20: "recall_20"}}
    points = plots._of_family(found, found.entries[0], families["recall"])
    assert [(p.x, p.y) for p in points] == [(5, 1.0), (10, 0.75), (20, 0.5)]
    assert is_sane(plots.recall_by_number(found, tmp_path / "number.png", x_label="items"))


@pytest.mark.parametrize(
    ("metric", "parts"),
    [
        ("recall_5", ("recall", 5)),
        ("recall_100k", ("recall", 100_000)),
        ("recall", ("recall", None)),
        ("recall_50_word", ("recall_word", 50)),
        ("win_before", ("win_before", None)),
    ],
)
def test_numbers_in_metrics(metric: str, parts: tuple[str, int | None]) -> None:
    assert plots._parted(metric) == parts


def test_words_and_codes_are_families_of_their_own(tmp_path: Path) -> None:
    metrics = tuple(f"recall_{n}_{kind}" for n in (50, 10) for kind in ("word", "code"))
    rows = [row("sir", 128, f"d{i}", index=k, metric=m) for i in range(4) for k, m in enumerate(metrics)]
    found = summary(rows, task="mix", metrics=metrics)
    assert plots._families(found) == {
        "recall_word": {50: "recall_50_word", 10: "recall_10_word"},
        "recall_code": {50: "recall_50_code", 10: "recall_10_code"},
    }
    assert is_sane(plots.recall_by_number(found, tmp_path / "number.png"))


def test_a_family_in_parts_is_shown_by_its_parts(tmp_path: Path) -> None:
    metrics = tuple(f"recall_{n}k{part}" for n in (1, 3) for part in ("", "/overlap-0", "/overlap-1"))
    asked = [metric for metric in metrics if "/" in metric]
    rows = [row("sir", 512, "d", index=k, metric=m) for k, m in enumerate(asked)]
    found = summary(rows, task="far", metrics=metrics)
    families = plots._families(found)
    assert list(families) == ["recall/overlap-0", "recall/overlap-1"]
    counts = [
        share.n for family in families.values() for share in plots._shares(found, found.entries[0], family).values()
    ]
    assert counts == [1, 1, 1, 1]
    assert is_sane(plots.recall_by_number(found, tmp_path / "number.png"))


def test_of_many_decays_few_are_shown_and_that_is_said() -> None:
    specs = [f"sir:decay={decay}" for decay in (1, 0.98, 0.95, 0.9, 0.8, 0.7, 0.5)]
    others = ["keep-all", "streaming", "sir:decay=0.5,power=1"]
    shown, said = plots._few_decays([*others, *specs, "sir", "sirllm:decay=0.9"])
    # Sorted: 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, the default, 1; the one in the middle is 0.95.
    assert shown == [*others, "sir:decay=1", "sir:decay=0.95", "sir:decay=0.5", "sir", "sirllm:decay=0.9"]
    assert said == "; of 8 decays of sir 4 are shown"
    assert plots._few_decays(specs[:4]) == (specs[:4], "")


def test_a_picture_names_model_and_n() -> None:
    assert plots._note([decays("grocery")]) == "smollm2, n = 12 questions per point, 95 % intervals"
    assert "n = 3 to 15 questions per line" in plots._note([decays("grocery")], "line", [15, 3])
    assert "not measurable" in plots._note([decays("grocery", keep_all=3)])


def test_equal_pictures_are_equal_files(tmp_path: Path) -> None:
    rows = rows_of(("sir",), (256, 512))
    one = plots.recall_by_budget(summary(rows), tmp_path / "one.png")
    two = plots.recall_by_budget(summary(rows), tmp_path / "two.png")
    assert one is not None
    assert two is not None
    assert one.read_bytes() == two.read_bytes()
    assert one.read_bytes()[25] == 3  # by a palette, which takes a third of the bytes


def test_without_matplotlib_the_message_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    found = summary(rows_of(("sir",), (256, 512)))
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UserError, match=r"edge-sir\[eval\]"):
        plots.gold_residency(found, tmp_path / "none.png")
