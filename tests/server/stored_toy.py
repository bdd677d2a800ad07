"""Conversations that are stored, on the toy engine, and a client that says what it likes of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from serving import serving

from edge_sir.engine import Engine
from edge_sir.options import Options
from edge_sir.server.app import Served, Settings
from edge_sir.server.loaded import CAN, Loaded
from edge_sir.server.manager import Manager
from edge_sir.server.stored_conversations import StoredConversations
from edge_sir.store.folder import StateFolder
from edge_sir.testing import ByteTokenizer, ToyEngine
from edge_sir.text.template import ChatTemplate

CODEC = ByteTokenizer()
TEMPLATE = ChatTemplate(CODEC.CHAT_TEMPLATE, bos=CODEC.bos_text, eos=CODEC.eos_text)
END = 256 + CODEC.SPECIALS.index("<|im_end|>")


class ToyModels:
    """A host whose engines say the same script. made, n_closed: engines so far. seed: another is another model."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.made: list[ToyEngine] = []
        self.script: list[int] = []
        self.n_closed = 0

    def open_engine(self, n_cells: int) -> ToyEngine:
        engine = ToyEngine(n_cells, n_seq_max=1, seed=self.seed)
        engine.script = self.script
        self.made.append(engine)
        return engine

    def release(self, engine: Engine) -> None:
        self.n_closed += 1
        engine.close()

    def says(self, *replies: str) -> None:
        self.script[:] = [t for reply in replies for t in [*CODEC.encode(reply, special=True).tolist(), END]]


def n_tokens(text: str) -> int:
    return len(CODEC.encode(text, special=True))


OPENING = "<|im_start|>assistant\n"
CLOSE = "<|im_end|>\n"


def asking(text: str) -> int:
    """Tokens that are read for a user's message and its reply."""
    return n_tokens(f"<|im_start|>user\n{text}{CLOSE}{OPENING}{CLOSE}")


def said_tokens(role: str, text: str) -> int:
    """Tokens that are read for a whole message."""
    return n_tokens(f"<|im_start|>{role}\n{text}{CLOSE}")


ANSWERING = n_tokens(OPENING + CLOSE)
"""Tokens that are read for a reply alone."""


def loaded(models: ToyModels) -> Loaded:
    fingerprint = ToyEngine(256, seed=models.seed).spec.fingerprint
    return Loaded(models, CODEC, TEMPLATE, fingerprint, "toy", {"model": "toy"}, n_vocab=CODEC.n_vocab)


def conversations(path: Path, models: ToyModels, n_live: int = 4, **options: Any) -> StoredConversations:
    given = {"budget": 2048, "policy": "sir", "temperature": 0.0, "max_tokens": 200} | options
    folder = StateFolder(path)
    with folder.database.alone() as connection:
        connection.execute("PRAGMA synchronous = OFF")  # nobody pulls a plug here
    return StoredConversations(loaded(models), folder, Options(**given), n_live)


@dataclass(frozen=True)
class Answer:
    status: int
    match: str
    session: str
    text: str
    read: int
    held: int
    document: dict[str, Any]


@dataclass
class Client:
    """Sends whole histories. texts alternate between user and assistant."""

    url: str
    models: ToyModels
    home: StoredConversations
    headers: dict[str, str] = field(default_factory=dict)

    def send(self, messages: Sequence[Any], reply: str | Sequence[str] | None = None, **body: Any) -> Answer:
        """One request. reply: what the model is to say, several for several choices."""
        if reply is not None:
            self.models.says(*([reply] if isinstance(reply, str) else reply))
        headers = self.headers | body.pop("headers", {})
        answer = httpx.post(
            f"{self.url}/v1/chat/completions", json={"messages": list(messages)} | body, headers=headers, timeout=30
        )
        return answer_of(answer)

    def ask(self, *texts: str, reply: str | Sequence[str] | None = None, system: str = "", **body: Any) -> Answer:
        return self.send(history(*texts, system=system), reply, **body)

    def said(self, session: str) -> list[str]:
        """What a session holds on disk, in order."""
        info = self.home._folder.find(session)
        assert info is not None
        return [row.message.text for row in self.home._folder.open(session, read_only=True).read().path]


def history(*texts: str, system: str = "") -> list[dict[str, str]]:
    head = [{"role": "system", "content": system}] if system else []
    return head + [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


def answer_of(answer: httpx.Response) -> Answer:
    document = answer.json()
    if answer.status_code != 200:
        return Answer(answer.status_code, "", "", document["error"]["message"], 0, 0, document)
    details = document["usage"]["prompt_tokens_details"]
    return Answer(
        200,
        answer.headers["x-edge-sir-match"],
        answer.headers["x-edge-sir-session"],
        document["choices"][0]["message"]["content"],
        details["cache_write_tokens"],
        details["cached_tokens"],
        document,
    )


@contextmanager
def talking(
    path: Path, n_live: int = 4, settings: Settings | None = None, seed_of_model: int = 0, **options: Any
) -> Iterator[Client]:
    """A server on the toy, and a client of it."""
    models = ToyModels(seed_of_model)
    home = conversations(path, models, n_live, **options)
    served = Served("toy", home._loaded.fingerprint, 1_700_000_000, CAN)
    with serving(home, settings, served, Manager(home, served.fingerprint)) as url:
        yield Client(url, models, home)
