"""llama.cpp's sampler chain is given the few tokens that it can choose: the draws are those from all of them."""

from dataclasses import replace

import numpy as np
import pytest

from edge_sir.engine import SamplingParams
from edge_sir.errors import ComputeError
from edge_sir.llama.sampling import LlamaSampler

N_VOCAB = 9000


class FromAll(LlamaSampler):
    """The same chain over the whole vocabulary."""

    def _worth_a_look(self, logits: np.ndarray) -> np.ndarray:
        return self._ids


def random_params(random: np.random.Generator) -> SamplingParams:
    return SamplingParams(
        temperature=float(random.choice([0, 0.3, 1, 2])),
        top_k=int(random.choice([0, 1, 5, 40])),
        top_p=float(random.choice([0.5, 0.95, 1])),
        min_p=float(random.choice([0, 0.05, 0.5])),
        repeat_penalty=float(random.choice([0.5, 1, 1.1, 3])),
        frequency_penalty=float(random.choice([-1, 0, 0.5])),
        presence_penalty=float(random.choice([-2, 0, 1])),
        repeat_last_n=int(random.choice([0, 1, 64])),
        seed=int(random.integers(1000)),
    )


def draws(kind: type[LlamaSampler], params: SamplingParams, rows: np.ndarray, drawn: list[int]) -> list[int]:
    sampler = kind(params, np.arange(N_VOCAB, dtype=np.int32), drawn)
    try:
        return [sampler.sample(row) for row in rows]
    finally:
        sampler.close()


@pytest.mark.parametrize("seed", range(60))
def test_the_draws_are_those_from_the_whole_vocabulary(seed: int) -> None:
    random = np.random.default_rng(seed)
    params = random_params(random)
    rows = random.normal(scale=random.choice([0.5, 3, 10]), size=(8, N_VOCAB)).astype(np.float32)
    drawn = [*random.integers(N_VOCAB, size=70).tolist(), *np.argsort(-rows[0])[:30].tolist()]
    assert draws(LlamaSampler, params, rows, drawn) == draws(FromAll, params, rows, drawn)


def test_of_equal_logits_greedy_takes_the_first() -> None:
    row = np.round(np.random.default_rng(1).normal(size=N_VOCAB)).astype(np.float32)
    params = SamplingParams(temperature=0, repeat_penalty=1)
    assert draws(LlamaSampler, params, row[None], []) == [int(row.argmax())] == draws(FromAll, params, row[None], [])


def test_only_a_few_tokens_are_looked_at() -> None:
    row = np.random.default_rng(2).normal(size=N_VOCAB).astype(np.float32)
    for params, most in (
        (SamplingParams(), 300),
        (SamplingParams(temperature=0), 250),
        (replace(SamplingParams(), top_k=0), N_VOCAB),
    ):
        sampler = LlamaSampler(params, np.arange(N_VOCAB, dtype=np.int32), list(range(64)))
        n = len(sampler._worth_a_look(row))
        sampler.close()
        assert n <= most and (params.top_k or n == N_VOCAB)


@pytest.mark.parametrize("bad", [np.nan, -np.inf, np.inf])
@pytest.mark.parametrize("temperature", [0, 1])
def test_a_row_that_holds_no_numbers_is_an_error(bad: float, temperature: float) -> None:
    row = np.full(N_VOCAB, bad, np.float32)
    with pytest.raises(ComputeError, match="no finite numbers"):
        draws(LlamaSampler, SamplingParams(temperature=temperature), row[None], [])


def test_tokens_that_cannot_come_do_no_harm() -> None:
    row = np.full(N_VOCAB, -np.inf, np.float32)
    row[[7, 9]] = 1, 2
    assert draws(LlamaSampler, SamplingParams(temperature=0), row[None], []) == [9]
    assert set(draws(LlamaSampler, SamplingParams(), np.tile(row, (20, 1)), [])) <= {7, 9}
