"""What tests of the store make records and folders from."""

from pathlib import Path

from edge_sir.core.sealed import seal
from edge_sir.memory.transcript import Message
from edge_sir.store.folder import StateFolder
from edge_sir.store.session import SessionStore
from edge_sir.store.values import Record, Snapshot, Stored


def new_session(path: Path, name: str = "ada") -> tuple[StateFolder, SessionStore]:
    """A folder and an open session in it."""
    folder = StateFolder(path)
    return folder, folder.create(name, model="toy", fingerprint="f", options={"budget": 512})


def turn(number: int, n_kept: int, *texts: str) -> Record:
    """A turn's record: user and assistant say these texts one after the other."""
    roles = ("user", "assistant")
    messages = tuple(Message(number, roles[i % 2], text, 10 * number + i) for i, text in enumerate(texts))
    return Record(n_kept, messages, b"changes %d" % number, {"turn": number}, number, entries=(b"entry %d" % number,))


def snapshot(record: int, size: int = 3000) -> Snapshot:
    """Two parts, one of them sealed."""
    return Snapshot(record, "f", (seal("cells", {}, bytes([record % 251]) * size), b"state %d" % record))


def texts(stored: Stored) -> list[str]:
    """The texts of the present path."""
    return [message.message.text for message in stored.path]


def on_disk(path: Path, needle: bytes) -> list[str]:
    """Names of the files below a folder that hold these bytes."""
    return sorted(str(f.relative_to(path)) for f in path.rglob("*") if f.is_file() and needle in f.read_bytes())
