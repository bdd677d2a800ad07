"""Random walks of a chat that recalls (`recall_walks`) and is saved as it goes on.

At any moment a second chat goes on from what is on disk: beside the first one, which lives and has its folder open, or
in place of it, as if its process had died there. It must be where the first one was when that was last saved, and say
the same next. Then the walk goes on with either.
"""

import random
import signal
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

from chatting import ToyHost
from keeping import copied, die, open_kept, picture, same_picture
from recall_walks import PoisonedWalkError, RecallWalk
from traces import traces
from walks import NAMES, POLICIES, THINGS, VERBS, check_cells

from edge_sir.chat import Chat
from edge_sir.engine import SamplingParams
from edge_sir.errors import BudgetError
from edge_sir.recall.store import ByteStore
from edge_sir.store.values import Record, Snapshot
from edge_sir.testing import ToyEngine
from edge_sir.text.reply import Reply

__all__ = ["KeptWalk", "walk_kept"]

GREEDY = SamplingParams(temperature=0, repeat_penalty=1.3)


class KeptWalk(RecallWalk):
    """One walk. path: of the state folder. made: with what else the chat was opened. counts: what was tried.

    stores: where archives keep cells; those of chats that are opened from now on in the last one.
    """

    def __init__(
        self, seed: int, chat: Chat, system: str | None, path: Path, made: dict[str, Any], stores: list[ByteStore]
    ) -> None:
        super().__init__(seed, chat, system, stores[-1])
        self.counts: Counter[str] = Counter()
        self.stores = stores
        self.path, self.made = path, made
        self.dice = random.Random(seed + 1)  # of its own, so that the walk is the one of its seed
        self.saved: dict[str, Any] | None = None  # the picture as of the last record
        self.n_folders = 0
        self.engines: list[ToyEngine] = []
        self.adopt(chat)

    def adopt(self, chat: Chat) -> None:
        """Goes on with this chat; of each record that it writes there is a picture."""
        self.chat, self.store = chat, self.stores[-1]
        saver = chat._saver
        assert saver is not None
        write = saver.store.write

        def noted(record: Record, snapshot: Snapshot | None = None, also: Any = None) -> int:
            number = write(record, snapshot, also)
            self.saved = picture(chat)
            self.counts["records"] += 1
            return number

        saver.store.write = noted  # type: ignore[method-assign]
        self.saved = picture(chat)

    # ---- steps -------------------------------------------------------------------------------------

    def do_snapshot(self) -> None:
        self.chat.snapshot()

    def do_look(self) -> None:
        """A second process reads what is there while the first one has it."""
        self.counts["looked"] += 1
        with self.opened(self.path, read_only=True) as other:
            self.agree(other)
            self.say_the_same(other)

    def do_look_later(self) -> None:
        """A copy of the folder, of which snapshots are missing or damaged."""
        path = self.copy()
        self.damage(path)
        with self.opened(path) as other:
            self.agree(other)
            self.say_the_same(other)
            if self.tried(lambda: other.reply("Mind that.", max_tokens=5)) is None:
                other.undo()
            now = picture(other)
        with self.opened(path) as another:
            assert another._saver.going_on.how == "exact"  # type: ignore[union-attr]
            same_picture(picture(another), now, self.of_process(another))

    do_look_again = do_look_later

    def do_die(self) -> None:
        """The process dies here, in mid-reply or not, and the walk goes on in the next one."""
        self.counts["died"] += 1
        self.begin_process(self.path)

    do_die_again = do_die

    def do_die_rebuilt(self) -> None:
        """It dies, and its snapshots are lost."""
        path = self.copy()
        self.damage(path)
        self.begin_process(path)

    def do_close(self) -> None:
        """The chat is closed, and the next one has a snapshot of all of it, unless a reply was open."""
        is_open = self.stream is not None and self.dice.random() < 0.5
        if self.stream is not None and not is_open:
            self.stream.close()
            self.settle()
        assert self.chat._saver is not None
        if self.chat._saver._is_nothing():  # of which nothing is kept
            return
        self.chat.close()
        other = self.reopened(self.path)
        self.agree(other)
        assert is_open or other._saver.going_on.how == "exact"  # type: ignore[union-attr]
        self.go_on_with(other)

    def broken(self, breaks: Callable[[ToyEngine, str, int], Any], call: str) -> None:
        try:
            super().broken(breaks, call)
        except PoisonedWalkError:  # whoever begins anew goes on
            self.counts["poisoned"] += 1
            self.begin_process(self.path)

    def do_forget_everywhere(self) -> None:
        """Words, wherever they were said, unless a system prompt in force says them."""
        words = f"{self.rng.choice(NAMES)} {self.rng.choice(VERBS)}"
        error = self.tried(lambda: self.chat.forget(words))
        self.settle()
        self.twin.forget_words(words)
        if error is None and not any(words in text for _, _, text in self.twin.said):
            self.counts["forgot"] += 1
            left = traces(self.path, words, list(words.encode()))
            left = [where for where in left if not where.startswith("index")]  # other words have three of its letters
            assert left == [], f"{words} stands {left}"

    # ---- processes ---------------------------------------------------------------------------------

    def copy(self) -> Path:
        self.n_folders += 1
        return copied(self.path, self.path.parent / f"copy{self.n_folders}")

    def damage(self, path: Path) -> None:
        """Something happens to snapshots, or nothing."""
        kind = self.dice.choice(("none", "newest", "all", "unlisted"))
        files = sorted((path / "snapshots").iterdir(), key=lambda file: int(file.name.split("-")[1]))
        if kind == "unlisted":
            with suppress(sqlite3.Error), sqlite3.connect(path / "edge-sir.db") as database:
                database.execute("DELETE FROM snapshots")
            database.close()
        for file in {"newest": files[-1:], "all": files}.get(kind, []):
            if self.dice.random() < 0.5:
                file.unlink()
            else:
                data = bytearray(file.read_bytes())
                data[self.dice.randrange(len(data))] ^= 1 << self.dice.randrange(8)
                file.write_bytes(data)

    def engine(self) -> ToyEngine:
        spec = self.chat.session.engine.spec
        cells = {"n_ctx_train": spec.n_ctx_train, "can_pack": spec.can_pack, "can_restore": spec.can_restore}
        return ToyEngine(640, n_batch=spec.n_batch, **cells)  # type: ignore[arg-type]

    def reopened(self, path: Path, **options: Any) -> Chat:
        self.stores.append(ByteStore(self.store.bound))  # a process has one
        return open_kept(path, self.engine(), **self.made | options)

    @contextmanager
    def opened(self, path: Path, **options: Any) -> Iterator[Chat]:
        with self.reopened(path, **options) as other:
            yield other

    def begin_process(self, path: Path) -> None:
        die(self.chat)
        other = self.reopened(path)
        self.agree(other)
        self.path = path
        self.go_on_with(other)

    def go_on_with(self, other: Chat) -> None:
        self.stream = None
        self.adopt(other)
        if other.awaits:
            if self.dice.random() < 0.5:
                self.counts["answered"] += 1
                max_tokens = self.write()
                if self.tried(lambda: list(other.regenerate(max_tokens=max_tokens))) is not None and other.awaits:
                    other.undo()
            else:
                other.undo()
        self.follow()

    # ---- what must agree -----------------------------------------------------------------------------

    def of_process(self, other: Chat) -> tuple[str, ...]:
        """What a process that went on has not."""
        on_disk = self.made["on_disk"] and other.session.engine.spec.can_restore
        return () if on_disk else ("held",)

    def agree(self, other: Chat) -> None:
        """The other chat is where this one was when it was last saved."""
        saver = other._saver
        assert saver is not None and saver.going_on is not None and self.saved is not None
        how, now = saver.going_on.how, picture(other)
        self.counts[how] += 1
        self.counts["left out"] += saver.going_on.n_left_out > 0
        but = ["unsent", *self.of_process(other)]
        if how == "rebuilt":
            but += ["ledger.pos", "scalars", "terms", "stats"]
            terms, then = list(now["terms"]), list(self.saved["terms"])
            assert terms[:3] == then[:3] and terms[4:] == then[4:], f"{terms} != {then}"
        same_picture(now, self.saved, tuple(but))
        check_cells(other.session)
        self.same_unsent(other)

    def same_unsent(self, other: Chat) -> None:
        """What the user said is in the transcript or waits, and nothing of it is there twice."""
        mine = [m.text for m in self.chat.transcript if m.role == "user"] + list(self.chat._unsent)
        there = [m.text for m in other.transcript if m.role == "user"] + list(other._unsent)
        missing = Counter(mine) - Counter(there)
        assert not missing, f"what the user said is lost: {missing}; there is {there}"
        turn = self.chat._turn
        if not self.chat.session._poison and (turn is None or not turn.is_under_way):
            assert Counter(there) == Counter(mine), f"{there}\n!= {mine}"

    def say_the_same(self, other: Chat) -> None:
        """Both answer alike; then it is taken back."""
        chat, going_on = self.chat, other._saver.going_on  # type: ignore[union-attr]
        if self.stream is not None or chat.awaits or going_on is None:
            return
        turn = chat._turn
        assert turn is None or not turn.is_under_way
        is_on_disk = not self.of_process(other)
        text = f"What of {self.dice.choice(NAMES)} and the {self.dice.choice(THINGS)}?" if is_on_disk else "Hm?"
        replies = []
        for each in (chat, other):
            assert isinstance(each.engine, ToyEngine)
            each.engine.script.clear()
            replies.append(self.answer(each, text))
        left, right = replies
        if isinstance(left, str) or isinstance(right, str):
            assert left == right
            return
        is_same_place = going_on.how != "rebuilt" and not going_on.n_left_out
        if is_same_place:
            assert (left.text, left.evicted, left.recalled) == (right.text, right.evicted, right.recalled)
            mine, others = picture(chat), picture(other)
            for name, column in mine["ledger"].items():
                if column.dtype.kind != "f":
                    assert column.tolist() == others["ledger"][name].tolist(), name
            assert mine["away"] == others["away"]
            self.counts["said the same"] += 1
        assert chat.undo().n_tokens and other.undo().n_tokens
        # Of a small store another part is free: what left memory in this turn is not on disk.
        if is_same_place and is_on_disk and self.store.bound in (0, 1 << 30):
            mine, others = picture(chat), picture(other)
            assert mine["ledger"]["born"].tolist() == others["ledger"]["born"].tolist()
            assert mine["held"] == others["held"] and mine["away"] == others["away"]

    @staticmethod
    def answer(chat: Chat, text: str) -> Reply | str:
        """The reply, or why there is none."""
        try:
            return chat.reply(text, sampling=GREEDY, max_tokens=10)
        except BudgetError as error:  # keep-all has no room left
            return str(error)

    def check_archive(self) -> None:
        if not self.made["on_disk"]:
            super().check_archive()
            return
        pieces = list(self.archive)
        assert sum(self.store.size(piece.key) for piece in pieces) == self.store.n_bytes <= self.store.bound
        if self.stream is not None:  # blobs leave with the record that says so
            return
        for piece in pieces:
            assert not (piece.is_text and piece.number in self.archive.disk), "cells of a text are on disk"

    def check(self) -> None:
        super().check()
        assert not self.chat._saver.problem  # type: ignore[union-attr]
        turn = self.chat._turn
        if turn is None or not turn.is_under_way:
            assert self.saved is not None
            now = picture(self.chat)
            same_picture(now, self.saved, ("held", "unsent"))  # all that there is has been saved


