"""Files in and out: every line one result, whatever happens, and nothing twice."""

import errno
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from answering import answer, ids, line, read, several, write

from edge_sir.batch import lines as lines_file
from edge_sir.batch.jobs import Summary, run_job
from edge_sir.batch.output_file import OutputFile
from edge_sir.batch.request import BatchRequest
from edge_sir.batch.result import BatchResult, RequestError
from edge_sir.errors import ConfigError, EngineError, StoreError
from edge_sir.store.files import Files


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "in.jsonl", [line(f"d{i}") for i in range(10)])


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def run(source: Path, target: Path, mapper: Any = None, **options: Any) -> Summary:
    return run_job(source, target, mapper or several(3), model="tiny", **options)


def fails_after(n: int, error: BaseException) -> Any:
    """A mapper that takes one request more than it answers, then raises."""

    def mapper(requests: Iterator[BatchRequest]) -> Iterator[BatchResult]:
        for i, request in enumerate(requests):
            if i == n:
                raise error
            yield answer(request)

    return mapper


def never(requests: Iterator[BatchRequest]) -> Iterator[BatchResult]:
    for request in requests:
        raise AssertionError(request)
    yield from ()


# ---- results -------------------------------------------------------------------------------------


def test_every_line_has_a_result_as_it_is_finished(source: Path, target: Path) -> None:
    seen: list[int] = []
    summary = run(source, target, watch=lambda s: seen.append((s.n_done, len(read(target)))))
    assert seen == [(n, n) for n in range(1, 11)]
    assert ids(target) == [f"d{i}" for i in (2, 3, 4, 5, 6, 7, 8, 9, 1, 0)]
    document = read(target)[0]["response"]["body"]
    assert document["choices"][0]["message"]["content"] == "THIS IS D2." and document["model"] == "tiny"
    assert (summary.n_lines, summary.n_answered, summary.n_before, summary.n_missing) == (10, 10, 0, 0)
    assert (summary.n_read, summary.n_generated, summary.n_replies) == (10 * 15, 10 * 11, 10)


def test_ordered_is_the_order_of_the_input(source: Path, target: Path) -> None:
    run(source, target, ordered=True)
    assert ids(target) == [f"d{i}" for i in range(10)]
    before = target.stat().st_ino
    run(source, target, never, ordered=True)
    assert target.stat().st_ino == before  # nothing to do
    assert [p.name for p in target.parent.iterdir()] == ["in.jsonl", "out.jsonl"]


def test_what_is_in_no_line_of_the_input_comes_last(source: Path, target: Path, tmp_path: Path) -> None:
    run(write(tmp_path / "other.jsonl", [line("x"), line("d3"), line("y")]), target, several(1))
    run(source, target, ordered=True)
    assert ids(target) == [*(f"d{i}" for i in range(10)), "x", "y"]


def test_a_limit_is_of_this_run(source: Path, target: Path) -> None:
    first, second = run(source, target, limit=4), run(source, target, limit=4)
    assert (first.n_answered, second.n_answered, second.n_before) == (4, 4, 4)
    assert sorted(ids(target)) == [f"d{i}" for i in range(8)]


def test_an_empty_file_gives_an_empty_one(tmp_path: Path, target: Path) -> None:
    assert run(write(tmp_path / "none.jsonl", []), target).n_lines == 0
    assert target.read_bytes() == b""


def test_a_byte_order_mark_blank_lines_and_no_line_break_at_the_end(tmp_path: Path, target: Path) -> None:
    source = tmp_path / "in.jsonl"
    first, second = (json.dumps(line(name)).encode() for name in "ab")
    source.write_bytes(b"\xef\xbb\xbf" + first + b"\r\n\n  \n" + second)
    assert run(source, target).errors == {} and sorted(ids(target)) == ["a", "b"]


# ---- damaged lines -------------------------------------------------------------------------------


def test_a_thousand_damaged_lines_leave_the_others_unharmed(tmp_path: Path, target: Path) -> None:
    good = [line(f"d{i}") for i in range(1000)]
    text = json.dumps(line("broken")).encode()
    bad = [
        lambda i: text[: 5 + i % 40],
        lambda i: {"custom_id": i, "body": {"dialogue": ["x"]}},
        lambda i: text.replace(b"This", b"Th\0is"),
        lambda i: line(f"d{i // 2}"),
        lambda i: {"custom_id": f"b{i}", "body": {"dialogue": ["x"], "max_tokens": "many"}},
        lambda i: {"custom_id": f"b{i}", "body": {"dialogue": [None]}},
        lambda i: b"\xff\xfe" + text,
    ]
    mixed: list[Any] = []
    for i, document in enumerate(good):
        mixed += [document, bad[i % len(bad)](i)]
    mixed[501] = line("huge", "x" * 10_000_000)
    source = write(tmp_path / "in.jsonl", mixed)
    summary = run(source, target, several(16), ordered=True)
    documents = read(target)
    assert len(documents) == 2000 and summary.n_refused == 1000
    assert [d["error"] is None for d in documents] == [True, False] * 1000
    assert [d["custom_id"] for d in documents[::2]] == [f"d{i}" for i in range(1000)]
    assert all(
        d["error"]["message"].startswith(f"line {i}: ") for i, d in enumerate(documents[1::2], 1) for i in (2 * i,)
    )
    assert documents[501]["error"]["message"].startswith("line 502: text 1 of 'dialogue' has 10000000 characters")
    named = [d["custom_id"] for d in documents if d["custom_id"] is not None]
    assert len(named) == len(set(named))
    duplicates = [d for d in documents if d["error"] and d["error"]["code"] == "duplicate_custom_id"]
    assert len(duplicates) == 143 and "is that of line" in duplicates[0]["error"]["message"]
    assert sum(summary.errors.values()) == 1000
    again = run(source, target, never)
    assert (again.n_before, again.errors) == (2000, summary.errors) and read(target) == documents


