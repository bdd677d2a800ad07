"""Scores against the golden vectors and against the textbook formulas in float64."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sir.core import scores
from edge_sir.core.scores import SCORE_NAMES, entropy, published, reduce_rows, surprisal

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "scores.json").read_text(encoding="utf-8"))
CASES = pytest.mark.parametrize("case", GOLDEN, ids=range(len(GOLDEN)))

N_VOCAB = 4096
BLOCK = scores._BLOCK_VALUES // N_VOCAB


def make_logits(n: int, n_vocab: int, dtype: Any = np.float32, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(n, n_vocab)) * 3).astype(dtype)


def naive_log_p(logits: np.ndarray) -> np.ndarray:
    x = logits.astype(np.float64)
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def naive(logits: np.ndarray, tokens: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    log_p, rows = naive_log_p(logits), np.arange(len(logits))
    return {
        "surprisal": -log_p[rows, targets],
        "entropy": -(np.exp(log_p) * log_p).sum(axis=1),
        "self_repeat": -log_p[rows, tokens],
    }


@CASES
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_surprisal_row_t_goes_with_target_t(case: dict[str, Any], dtype: Any) -> None:
    logits, ids = np.array(case["logits"], dtype), case["token_ids"]
    assert case["surprisal"][0] is None
    np.testing.assert_allclose(surprisal(logits[:-1], ids[1:]), case["surprisal"][1:], atol=1e-4, rtol=0)


@CASES
def test_entropy_is_the_golden_one(case: dict[str, Any]) -> None:
    np.testing.assert_allclose(entropy(case["logits"]), case["entropy_after"], atol=1e-4, rtol=0)


@CASES
def test_published_is_the_golden_one(case: dict[str, Any]) -> None:
    got = published(case["logits"], case["token_ids"])
    np.testing.assert_allclose(got, case["published_score"], atol=1e-4, rtol=0)


def test_golden_tells_published_from_surprisal() -> None:
    """A guard of the goldens: the two must not agree, or the tests above could not tell them apart."""
    assert not np.allclose(GOLDEN[0]["published_score"][1:], GOLDEN[0]["surprisal"][1:], atol=1e-2)


@pytest.mark.parametrize("n", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 1])
def test_blocks_have_no_seams(n: int) -> None:
    logits, rng = make_logits(n, N_VOCAB), np.random.default_rng(1)
    tokens, targets = rng.integers(N_VOCAB, size=(2, n))
    got = reduce_rows(logits, tokens, targets, SCORE_NAMES)
    for name, expected in naive(logits, tokens, targets).items():
        assert got[name].shape == (n,)
        np.testing.assert_allclose(got[name], expected, atol=1e-4, rtol=0, err_msg=name)


def test_a_row_longer_than_a_block_is_one_block() -> None:
    n_vocab = scores._BLOCK_VALUES + 7
    logits, ids = make_logits(3, n_vocab), np.array([0, n_vocab - 1, 5])
    for name, expected in naive(logits, ids, ids).items():
        np.testing.assert_allclose(reduce_rows(logits, ids, ids, [name])[name], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_result_has_the_dtype_of_the_logits(dtype: Any) -> None:
    got = reduce_rows(make_logits(2, 9, dtype), [1, 2], [3, 4], SCORE_NAMES)
    assert {column.dtype for column in got.values()} == {np.dtype(dtype)}


def test_float32_is_close_to_float64() -> None:
    logits, ids = make_logits(20, 50_000), np.arange(20)
    single = reduce_rows(logits, ids, ids + 1, SCORE_NAMES)
    double = reduce_rows(logits.astype(np.float64), ids, ids + 1, SCORE_NAMES)
    for name in SCORE_NAMES:
        np.testing.assert_allclose(single[name], double[name], atol=1e-4, rtol=0)


@pytest.mark.parametrize("offset", [-1e4, 1e4])
def test_large_logits_do_not_overflow(offset: float) -> None:
    logits = np.array([[0.0, np.log(3.0)]]) + offset
    assert surprisal(logits, [0])[0] == pytest.approx(np.log(4), abs=1e-6)
    assert entropy(logits)[0] == pytest.approx(np.log(4) - 0.75 * np.log(3), abs=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_excluded_token_has_weight_zero(dtype: Any) -> None:
    logits = np.array([[1.0, -np.inf, 2.0], [-np.inf, 5.0, -np.inf]], dtype)
    allowed = naive_log_p(np.array([[1.0, 2.0]]))[0]
    np.testing.assert_allclose(entropy(logits), [-(np.exp(allowed) * allowed).sum(), 0.0], atol=1e-6)
    np.testing.assert_array_equal(surprisal(logits, [1, 0]), [np.inf, np.inf])
    np.testing.assert_allclose(surprisal(logits, [2, 1]), [-allowed[1], 0.0], atol=1e-6)


def test_only_unknown_targets_score_nan() -> None:
    logits = make_logits(3, 8)
    got = reduce_rows(logits, [1, 2, 3], [-1, 5, -1], SCORE_NAMES)
    assert np.isnan(got["surprisal"]).tolist() == [True, False, True]
    assert not np.isnan(got["entropy"]).any() and not np.isnan(got["self_repeat"]).any()
    assert got["surprisal"][1] == pytest.approx(-naive_log_p(logits)[1, 5], abs=1e-5)


@pytest.mark.parametrize("names", [(), ("entropy",), ("surprisal", "self_repeat")])
def test_only_what_was_asked_for_is_computed(names: tuple[str, ...]) -> None:
    assert set(reduce_rows(make_logits(2, 5), [0, 1], [1, 2], names)) == set(names)


def test_the_input_is_neither_changed_nor_aliased() -> None:
    logits = make_logits(2 * BLOCK, N_VOCAB)
    before = logits.copy()
    logits.flags.writeable = False  # llama.cpp's own buffer must survive
    ids = np.arange(len(logits))
    for column in reduce_rows(logits, ids, ids, SCORE_NAMES).values():
        assert not np.shares_memory(column, logits)
    np.testing.assert_array_equal(logits, before)


def test_a_strided_matrix_gives_the_same() -> None:
    logits = make_logits(6, 10)
    np.testing.assert_allclose(entropy(np.asfortranarray(logits)[::2]), entropy(logits[::2].copy()), rtol=1e-6)


@pytest.mark.parametrize("logits", [[[0, 0, 0, 0]], np.zeros((1, 4), np.int64)])
def test_whole_numbers_are_logits_too(logits: Any) -> None:
    assert entropy(logits)[0] == pytest.approx(np.log(4))
    assert surprisal(logits, [2])[0] == pytest.approx(np.log(4))


def test_published_shifts_and_gives_the_first_the_maximum() -> None:
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]]))
    gathered = -np.log([0.5, 0.8, 0.4])  # row t at token t
    np.testing.assert_allclose(published(logits, [0, 1, 2]), [gathered.max(), gathered[0], gathered[1]])
    assert published(np.zeros((0, 3)), []).shape == (0,)