def walk_kept(seed: int, folder: Path) -> Counter[str]:
    """One walk on the toy, in the main thread, where signals arrive; returns what was tried."""
    rng = random.Random(seed)
    system = rng.choice((None, "Be kind to all."))
    host = ToyHost()
    host.release = lambda engine: None  # type: ignore[method-assign]
    made: dict[str, Any] = {"policy": rng.choice(POLICIES), "budget": rng.choice((64, 96, 160, 240)), "system": system}
    made |= {"positions": rng.choice(("packed", "gaps")), "recall": rng.choice(("cells", "cells", "cells", "text"))}
    made |= {"host": host, "sampling": SamplingParams(seed=seed), "on_disk": rng.random() < 0.5}
    made |= {"resume_s": rng.choice((1e9, 1e9, 0.01, 1e-9))}
    can_pack = made["positions"] == "packed" or rng.random() < 0.5
    engine = ToyEngine(
        512, n_ctx_train=rng.choice((700, 1000, 4096)), can_pack=can_pack, can_restore=rng.random() < 0.9
    )
    stores = [ByteStore(rng.choice((0, 5_000, 1 << 30, 1 << 30)))]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with (
            tempfile.TemporaryDirectory(dir=folder) as name,
            patch("edge_sir.recall.archive.process_store", lambda: stores[-1]),
        ):
            path = Path(name) / "state"
            walk = KeptWalk(seed, open_kept(path, engine, **made), system, path, made, stores)
            walk.run(20)
            walk.do_close()
            walk.chat.close()
    finally:
        signal.signal(signal.SIGINT, before)
    return walk.counts
