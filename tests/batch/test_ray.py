"""Many dialogues on a Ray of this machine: two actors, real model files, real deaths."""

import importlib.util
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

if importlib.util.find_spec("ray") is None or importlib.util.find_spec("pyarrow") is None:
    pytest.skip("Ray Data is not installed (the extra `ray`)", allow_module_level=True)

from edge_sir import load
from edge_sir.batch.line import read_request
from edge_sir.batch.request import BatchRequest
from edge_sir.batch.result import BatchResult
from edge_sir.errors import ConfigError
from edge_sir.ray import BatchAnswers
from edge_sir.ray.actor import HeldThere, Tries
from edge_sir.ray.cluster import LOCAL, Pool, connected
from edge_sir.ray.mapper import RayMapper

# Ray warns of what it does itself; what is deprecated of that which is called here is an error.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{kind}")
    for kind in (r"DeprecationWarning:ray\..*", "ResourceWarning", "pytest.PytestUnraisableExceptionWarning")
]
SAID = ["My name is Ada. " * 8, "I live in Oslo. " * 8]
TERMS: dict[str, Any] = {"budget": 64, "max_tokens": 6}


def request(i: int) -> BatchRequest:
    return read_request({"custom_id": f"d{i}", "body": {"dialogue": SAID, "seed": i}})


@pytest.fixture(scope="module")
def pool(tiny_llama_path: Path) -> Iterator[Pool]:
    with connected(LOCAL, threads=1, n_actors=2, model=str(tiny_llama_path)) as pool:
        from ray import cloudpickle  # not before: what is set for a Ray of our own is read when it is imported

        cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the actors cannot import it
        yield pool


@pytest.fixture
def options(tiny_llama_path: Path) -> dict[str, Any]:
    return {"model": str(tiny_llama_path), **TERMS}


@pytest.fixture(scope="module")
def alone(tiny_llama_path: Path) -> dict[str, list[str]]:
    """What 24 dialogues give in this process."""
    with load(tiny_llama_path, threads=1, **TERMS) as model:
        return replies(model.batch(map(request, range(24)), parallel=2))


def replies(results: Iterator[BatchResult]) -> dict[str, list[str]]:
    found = list(results)
    assert [r.error for r in found] == [None] * len(found)
    assert len({r.custom_id for r in found}) == len(found)
    return {r.custom_id: [reply.text for reply in r.replies] for r in found}


# ---- the mapper ----------------------------------------------------------------------------------


def test_results_are_those_of_one_process(pool: Pool, options: dict[str, Any], alone: dict[str, list[str]]) -> None:
    assert (pool.n_cpus, pool.n_machines) == (1, 1)
    assert replies(RayMapper(pool, options, 2)(map(request, range(24)))) == alone


class Fragile(HeldThere):
    """A process that one of its dialogues ends, each time and after others had their results."""

    def results(self, requests: Sequence[BatchRequest]) -> Iterator[BatchResult]:
        for result in super().results(requests):
            if result.custom_id == "d5":
                time.sleep(0.5)  # what came before is on its way
                os._exit(1)
            yield result


def test_a_dialogue_that_ends_its_process_leaves_the_others_unharmed(
    pool: Pool, options: dict[str, Any], alone: dict[str, list[str]]
) -> None:
    found = list(RayMapper(pool, options, 2, Fragile)(map(request, range(24))))
    assert replies(r for r in found if r.custom_id != "d5") == {k: v for k, v in alone.items() if k != "d5"}
    (lost,) = (r for r in found if r.custom_id == "d5")
    assert lost.error is not None and lost.error.code == "server_error" and "died each of 6 times" in lost.error.message


class Loud(HeldThere):
    def results(self, requests: Sequence[BatchRequest]) -> Iterator[BatchResult]:
        raise ZeroDivisionError("a bug")