def test_a_line_beyond_all_bounds_is_not_held(tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_file, "MOST_BYTES", 1000)
    monkeypatch.setattr(lines_file, "_BLOCK", 64)
    source = write(tmp_path / "in.jsonl", [line("a"), line("b", "x" * 5000), line("c"), line("d", "x" * 5000)])
    run(source, target, ordered=True)
    assert ids(target) == ["a", None, "c", None]
    assert read(target)[1]["error"]["code"] == "invalid_request_error"


def test_a_mended_line_is_asked(tmp_path: Path, target: Path) -> None:
    source = write(tmp_path / "in.jsonl", [b'{"custom_id": "a", "bo', line("b")])
    run(source, target)
    write(source, [line("a"), line("b")])
    run(source, target)
    assert sorted(ids(target), key=str) == [None, "a", "b"]


def test_an_error_of_a_dialogue_stands_in_its_line(source: Path, target: Path) -> None:
    def mapper(requests: Iterator[BatchRequest]) -> Iterator[BatchResult]:
        for request in requests:
            failed = RequestError("server_error", "no") if request.custom_id == "d5" else None
            yield BatchResult(request.custom_id, answer(request).replies, error=failed)

    assert run(source, target, mapper).errors == {"server_error": 1}
    (document,) = (d for d in read(target) if d["custom_id"] == "d5")
    assert document["error"]["code"] == "server_error" and document["response"]["body"]["replies"]


