"""A trace replays: exactly under its own policy, and under any other with no model."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driving import EVICTING, drain, make_session, say, words

from edge_sir.core.budget import KEPT_PERCENT, Budget
from edge_sir.core.plan import EvictionPlan
from edge_sir.core.records import Eviction
from edge_sir.core.scores import SCORE_NAMES
from edge_sir.errors import ComputeError, ConfigError
from edge_sir.policies import from_spec
from edge_sir.session import Session
from edge_sir.testing import ToyEngine
from edge_sir.trace.record import Trace, read_trace
from edge_sir.trace.replay import replay

ALL = frozenset(SCORE_NAMES)


def record(path: Path, policy: str, events: list[Eviction], budget: int = 96, **options: Any) -> tuple[Session, Trace]:
    trace = Trace(path)
    trace.start(policy=policy, budget=budget, model="toy", scores=ALL)
    session = make_session(policy, budget, also_score=ALL, journal=trace, on_evict=events.append, **options)
    return session, trace


def talk(session: Session, n_turns: int = 14) -> None:
    """Turns of all lengths, generation, thoughts, pins, a rewind, a truncation and a failed decode."""
    for i in range(n_turns):
        session.begin_turn(12)
        session.start_message()
        session.feed(words(7 + 11 * (i % 4), i), "user", pinned=i == 2)
        drain(session, 16)
        session.start_message()
        for j, token in enumerate(words(9, 100 + i)):
            session.feed([token], "thought" if j < 2 and i % 3 == 0 else "assistant")
            session.step(n_generated=1)
        session.relabel(np.array([len(session.ledger) - 1]), "frame")
        session.end_turn()
        if i == 4:
            session.rewind(5)
        if i == 6:
            session.pin(5)
            session.truncate(7)
        if i == 8:
            session.pin(5, False)
            assert isinstance(session.engine, ToyEngine)
            session.begin_turn()
            session.feed(words(30, 7), "user")
            session.engine.fail_next = ComputeError("made up")
            with pytest.raises(ComputeError):
                session.step()
            drain(session)


@pytest.mark.parametrize("policy", EVICTING)
@pytest.mark.parametrize("positions", ["packed", "gaps"])
def test_the_same_policy_takes_the_same_tokens(tmp_path: Path, policy: str, positions: Any) -> None:
    events: list[Eviction] = []
    session, trace = record(tmp_path / "t.jsonl", policy, events, positions=positions)
    talk(session)
    trace.close()
    room = [event for event in events if event.why == "room"]
    again = replay(read_trace(tmp_path / "t.jsonl"))
    assert len(room) >= 5
    assert (again.as_recorded, again.refused) == (True, "")
    assert (again.evictions, again.evicted) == (len(room), sum(map(len, room)))
    assert again.kept == set(session.ledger["born"].tolist())
    assert again.policy == session.policy.spec
    assert again.max_resident == session.stats.max_resident


@pytest.mark.parametrize("decay", [1.0, 0.9, 0.3])
def test_any_decay_replays_as_it_would_have_been(tmp_path: Path, decay: float) -> None:
    """Two routes to one answer: a trace of decay 0.7 replayed under another, and a session that had the other."""
    for name, spec in (("one", "sirllm:decay=0.7"), ("other", f"sirllm:decay={decay}")):
        session, trace = record(tmp_path / name, spec, [], positions="packed")
        # No generation: the toy's scores must not depend on what the policy dropped, so they are set by hand.
        for i in range(12):
            session.begin_turn()
            session.start_message()
            session.feed(words(20, i), "user")
            drain(session)
            rows = np.flatnonzero(session.ledger["turn"] == session.turn)
            born = session.ledger["born"][rows].astype(float)
            session.ledger.update("surprisal", rows, np.float32(1.5 + np.sin(born)))
        trace.close()
    one, other = (replay(read_trace(tmp_path / name), from_spec(f"sirllm:decay={decay}")) for name in ("one", "other"))
    assert other.as_recorded and other.evictions > 5
    assert one.kept == other.kept
    assert not one.as_recorded


@pytest.mark.parametrize("policy", EVICTING)
def test_other_policies_run_on_the_same_trace(tmp_path: Path, policy: str) -> None:
    session, trace = record(tmp_path / "t.jsonl", "streaming", [])
    talk(session)
    trace.close()
    out = replay(read_trace(tmp_path / "t.jsonl"), from_spec(policy))
    assert out.refused == ""
    assert 0 < out.max_resident <= 96
    assert out.as_recorded == (policy == "streaming")
    # What was rewound counts as never said, also where this policy had let it go before.
    n_decoded = session.stats.tokens_in + session.stats.tokens_out
    n_said = n_decoded - session.stats.rewound - 12 - 10  # markers that were not rewound, and thoughts
    assert sum(out.turns.values()) == n_said
    assert all(out.turns[turn] >= n for moment in out.moments[-1:] for turn, n in moment.resident.items())
    assert {turn for moment in out.moments for turn in moment.resident} <= set(range(session.turn + 1))


def test_a_policy_that_refuses_says_where(tmp_path: Path) -> None:
    session, trace = record(tmp_path / "t.jsonl", "sir", [])
    talk(session)
    trace.close()
    out = replay(read_trace(tmp_path / "t.jsonl"), from_spec("keep-all"))
    assert "the context is full" in out.refused
    assert out.evictions == 0
    whole = replay(read_trace(tmp_path / "t.jsonl"), from_spec("keep-all"), 4096)
    assert whole.refused == "" and len(whole.kept) > 96


def test_changed_terms_are_part_of_the_record(tmp_path: Path) -> None:
    events: list[Eviction] = []
    session, trace = record(tmp_path / "t.jsonl", "sir", events, 160)
    talk(session, 5)
    session.set_budget(110)
    talk(session, 3)
    session.set_policy(from_spec("sirllm:decay=0.8"))
    talk(session, 3)
    session.set_budget(170)
    session.forget(np.array([10, 11, 12]))
    talk(session, 5)
    trace.close()
    again = replay(read_trace(tmp_path / "t.jsonl"))
    assert again.as_recorded
    assert again.kept == set(session.ledger["born"].tolist())
    assert again.policy == "sir -> sirllm:decay=0.8" and again.budget == 170
    fixed = replay(read_trace(tmp_path / "t.jsonl"), from_spec("sir"), 140)
    assert fixed.refused == "" and fixed.max_resident <= 140


def after_an_undo(path: Path) -> Session:
    """Room for a smaller budget is made in a turn before that of the last eviction."""
    session, trace = record(path, "random", [], 140)
    for i in range(5):
        session.begin_turn()
        session.start_message()
        session.feed(words(40, i), "user")
        drain(session)
    session.truncate(4)
    session.set_budget(64)
    trace.close()
    return session


def test_a_smaller_budget_after_an_undo_replays_exactly(tmp_path: Path) -> None:
    session = after_an_undo(tmp_path / "t.jsonl")
    again = replay(read_trace(tmp_path / "t.jsonl"))
    assert again.as_recorded and again.budget == 64
    assert again.kept == set(session.ledger["born"].tolist())


@pytest.mark.parametrize("policy", [None, "streaming", "sirllm", "streaming:n_sink=60"])
def test_turns_that_were_taken_back_are_none_even_if_thinned_before(tmp_path: Path, policy: str | None) -> None:
    session, trace = record(tmp_path / "t.jsonl", "random", [], 140)
    for i in range(6):
        say(session, words(43, i))
    for turn in (6, 5, 4, 3):
        session.truncate(turn)
    assert session.stats.rewound < 3 * 43  # much of it had gone already
    trace.close()
    out = replay(read_trace(tmp_path / "t.jsonl"), policy and from_spec(policy))
    assert out.turns == {1: 43, 2: 43} and set(out.resident) <= {1, 2}


def test_a_turn_of_which_nothing_was_left_is_none_once_its_number_comes_again(tmp_path: Path) -> None:
    session, trace = record(tmp_path / "t.jsonl", "streaming", [], 96)
    for i, n in enumerate((20, 20, 95)):
        say(session, words(n, i))
    session.truncate(3)
    assert 2 not in session.ledger["turn"]
    session.truncate(2)
    say(session, words(30, 9))
    trace.close()
    for policy in (None, from_spec("keep-all")):
        out = replay(read_trace(tmp_path / "t.jsonl"), policy, None if policy is None else 400)
        assert out.turns == {1: 20, 2: 30}
    assert out.resident == {1: 20, 2: 30}


def test_older_turns_outlive_an_undo_and_are_not_read_twice(tmp_path: Path) -> None:
    """Of turn 2 the record held nothing when turn 3 was taken back; the token before that was decoded again."""
    session, trace = record(tmp_path / "t.jsonl", "streaming", [], 96)
    for i, n in enumerate((20, 20, 95)):
        say(session, words(n, i))
    session.truncate(3)
    trace.close()
    own, all_kept = (replay(read_trace(tmp_path / "t.jsonl"), *other) for other in ((), (from_spec("keep-all"), 400)))
    assert own.turns == all_kept.turns == {1: 20, 2: 20}
    assert own.kept == set(session.ledger["born"].tolist()) and own.resident == {1: 4}
    assert all_kept.resident == {1: 20, 2: 20}
    few = replay(read_trace(tmp_path / "t.jsonl"), from_spec("streaming:n_sink=2"))
    assert few.resident == {1: 2}  # not the third sink of the record


def test_a_policy_that_needs_more_cells_than_a_new_budget_has_refuses(tmp_path: Path) -> None:
    session, trace = record(tmp_path / "t.jsonl", "sir", [], 160)
    for i in range(5):
        say(session, words(40, i))
    session.set_budget(64)
    session.set_policy(from_spec("streaming:n_sink=20"))
    say(session, words(40, 9))
    trace.close()
    out = replay(read_trace(tmp_path / "t.jsonl"), from_spec("streaming:n_sink=100"))
    assert "a budget of 64 cells is too small: 100 would be fixed" in out.refused and out.budget == 160
    assert replay(read_trace(tmp_path / "t.jsonl")).as_recorded
    small = replay(read_trace(tmp_path / "t.jsonl"), None, 50)
    assert "a budget of 50 cells is too small: 20 would be fixed" in small.refused


@pytest.mark.parametrize("mark", [(85, 0), (95, 0)])
def test_a_low_water_mark_is_that_of_the_record(tmp_path: Path, mark: tuple[int, int]) -> None:
    """Traces from before it was written had another, under which they come out as they were."""
    trace = Trace(tmp_path / "t.jsonl")
    trace.start(policy="streaming", budget=96, model="toy", scores=ALL)
    session = Session(ToyEngine(), from_spec("streaming"), Budget(96, *mark), also_score=ALL, journal=trace)
    talk(session)
    trace.close()
    records = list(read_trace(tmp_path / "t.jsonl"))
    assert records[0]["kept_percent"] == KEPT_PERCENT == 95
    assert not replay(records).as_recorded
    del records[0]["least_batch"]
    if mark[0] == 85:
        del records[0]["kept_percent"]
    again = replay(records)
    assert again.as_recorded and again.kept == set(session.ledger["born"].tolist())


def test_an_old_trace_without_the_turn_of_a_budget_loads(tmp_path: Path) -> None:
    after_an_undo(tmp_path / "t.jsonl")
    records = list(read_trace(tmp_path / "t.jsonl"))
    (op,) = (op for r in records for op in r.get("ops", []) if op["op"] == "budget")
    del op["turn"]
    assert replay(records).budget == 64


def test_a_cleared_conversation_is_a_part_of_its_own(tmp_path: Path) -> None:
    session, trace = record(tmp_path / "t.jsonl", "sir", [], 160)
    talk(session, 9)
    session.set_budget(110)
    session.set_policy(from_spec("streaming"))
    session.reset()
    talk(session, 7)
    trace.close()
    again = replay(read_trace(tmp_path / "t.jsonl"))
    assert again.as_recorded and (again.part, again.parts) == (2, 2)
    assert (again.policy, again.budget) == ("streaming", 110)
    assert max(again.turns.values()) < 60  # one conversation's turn, not two on one another
    assert sum(again.turns.values()) < session.n_born * 0.7
    assert again.kept == set(session.ledger["born"].tolist())


def test_a_refusal_in_one_part_does_not_end_the_next(tmp_path: Path) -> None:
    session, trace = record(tmp_path / "t.jsonl", "sir", [])
    talk(session)
    session.reset()
    talk(session, 1)
    trace.close()
    last = replay(read_trace(tmp_path / "t.jsonl"), from_spec("keep-all"))
    assert last.refused == "" and last.part == 2


def test_the_part_shown_is_one_in_which_anything_was_said(tmp_path: Path) -> None:
    session, trace = record(tmp_path / "t.jsonl", "sir", [])
    session.reset()  # nothing was said yet: no part
    talk(session)
    session.reset()
    trace.close()
    again = replay(read_trace(tmp_path / "t.jsonl"))
    assert again.as_recorded and (again.part, again.parts) == (1, 2) and again.evictions > 5


def test_a_kill_costs_at_most_the_last_line(tmp_path: Path) -> None:
    events: list[Eviction] = []
    path = tmp_path / "t.jsonl"
    session, trace = record(path, "sir", events)
    talk(session)
    n_before = sum(1 for _ in read_trace(path))
    assert n_before == len(events) + 1
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(path.read_bytes()[:-40])
    assert sum(1 for _ in read_trace(cut)) == n_before - 1
    assert replay(read_trace(cut)).as_recorded
    trace.close()


def test_scores_are_the_very_ones(tmp_path: Path) -> None:
    session, trace = record(tmp_path / "t.jsonl", "sir", [], 200)
    session.begin_turn()
    session.feed(words(50), "user")
    drain(session)
    trace.close()
    ops = [op for r in read_trace(tmp_path / "t.jsonl") for op in r.get("ops", []) if op["op"] == "append"]
    values = [v for op in ops for v in op["columns"]["surprisal"]]
    ours = session.ledger["surprisal"]
    assert values[0] is None and math.isnan(ours[0])
    assert np.array_equal(np.asarray(values[1:], np.float32), ours[1:])


def test_a_full_disk_ends_the_trace_and_not_the_conversation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, trace = record(tmp_path / "t.jsonl", "sir", [])
    assert trace._file is not None
    trace._file.close()
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(trace, "_file", full)
        talk(session)
    trace.close()
    assert session.stats.evictions > 5
    assert "No space left" in caplog.text
    assert caplog.text.count("the trace ends here") == 1


def test_files_that_cannot_be_a_trace_are_refused(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.write_text("mine")
    with pytest.raises(ConfigError, match="exists"):
        Trace(old)
    with pytest.raises(ConfigError, match="No such file"):
        Trace(tmp_path / "no" / "folder")
    assert old.read_text() == "mine"
    for text in ("mine", "{}\n", "[]\n", '{"kind":"start","format":99}\n', "\n"):
        old.write_text(text)
        with pytest.raises(ConfigError, match=r"no trace|format 99"):
            list(read_trace(old))
    with pytest.raises(ConfigError, match="cannot read"):
        list(read_trace(tmp_path / "missing"))
    old.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot read"):
        list(read_trace(old))


@pytest.mark.parametrize("damage", ["ops", "born", "turn", "columns"])
def test_a_damaged_record_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "t.jsonl"
    session, trace = record(path, "sir", [])
    talk(session, 6)
    trace.close()
    lines = path.read_text().splitlines()
    bad = json.loads(lines[1])
    if damage == "columns":
        bad["ops"][0].pop("columns")
    else:
        bad.pop(damage)
    path.write_text("\n".join([lines[0], json.dumps(bad), *lines[2:]]) + "\n")
    with pytest.raises(ConfigError, match="damaged"):
        replay(read_trace(path))


def test_a_score_that_was_not_recorded_is_missed(tmp_path: Path) -> None:
    trace = Trace(tmp_path / "t")
    trace.start(policy="sir", budget=64, model="toy", scores=frozenset({"surprisal"}))
    trace.close()
    with pytest.raises(ConfigError, match="needs entropy"):
        replay(read_trace(tmp_path / "t"), from_spec("entropy"))


# ---- what comes back -----------------------------------------------------------------------------


def talk_and_recall(session: Session) -> int:
    """A conversation in which passages are saved, displaced for others, and come back; returns how many tokens did."""
    archive, n_back = [], 0
    for i in range(16):
        session.begin_turn(8)
        session.start_message()
        if i > 3:
            saved = archive[i % 3]
            rows = np.flatnonzero(~np.isin(saved.columns["born"], session.ledger["born"]))[:12]
            loose = np.flatnonzero((session.ledger["turn"] < session.turn - 2) & (np.arange(len(session.ledger)) >= 4))
            session.evict(EvictionPlan(loose[: len(rows)], session.ledger.epoch, "displaced"))
            n_back += session.restore(saved, rows, place="last" if i == 9 else "own")
        session.feed(words(15 + 7 * (i % 3), i), "user")
        drain(session, 16)
        archive.append(session.save_rows(np.flatnonzero(session.ledger["turn"] == session.turn)))
        if i == 10:
            session.rewind(4)
        if i == 12:
            session.truncate(12)
    return n_back


@pytest.mark.parametrize("positions", ["packed", "gaps"])
@pytest.mark.parametrize("policy", ["sir", "sirllm", "streaming", "units"])
def test_what_came_back_comes_back_in_the_replay(tmp_path: Path, policy: str, positions: Any) -> None:
    session, trace = record(tmp_path / "t.jsonl", policy, [], positions=positions)
    n_back = talk_and_recall(session)
    trace.close()
    again = replay(read_trace(tmp_path / "t.jsonl"))
    assert n_back == session.stats.restored > 50
    assert again.as_recorded and again.refused == ""
    assert again.kept == set(session.ledger["born"].tolist())
    assert again.max_resident <= 96


@pytest.mark.parametrize("policy", EVICTING)
def test_other_policies_make_room_for_what_came_back(tmp_path: Path, policy: str) -> None:
    session, trace = record(tmp_path / "t.jsonl", "streaming", [])
    talk_and_recall(session)
    trace.close()
    for budget in (None, 60, 300):
        out = replay(read_trace(tmp_path / "t.jsonl"), from_spec(policy), budget)
        assert out.refused == "" and 0 < out.max_resident <= (budget or 96)


def test_what_is_forgotten_is_blanked_in_what_came_back(tmp_path: Path) -> None:
    session, trace = record(tmp_path / "t.jsonl", "streaming", [])
    talk_and_recall(session)
    trace.forgotten(np.arange(0, 60))
    trace.close()
    ops = [op for line in read_trace(tmp_path / "t.jsonl") for op in line.get("ops", ())]
    restored = [op for op in ops if op["op"] == "restore"]
    born = [b for op in restored for b in op["columns"]["born"]]
    token = [t for op in restored for t in op["columns"]["token"]]
    assert min(born) < 60 <= max(born)
    assert all((t == -1) == (b < 60) for b, t in zip(born, token, strict=True))
