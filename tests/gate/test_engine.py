"""How a context is made: the chunk that goes with a vocabulary, and how llama.cpp's threads wait."""

import os
import platform
import subprocess
import sys

import numpy as np
import pytest

from edge_sir.core.budget import Budget
from edge_sir.errors import CapabilityError
from edge_sir.llama.engine import EngineOptions, LlamaEngine, chunk_for
from edge_sir.llama.native import NativeModel
from edge_sir.policies import from_spec
from edge_sir.session import Session

VOCABULARIES = {1: 128, 32_000: 128, 32_768: 128, 32_769: 64, 49_152: 64, 128_256: 32, 151_936: 16, 262_144: 16}


@pytest.mark.parametrize("n_vocab", VOCABULARIES)
def test_the_larger_the_vocabulary_the_smaller_the_chunk(n_vocab: int) -> None:
    chunk = chunk_for(n_vocab)
    assert chunk == VOCABULARIES[n_vocab]
    assert 4 * chunk * n_vocab <= 16 * 2**20
    assert chunk == 128 or 4 * 2 * chunk * n_vocab > 16 * 2**20


def test_a_chunk_has_a_least_and_a_most() -> None:
    assert chunk_for(10**6) == 16
    assert chunk_for(151_936, 100) == 100  # each sequence may have a token in it
    assert chunk_for(151_936, gpu=True) == 128


def test_a_chunk_that_was_asked_for_is_kept(tiny_llama: NativeModel) -> None:
    assert EngineOptions().on(151_936).chunk == 16
    for asked, made in ((0, 128), (7, 7)):
        engine = LlamaEngine(tiny_llama, 256, EngineOptions(threads=1, chunk=asked))
        assert engine.spec.n_batch == made
        engine.close()
    with pytest.raises(CapabilityError, match="a chunk of as many tokens"):
        LlamaEngine(tiny_llama, 256, EngineOptions(chunk=7, n_seq_max=8))


def test_a_decode_for_many_sequences_leaves_the_slices_of_each_as_they_are(tiny_llama: NativeModel) -> None:
    assert EngineOptions(n_batch=48, n_seq_max=32).on(151_936) == EngineOptions(chunk=16, n_batch=48, n_seq_max=32)
    engine = LlamaEngine(tiny_llama, 512, EngineOptions(threads=1, chunk=16, n_batch=48, n_seq_max=3))
    assert (engine.spec.n_batch, engine.spec.n_slice) == (48, 16)
    session = Session(engine, from_spec("sir"), Budget(128), seq=2)
    session.feed(np.arange(20, 60), "user")
    sizes = []
    while (piece := session.next_slice()) is not None:
        sizes.append((session.n_next, len(piece.tokens)))
        session.commit(engine.decode([piece])[0])
    assert sizes == [(16, 16), (16, 16), (8, 8)]
    assert session.n_next == 0
    engine.close()


@pytest.mark.model
def test_a_model_gets_the_chunk_of_its_vocabulary(smollm2: NativeModel) -> None:
    engine = LlamaEngine(smollm2, 256, EngineOptions(threads=1))
    assert (engine.spec.n_vocab, engine.spec.n_batch) == (49_152, 64)
    engine.close()


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="a spin is short elsewhere")
@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, "5000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
)
def test_threads_do_not_wait_busily_for_long_unless_asked_to(given: dict[str, str], spins: str) -> None:
    env = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    program = "import os, edge_sir.llama.native; print(os.environ.get('GOMP_SPINCOUNT'))"
    done = subprocess.run([sys.executable, "-c", program], env=env | given, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == spins
