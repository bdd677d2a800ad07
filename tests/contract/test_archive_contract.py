"""An archive outlives its process: its pieces in a session that goes on from a snapshot, with cells and without."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from engines import ALL, Kind, apart, kind_of
from tiny_gguf import CHATML

from edge_sir.core.budget import Budget
from edge_sir.engine import Engine
from edge_sir.memory.transcript import Transcript
from edge_sir.policies import from_spec
from edge_sir.recall.archive import Archive, Disk
from edge_sir.recall.recall import Recall
from edge_sir.recall.store import ByteStore
from edge_sir.session import Session, SessionState
from edge_sir.testing import ByteTokenizer
from edge_sir.text.encoder import MessageEncoder
from edge_sir.text.reply import Recalled
from edge_sir.text.template import ChatTemplate

FACT = "Ottilie keeps bees in Bergen."
QUESTION = "What does Ottilie keep, and where?"
BUDGET = 192
BOUND = 1 << 30


@pytest.fixture(params=ALL)
def kind(request: pytest.FixtureRequest) -> Kind:
    return kind_of(request)


@dataclass
class Told:
    """A session that was told a fact, and what a record on disk would hold of its archive."""

    kind: Kind
    positions: Any
    transcript: Transcript = field(default_factory=Transcript)
    pieces: dict[int, bytes] = field(default_factory=dict)
    disk: dict[int, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        engine = self.kind.make()
        self.codec = getattr(engine, "text", None) or ByteTokenizer()
        self.encoder = MessageEncoder(self.codec, ChatTemplate(CHATML, bos="", eos=""), None)
        self.session = Session(engine, from_spec("streaming"), Budget(BUDGET), positions=self.positions)
        self.archive = Archive(self.session, ByteStore(BOUND))
        self.archive.watch()
        for day in range(60):
            self.say(FACT if day == 1 else f"On day {day} it rained, and nothing happened in the garden.")
            self.save()
            if day > 1 and 2 not in self.session.ledger["turn"]:
                break
        self.state, self.cells = self.session.snapshot()

    def say(self, text: str) -> None:
        self.transcript.add(self.session.turn + 1, "user", text, self.feed(self.session, text))
        drain(self.session)

    def feed(self, session: Session, text: str) -> int:
        session.begin_turn()
        number = session.start_message()
        for role, tokens in self.encoder.message("user", text, first=False):
            session.feed(tokens, role)
        return number

    def save(self) -> None:
        changes = self.archive.take_changes()
        self.pieces |= {number: piece.dump() for number, piece in changes.pieces.items()}
        self.disk |= {number: cells for number in changes.new_cells if (cells := self.archive.cells(number))}
        for number in changes.lost_cells:  # said again on a later day
            del self.disk[number]

    def resumed(self, disk: Disk | None) -> tuple[Session, Archive]:
        engine: Engine = self.kind.make()
        engine.load(0, self.cells)
        state = SessionState.load(self.state.dump())
        session = Session.from_state(state, engine, from_spec("streaming"), Budget(BUDGET))
        archive = Archive(session, ByteStore(BOUND), disk=disk)
        archive.load(self.pieces)
        return session, archive

    def ask(self, session: Session, archive: Archive) -> tuple[Recalled, ...]:
        self.feed(session, QUESTION)
        found = Recall(session, self.codec, self.transcript, archive).begin(QUESTION, self.encoder)
        drain(session)
        return found


def drain(session: Session) -> None:
    while session.step():
        pass


@pytest.fixture(params=["packed", "gaps"])
def told(kind: Kind, request: pytest.FixtureRequest) -> Iterator[Told]:
    if request.param == "packed" and kind.name == "tiny_gemma3":
        pytest.skip("its keys cannot move")
    yield Told(kind, request.param)


def test_cells_on_disk_come_back_as_those_in_memory_do(told: Told) -> None:
    session, archive = told.resumed(told.disk)
    assert archive.holds(np.concatenate([piece.born for piece in archive])).all() and archive._store.n_bytes == 0
    before, after = told.ask(told.session, told.archive), told.ask(session, archive)
    assert before == after and "bees in Bergen" in after[0].text
    for name, column in told.session.ledger.columns().items():
        np.testing.assert_array_equal(session.ledger[name], column, err_msg=name)
    assert session.ledger["recalled"].any() and archive._store.n_bytes > 0
    assert apart(session.last_logits, told.session.last_logits) == 0


def test_without_them_its_text_is_read_again(told: Told) -> None:
    session, archive = told.resumed(None)
    assert not archive.holds(np.concatenate([piece.born for piece in archive])).any()
    (found,) = told.ask(session, archive)
    assert found.turn == 2 and "bees in Bergen" in found.text
    born = session.ledger["born"][session.ledger["recalled"]]
    assert len(born) == found.n_tokens and born.min() > told.session.n_born - 1


def test_damaged_cells_count_as_none_from_then_on(told: Told) -> None:
    class Damaged(dict[int, bytes]):
        n_read = 0

        def get(self, number: int, default: Any = None) -> None:
            self.n_read += 1

    disk = Damaged(told.disk)
    session, archive = told.resumed(disk)
    archive.watch()
    wanted = [piece.number for piece in archive.of_turn(2)]
    assert archive.holds(archive.of_turn(2)[0].born).all()
    (found,) = told.ask(session, archive)
    assert "bees in Bergen" in found.text and disk.n_read == len(wanted)
    assert not archive.holds(archive.of_turn(2)[0].born).any()
    assert list(archive.take_changes().lost_cells) == wanted
    archive.cells_of(archive.of_turn(2)[0])
    assert disk.n_read == len(wanted)
