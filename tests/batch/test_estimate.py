"""The estimate: what is left is counted, and the speeds of a machine that is known are found."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from answering import line, several, write

from edge_sir.batch.estimate import Speed, Work, _Measured, _solved, left_to_do, measure_speed, work_of
from edge_sir.batch.jobs import run_job
from edge_sir.batch.request import BatchRequest
from edge_sir.batch.result import BatchResult, RequestError
from edge_sir.errors import ConfigError
from edge_sir.text.reply import Reply


class Machine:
    """Reads a character as a token in 10 ms and writes a token in 100 ms; a reply has 20 tokens, or fewer if it must.

    It takes 7 s before it asks for the first request.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.asked: list[BatchRequest] = []

    def __call__(self, requests: Iterator[BatchRequest]) -> Iterator[BatchResult]:
        self.now += 7
        for request in requests:
            self.asked.append(request)
            n_read = len(request.said[0]) + 2
            most = request.terms.get("max_tokens", 256)
            n = min(20, most)
            self.now += 0.01 * n_read + 0.1 * n
            finish = "stop" if most > 20 else "length"
            yield BatchResult(request.custom_id, (Reply(1, "x", "", finish, n_read, n, 0, 0),))


def request(name: str, *said: str, **terms: int) -> BatchRequest:
    return BatchRequest(name, (), said, terms)


def test_the_speeds_of_a_machine_are_found() -> None:
    machine = Machine()
    sample = [request("a", "x" * 8, "y" * 500), request("b", "x" * 28)]
    speed = measure_speed(machine, sample, max_tokens=256, clock=lambda: machine.now)
    assert speed.read_per_s == pytest.approx(100)
    assert speed.written_per_s == pytest.approx(10)
    assert speed.per_reply == 20
    assert speed.per_character == pytest.approx(40 / 36, rel=0.1)
    assert 14 + 10 < machine.now < 14 + 10 + 3  # what is begun is finished
    assert {len(r.said) for r in machine.asked} == {1} and len({r.custom_id for r in machine.asked}) > 5


def test_speeds_that_are_lost_in_noise_stay_within_bounds() -> None:
    same = _Measured(n_read=10, n_written=20, seconds=5.0)  # twenty times as much was written in the same time
    assert _solved(_Measured(n_read=10, n_written=1, seconds=5.0), same) == pytest.approx((2, 40))
    assert _solved(same, same) == pytest.approx((20, 40))


def test_a_reply_that_was_cut_counts_in_full() -> None:
    machine = Machine()
    assert (
        measure_speed(machine, [request("a", "x", max_tokens=9)], max_tokens=256, clock=lambda: machine.now).per_reply
        == 9
    )


def test_a_model_that_can_hold_none_is_said() -> None:
    def mapper(requests: Iterator[BatchRequest]) -> Iterator[BatchResult]:
        yield from (
            BatchResult(r.custom_id, (), error=RequestError("invalid_request_error", "no room")) for r in requests
        )

    now = iter(range(1000))
    with pytest.raises(ConfigError, match="nothing could be measured: no room"):
        measure_speed(mapper, [request("a", "x")], max_tokens=256, clock=lambda: float(next(now)))


def test_what_is_left_is_counted_and_nothing_is_written(tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    write(source, [line("a", "12345"), b"torn", line("b", "123", "45"), line("a", "again"), line("c", "1")])
    first = work_of(left_to_do(source, target), 100)
    assert first == Work(n_dialogues=3, n_replies=4, n_characters=11, n_most=400) and not target.exists()
    run_job(source, target, several(1), model="tiny", limit=1)
    before = target.read_bytes()
    assert work_of(left_to_do(source, target), 100) == Work(2, 3, 6, 300)
    assert target.read_bytes() == before


def test_seconds_of_work() -> None:
    speed = Speed(read_per_s=100, written_per_s=10, per_character=0.5, per_reply=20)
    assert speed.seconds(Work(n_dialogues=1, n_replies=3, n_characters=1000, n_most=300)) == (5 + 6, 5 + 30)
    assert speed.seconds(Work(n_dialogues=1, n_replies=3, n_characters=1000, n_most=30)) == (5 + 3, 5 + 3)