def test_what_an_actor_raises_is_raised_here(
    pool: Pool, options: dict[str, Any], tiny_llama_path: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "template"
    with pytest.raises(ConfigError, match="cannot read the chat template"):
        list(RayMapper(pool, options | {"chat_template": empty}, 2)(map(request, range(4))))
    with pytest.raises(RuntimeError, match=r"on an actor: Traceback(.|\n)*ZeroDivisionError: a bug"):
        list(RayMapper(pool, options, 2, Loud)(map(request, range(4))))


def test_no_more_is_held_than_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    answered: list[int] = []

    def run(self: RayMapper, requests: Sequence[BatchRequest], n_in_block: int) -> Iterator[BatchResult]:
        answered.append(n_in_block)
        yield from (BatchResult(request.custom_id, ()) for request in requests)

    def supply(text: str, n: int) -> Iterator[BatchRequest]:
        for i in range(n):
            taken.append(i)
            yield BatchRequest(f"{len(text)} {i}", (), (text,))

    monkeypatch.setattr(RayMapper, "_run", run)
    mapper = RayMapper(Pool(2, 4, 1), {}, 4)
    first = mapper(supply("x", 2000))
    next(first)
    assert len(taken) == 512 and len(list(first)) == 1999
    assert answered == [32, 32, 32, 32]  # 464 are in the last one
    taken.clear()
    next(mapper(supply("x" * 2**22, 100)))
    assert len(taken) == 16
    assert [mapper.n_in_block(n) for n in (1, 3, 8, 16, 40, 128)] == [1, 2, 4, 4, 8, 32]


def test_a_block_is_tried_so_often() -> None:
    tries = Tries(2)
    assert [tries.begin(block) for block in "aabba"] == [True, True, True, True, False]


# ---- whose Dataset it is -------------------------------------------------------------------------


def test_a_dataset_keeps_its_rows_and_columns(
    pool: Pool, options: dict[str, Any], alone: dict[str, list[str]], tmp_path: Path
) -> None:
    import ray.data

    bodies: list[Any] = [{"dialogue": SAID, "seed": i} for i in range(12)]
    bodies[3] = {"messages": [{"role": "user", "content": SAID[0]}], "max_tokens": 3, "temperature": 0.0}
    source = tmp_path / "in.jsonl"
    rows = [{"custom_id": f"d{i}", "body": body, "origin": 100 + i} for i, body in enumerate(bodies)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers = ray.data.read_json(str(source), lines=True).map_batches(
        BatchAnswers,
        fn_constructor_kwargs=options | {"parallel": 2},
        compute=ray.data.ActorPoolStrategy(size=1),  # the other CPU reads and writes
        num_cpus=1,
        batch_size=4,
    )
    answers.write_parquet(str(tmp_path / "out"))
    found = {row["custom_id"]: row for row in ray.data.read_parquet(str(tmp_path / "out")).take_all()}
    assert set(found) == {f"d{i}" for i in range(12)}
    assert {k: list(row["replies"]) for k, row in found.items() if k != "d3"} == {
        k: v for k, v in alone.items() if k in found and k != "d3"
    }
    assert all(row["origin"] == 100 + int(k[1:]) and row["error"] is None for k, row in found.items())
    assert all(row["n_evicted"] > 0 and row["n_read"] > 100 for k, row in found.items() if k != "d3")
    line = json.loads(found["d3"]["result"])
    assert line["custom_id"] == "d3" and line["response"]["body"]["usage"]["completion_tokens"] == 3


def test_the_example_of_the_page_runs(pool: Pool, tiny_llama_path: Path, tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "batch.md").read_text(encoding="utf-8")
    (program,) = (b for b in re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL) if "import ray" in b)
    rows = [{"custom_id": f"d{i}", "body": {"dialogue": SAID, "max_tokens": 4}} for i in range(3)]
    (tmp_path / "dialogues.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    here = {
        "/shared/model.gguf": str(tiny_llama_path),
        "/shared": str(tmp_path),
        "size=4": "size=1",
        "num_cpus=8": "num_cpus=1",
    }
    for there, found in here.items():
        assert there in program
        program = program.replace(there, found)
    exec(compile(program, "batch.md", "exec"), {})

    import ray.data

    answers = ray.data.read_parquet(str(tmp_path / "answers")).take_all()
    assert sorted((row["custom_id"], len(row["replies"]), row["error"]) for row in answers) == [
        (f"d{i}", 2, None) for i in range(3)
    ]


def test_a_batch_comes_back_row_by_row(options: dict[str, Any]) -> None:
    answers = BatchAnswers(parallel=2, threads=1, **options)
    bodies = [
        {"dialogue": ["Hello."], "temprature": None, "stop": None},
        json.dumps({"dialogue": ["Hello."]}),
        {"dialogue": ["Hello."], "temprature": 1.0},
        "{",
        {"dialogue": ["Hello."]},
    ]
    found = answers({"custom_id": ["a", "b", "c", "d", "a"], "body": bodies, "error": ["old"] * 5})
    assert [len(replies) for replies in found["replies"]] == [1, 1, 0, 0, 0]
    assert found["error"][:2] == [None, None] and "did you mean 'temperature'" in found["error"][2]
    assert found["error"][3] == "'body' is no JSON: '{'" and "is that of another row" in found["error"][4]
    with pytest.raises(ConfigError, match="no column 'body' but 'custom_id', 'text'"):
        answers({"custom_id": ["a"], "text": ["x"]})
    with pytest.raises(ConfigError, match="batch_format='numpy'"):
        answers([1])  # type: ignore[arg-type]