# ---- goes on -------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt(), EngineError("no"), SystemExit(143)])
def test_a_run_that_ended_early_is_gone_on_with(source: Path, target: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        run(source, target, fails_after(4, error))
    assert ids(target) == ["d0", "d1", "d2", "d3"]
    asked: list[str] = []

    def mapper(requests: Iterator[BatchRequest]) -> Iterator[BatchResult]:
        for request in requests:
            asked.append(request.custom_id)
            yield answer(request)

    assert run(source, target, mapper).n_before == 4
    assert asked == [f"d{i}" for i in range(4, 10)] and sorted(ids(target)) == [f"d{i}" for i in range(10)]


def test_whichever_byte_the_output_ends_at_all_is_there_in_the_end(tmp_path: Path, target: Path) -> None:
    source = write(tmp_path / "in.jsonl", [line("a"), b"torn", line("c")])
    run(source, target, several(1))
    whole = target.read_bytes()
    ends = [at + 1 for at, byte in enumerate(whole) if byte == ord("\n")]
    near = {end + i for end in ends for i in (-2, -1, 0, 1, 2, 9, 30)}
    for n in sorted(near & set(range(len(whole) + 1)) | set(range(0, len(whole), 101))):
        target.write_bytes(whole[:n])
        run(source, target, several(1), ordered=True)
        assert ids(target) == ["a", None, "c"], n


def test_blocks_that_a_power_cut_left_empty_are_cut_off(source: Path, target: Path) -> None:
    run(source, target)
    whole = target.read_bytes()
    target.write_bytes(whole[:500] + bytes(4096))
    run(source, target)
    assert sorted(ids(target)) == [f"d{i}" for i in range(10)]


def test_lines_that_another_program_wrote_anew_count(source: Path, target: Path) -> None:
    run(source, target)
    short = [{"error": None, "custom_id": d["custom_id"]} for d in read(target)]
    write(target, [*short[:5], b"a note in the middle", *short[5:]])
    run(source, target, never)
    assert target.read_bytes().count(b"\n") == 11


@pytest.mark.parametrize("held", [b"my diary", b"my diary\n", b'{"name": "Ada"}\n', b"\n\n"])
def test_a_file_that_is_no_output_is_left_as_it_is(source: Path, target: Path, held: bytes) -> None:
    target.write_bytes(held)
    with pytest.raises(ConfigError, match="is there and holds no results; choose another file with -o"):
        run(source, target)
    assert target.read_bytes() == held


def test_what_ran_twice_is_written_once(source: Path, target: Path) -> None:
    def mapper(requests: Iterator[BatchRequest]) -> Iterator[BatchResult]:
        for request in requests:
            yield answer(request)
            yield answer(request)

    assert run(source, target, mapper).n_answered == 10
    assert len(read(target)) == 10


def test_requests_that_a_mapper_loses_are_counted(source: Path, target: Path) -> None:
    def mapper(requests: Iterator[BatchRequest]) -> Iterator[BatchResult]:
        yield from (answer(request) for request in requests if request.custom_id != "d5")

    assert run(source, target, mapper).n_missing == 1
    assert run(source, target).n_answered == 1


def test_a_mapper_that_breaks_the_rules_is_a_bug(source: Path, target: Path) -> None:
    def invents(requests: Iterator[BatchRequest]) -> Iterator[BatchResult]:
        yield BatchResult("other", ())

    def leaves(requests: Iterator[BatchRequest]) -> Iterator[BatchResult]:
        yield answer(next(requests))

    with pytest.raises(RuntimeError, match="'other', which was not asked"):
        run(source, target, invents)
    with pytest.raises(RuntimeError, match="before it had taken all requests"):
        run(source, target, leaves)


def test_the_mapper_is_closed(source: Path, target: Path) -> None:
    closed: list[bool] = []

    def mapper(requests: Iterator[BatchRequest]) -> Iterator[BatchResult]:
        try:
            yield from map(answer, requests)
        finally:
            closed.append(True)

    def interrupt(_: Summary) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(source, target, mapper, watch=interrupt)
    assert closed == [True]


# ---- files ---------------------------------------------------------------------------------------


def test_two_runs_on_one_output_are_refused(source: Path, target: Path, tmp_path: Path) -> None:
    (tmp_path / "link.jsonl").symlink_to(target)
    code = "import sys; from edge_sir.batch.output_file import OutputFile as O; from pathlib import Path\n"
    code += "with O(Path(sys.argv[1])) as o: list(o.open()); print('open', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code, target], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"open\n"
        for path in (target, tmp_path / "link.jsonl"):
            with pytest.raises(ConfigError, match=rf"out.jsonl is written by process {other.pid}; wait until"):
                run(source, path)
        other.kill()
    run(source, target)  # a killed process holds nothing
    assert not list(tmp_path.glob(".*"))


def test_files_that_cannot_be_used(source: Path, target: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing.jsonl \(No such file or directory\)"):
        run(tmp_path / "nothing.jsonl", target)
    assert not target.exists()
    with pytest.raises(ConfigError, match="is input and output"):
        run(source, source)
    assert len(read(source)) == 10
    with pytest.raises(ConfigError, match="there is no folder"):
        run(source, tmp_path / "no" / "out.jsonl")
    with pytest.raises(ConfigError, match="is no file"):
        run(source, Path("/dev/null"))
    with pytest.raises(ConfigError, match="is no file"):
        run(source, tmp_path)


class FullDisk(Files):
    """Lets nothing reach the medium."""

    def sync(self, descriptor: int, path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_one_line_and_no_half_of_a_result(tmp_path: Path, target: Path) -> None:
    output = OutputFile(target)
    with output:
        list(output.open())
        output.append(b"whole\n")
        real = output._opened

        class Full:
            def write(self, data: bytes) -> int:
                if len(data) < 10:
                    raise OSError(errno.ENOSPC, "No space left on device")
                return real.write(data[:10])

            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

        output._file = Full()  # type: ignore[assignment]
        with pytest.raises(StoreError, match=r"No space left on device\); mend that and run the same command again"):
            output.append(b"too much for it\n")
        output._file = real
        output.append(b"after\n")
    assert target.read_bytes() == b"whole\nafter\n"


def test_lines_reach_the_medium_now_and_then_and_at_the_end(target: Path) -> None:
    synced: list[int] = []

    class Noting(Files):
        def sync(self, descriptor: int, path: Path) -> None:
            if path == target:
                synced.append(target.read_bytes().count(b"\n"))

    now = [0.0]
    output = OutputFile(target, files=Noting(), clock=lambda: now[0])
    with output:
        list(output.open())
        for second in range(13):
            now[0] = second
            output.append(b"x\n")
    assert synced == [6, 11, 13]


def test_what_cannot_reach_the_medium_is_one_line(target: Path) -> None:
    output = OutputFile(target, files=FullDisk())
    with pytest.raises(ConfigError, match="No space left on device"):  # the name of the new file
        output.open()
    target.touch()
    with pytest.raises(StoreError, match="No space left on device"), output:
        list(output.open())
    assert not list(target.parent.glob(".*"))


def test_a_kill_while_it_is_ordered_leaves_the_file(source: Path, target: Path) -> None:
    run(source, target)
    before = target.read_bytes()

    class Killed(Files):
        def rename(self, source: Path, target: Path) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), OutputFile(target, files=Killed()) as output:
        order = {entry.digest: n for n, entry in enumerate(reversed(list(output.open())), 1)}
        output.sort(order.__getitem__)
    assert target.read_bytes() == before and not list(target.parent.glob(".*"))
