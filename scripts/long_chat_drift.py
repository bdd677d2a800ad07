"""How far keys have moved from what they were: rounding by K-shifts, by saving and restoring, over a long chat.

Cells are saved at some turns and compared with the same cells later: the saved ones are put into an empty context, at
the places that the others have by then, which rotates them once.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from long_chat_play import Settings
from long_chat_talk import Scenario, lay_out
from numpy.typing import NDArray

import edge_sir
from edge_sir.chat import Chat
from edge_sir.core.plan import EvictionPlan
from edge_sir.engine import Engine, Slice
from edge_sir.llama.engine import cells_of
from edge_sir.session import SavedRows, Session

__all__ = ["drift"]

Row = dict[str, Any]
Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

_N_CHECKS = 8
_LAST = (16, 8, 4)  # turns before the end; of what is older little is resident
_REPLY = 4  # tokens; what is said does not matter here
_N_CYCLES = (1, 10, 100)
_PROBE = "And what did I say about that?"


def drift(
    folder: Path, scenario: Scenario, settings: Settings, seed: int, *, say: Callable[[str], None] = print
) -> list[Row]:
    """Plays the conversation with recall of cells, then recalls and restores often; writes and returns the rows."""
    terms = {"threads": settings.threads, "quiet": True}
    with edge_sir.load(settings.model, **terms) as model:
        chat = model.chat(
            budget=settings.budget,
            policy="sir",
            recall="cells",
            system=scenario.system,
            max_tokens=_REPLY,
            temperature=0,
        )
        fresh = model.open_engine(settings.budget)
        texts = [said.text for said in lay_out(scenario, settings.turns, seed)]
        rows = [*_over_the_run(chat, fresh, texts, say)]
        say("recalling many times")
        rows += _over_recalls(chat)
        rows += _over_restores(chat)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "drift.jsonl").write_text(text, encoding="utf-8")
    return rows


# ---- over the run ------------------------------------------------------------------------------------


class _Snapshot:
    """All that is resident, with its cells, and after how many K-shifts."""

    def __init__(self, chat: Chat) -> None:
        self.turn = chat.session.turn
        self.saved = _all(chat.session)
        self.kshifts = chat.session.stats.kshifts


def _over_the_run(chat: Chat, fresh: Engine, texts: Sequence[str], say: Callable[[str], None]) -> Iterator[Row]:
    snapshots: list[_Snapshot] = []
    n = len(texts)
    checks = {*range(0, n, max(1, n // _N_CHECKS)), *(n - before for before in _LAST)}
    for i, text in enumerate(texts, 1):
        chat.reply(text)
        if i in checks:
            say(f"drift, turn {i} of {n}")
            snapshots.append(_Snapshot(chat))
    # The context has no cell beyond the budget, and a probe takes some.
    chat.set_budget(chat.session.budget.n_cells - 2 * len(chat.codec.encode(_PROBE, special=False)))
    now = _Snapshot(chat)
    if n_opening := int((now.saved.columns["turn"] == 0).sum()):
        yield _of_the_opening(fresh, now, n_opening)
    for before in snapshots:
        yield _compared(f"of turn {before.turn}, at turn {now.turn}", fresh, before.saved, now, before.kshifts)
    yield _logits(chat, fresh, snapshots, now)


def _of_the_opening(fresh: Engine, now: _Snapshot, n: int) -> Row:
    """The pinned opening of `n` tokens beside the same tokens decoded anew."""
    fresh.remove(0, 0, -1)
    fresh.decode([Slice(0, now.saved.columns["token"][:n].copy(), 0, np.full(n, -1, np.int32))])
    anew = _keys(fresh.save(0, 0, n))
    return _row("the opening, decoded anew", anew, _keys(now.saved.cells)[:n], now.kshifts)


def _compared(what: str, fresh: Engine, before: SavedRows, now: "_Snapshot", kshifts: int) -> Row:
    """Cells that were there before and are there now, those before rotated once."""
    old, new = _in_both(before, now.saved)
    reference = _rotated(fresh, before, old, now.saved.columns["pos"][new])
    return _row(what, reference, _keys(now.saved.cells)[new], now.kshifts - kshifts)


def _in_both(before: SavedRows, now: SavedRows) -> tuple[Ints, Ints]:
    """Rows of each that the other has, too, but for the opening, which never moves."""
    _, old, new = np.intersect1d(before.columns["born"], now.columns["born"], return_indices=True)
    moves = before.columns["turn"][old] > 0
    return old[moves], new[moves]


def _rotated(fresh: Engine, saved: SavedRows, rows: Ints, places: NDArray[Any]) -> Floats:
    """The keys of saved rows at other places, in an empty context."""
    if not len(rows):
        return np.empty((0, 0))
    fresh.remove(0, 0, -1)
    fresh.restore(0, saved.cells, saved.columns["pos"][rows], places)
    return _keys(fresh.save(0, int(places[0]), int(places[-1]) + 1))


def _logits(chat: Chat, fresh: Engine, snapshots: Sequence[_Snapshot], now: _Snapshot) -> Row:
    """What comes next, beside the same rows each as first saved and rotated once."""
    session, columns = chat.session, now.saved.columns
    fresh.remove(0, 0, -1)
    left = np.ones(len(now.saved), bool)
    for one in [*snapshots, now]:
        _, old, new = np.intersect1d(one.saved.columns["born"], columns["born"], return_indices=True)
        old, new = old[left[new]], new[left[new]]
        if len(new):
            fresh.restore(0, one.saved.cells, one.saved.columns["pos"][old], columns["pos"][new])
        left[new] = False
    probe = chat.codec.encode(_PROBE, special=False)
    ours, theirs = (_next(engine, seq, probe, session.ledger.next_pos) for engine, seq in _both(session, fresh))
    reference = _keys(fresh.save(0, 0, int(columns["pos"][-1]) + 1))
    found = _row(f"all, each as first saved, at turn {now.turn}", reference, _keys(now.saved.cells), now.kshifts)
    return found | _apart(theirs, ours)


def _both(session: Session, fresh: Engine) -> tuple[tuple[Engine, int], tuple[Engine, int]]:
    return (session.engine, session.seq), (fresh, 0)


def _next(engine: Engine, seq: int, probe: NDArray[np.int32], at: int) -> Floats:
    """The logits behind `probe`, which is taken back."""
    result = engine.decode([Slice(seq, probe.copy(), at, np.full(len(probe), -1, np.int32), logits=True)])[0]
    engine.remove(seq, at, -1)
    assert result.logits is not None
    return np.asarray(result.logits, np.float64)


# ---- over many recalls and restores ------------------------------------------------------------------


def _over_recalls(chat: Chat) -> Iterator[Row]:
    """Turns that recall a passage and are taken back: what they displace returns, what moved up moves back."""
    session, codec = chat.session, chat.codec
    passage = _evicted_passage(session)
    probe = codec.encode(_PROBE, special=False)
    _recalling_turn(session, passage, probe)  # makes the room that the others need
    base, kshifts, logits = _all(session), session.stats.kshifts, session.last_logits.astype(np.float64)
    for n in range(1, _N_CYCLES[-1] + 1):
        _recalling_turn(session, passage, probe)
        if n in _N_CYCLES:
            now = _all(session)
            assert np.array_equal(now.columns["born"], base.columns["born"])
            found = _row(
                f"after {n} recalling turn(s)",
                _keys(base.cells)[:-1],
                _keys(now.cells)[:-1],
                session.stats.kshifts - kshifts,
            )
            yield found | _apart(logits, session.last_logits.astype(np.float64))


def _evicted_passage(session: Session) -> SavedRows:
    """Rows of the middle, saved and evicted: an eighth of what is resident."""
    n = len(session.ledger)
    rows = np.arange(n // 2, n // 2 + n // 8)
    saved = session.save_rows(rows)
    _evict(session, rows)
    return saved


def _recalling_turn(session: Session, passage: SavedRows, probe: NDArray[np.int32]) -> None:
    turn = session.begin_turn()
    session.start_message()
    session.feed(probe, "user")
    session.recall([(passage, np.arange(len(passage)))])
    while session.step():
        pass
    session.end_recall()
    session.truncate(turn)


def _over_restores(chat: Chat) -> Iterator[Row]:
    """A passage that is saved, evicted, and restored among others than before, again and again from its last save."""
    session = chat.session
    n = len(session.ledger)
    first, size = n // 2, n // 8
    base, kshifts = session.save_rows(np.arange(first, first + size)), session.stats.kshifts
    for i in range(1, _N_CYCLES[-1] + 1):
        _restored_among_others(session, base, size)
        if i in _N_CYCLES:
            now = session.save_rows(_rows_of(session, base))
            found = _row(f"a passage, saved and restored {i} time(s)", _keys(base.cells), _keys(now.cells), 0)
            yield found | {"kshifts": session.stats.kshifts - kshifts}


def _restored_among_others(session: Session, passage: SavedRows, size: int) -> None:
    """The passage comes back while a few rows before it are away, so that its keys are rotated, and back with those."""
    rows = _rows_of(session, passage)
    before = np.arange(rows[0] - max(1, size // 4), rows[0])
    saved, others = session.save_rows(rows), session.save_rows(before)
    _evict(session, np.concatenate([before, rows]))
    _rotate_now(session)
    session.restore(saved)
    _rotate_now(session)
    session.restore(others)
    _rotate_now(session)


def _rows_of(session: Session, saved: SavedRows) -> Ints:
    return np.flatnonzero(np.isin(session.ledger["born"], saved.columns["born"]))


def _rotate_now(session: Session) -> None:
    session.engine.flush(session.seq)


def _evict(session: Session, rows: Ints) -> None:
    session.evict(EvictionPlan(rows, session.ledger.epoch, "room"))


# ---- keys --------------------------------------------------------------------------------------------


def _all(session: Session) -> SavedRows:
    return session.save_rows(np.arange(len(session.ledger)))


def _keys(cells: bytes) -> Floats:
    """The keys of saved cells by position, all layers beside each other, [n_cells, n]."""
    layers = cells_of(cells).keys()
    return np.concatenate([layer.view(np.float16) for layer in layers], axis=1).astype(np.float64)


def _row(what: str, reference: Floats, keys: Floats, kshifts: int) -> Row:
    """How far keys are from others, both [n_cells, n]."""
    if not len(keys):
        return {"what": what, "n": 0, "kshifts": kshifts, "mean": None, "max": None}
    apart = np.linalg.norm(keys - reference, axis=1) / np.linalg.norm(reference, axis=1)
    return {"what": what, "n": len(keys), "kshifts": kshifts, "mean": float(apart.mean()), "max": float(apart.max())}


def _apart(reference: Floats, logits: Floats) -> Row:
    """KL divergence in nats from what should come next, and the largest difference of a logit."""
    p, q = (values - values.max() - np.log(np.exp(values - values.max()).sum()) for values in (reference, logits))
    return {"kl": float((np.exp(p) * (p - q)).sum()), "logit": float(np.abs(reference - logits).max())}
