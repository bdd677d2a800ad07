"""Random calls from eight threads on two chats, in a process of its own: `python torture.py toy|MODEL SECONDS SEED`.

It prints one JSON object with what was done, and ends with 0 if every call gave its answer or a SessionError, ledger
and cache agree, and the chats answer afterwards as new ones do. A signal, a deadlock or any other error is a failure.
"""

import faulthandler
import gc
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from chatting import CODEC, ToyHost, make_chat
from walks import POLICIES, check_cells, saying, sentence

import edge_sir
from edge_sir.chat import Chat
from edge_sir.chat.stream import ReplyStream
from edge_sir.errors import SessionError, UserError
from edge_sir.memory.transcript import Message
from edge_sir.testing import ToyEngine

N_THREADS = 8


class Torture:
    """open_chat: opens a chat as all of them are. codec: what all of them share."""

    def __init__(self, open_chat: Callable[[], Chat], codec: Any, seconds: float, seed: int) -> None:
        self.open_chat, self.codec, self.seed = open_chat, codec, seed
        self.chats = [open_chat() for _ in range(2)]
        self.chats[1].owner.wait_s = 0.02
        self.streams: list[ReplyStream | None] = [None] * 4  # any thread may go on with any of them
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.ends_at = time.monotonic() + seconds

    def run(self) -> None:
        threads = [threading.Thread(target=self.work, args=(n,), daemon=True) for n in range(N_THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def work(self, n: int) -> None:
        rng = random.Random(1000 * self.seed + n)
        calls = [name for name in dir(self) if name.startswith("do_")] + ["do_reply", "do_end", "do_next"] * 2
        while time.monotonic() < self.ends_at and not self.wrong:
            name = rng.choice(calls)
            try:
                getattr(self, name)(rng, rng.choice(self.chats))
                self.counts[f"{name} done"] += 1
            except SessionError as error:
                self.counts["refused"] += 1
                time.sleep(0.003 * rng.random())
                if "closed" in str(error):
                    self.counts["closed"] += 1
            except (UserError, StopIteration):
                self.counts["mistakes"] += 1
            except BaseException as error:
                self.wrong.append(f"{name}: {error!r}")
                raise

    def do_reply(self, rng: random.Random, chat: Chat) -> None:
        reply = chat.reply(sentence(rng))
        assert isinstance(reply.text, str) and reply.finish in ("stop", "length", "cancelled")

    def do_stream(self, rng: random.Random, chat: Chat) -> None:
        stream = chat.stream(sentence(rng))
        next(stream)
        self.streams[rng.randrange(4)] = stream  # the one that stood there may be closed by nobody at all

    def do_next(self, rng: random.Random, chat: Chat) -> None:
        if (stream := rng.choice(self.streams)) is not None:
            next(stream)

    def do_end(self, rng: random.Random, chat: Chat) -> None:
        if (stream := rng.choice(self.streams)) is not None:
            stream.close()

    def do_look(self, rng: random.Random, chat: Chat) -> None:
        rng.choice((chat.memory, chat.stats, chat.run_stats, lambda: chat.find("Ada"), lambda: chat.matches("Eve")))()
        _ = [m.text for m in chat.transcript], chat.awaits, chat.has_pins, chat.evictions.n_evicted

    def do_change(self, rng: random.Random, chat: Chat) -> None:
        rng.choice(
            (
                chat.undo,
                chat.clear,
                chat.unpin,
                lambda: chat.add("user", saying(rng)),
                lambda: chat.truncate(1 + rng.randrange(3)),
                lambda: list(chat.regenerate()),
                lambda: chat.forget(rng.choice(("Ada", "boats", 1, 2))),
                lambda: chat.pin(rng.choice(("Bob", 1, 2))),
                lambda: chat.set_budget(rng.choice((80, 128, 300))),
                lambda: chat.set_policy(rng.choice(POLICIES)),
                lambda: chat.set_system(rng.choice(("", saying(rng)))),
                lambda: chat.load([Message(0, "user", saying(rng)), Message(0, "assistant", saying(rng))]),
            )
        )()

    def do_reopen(self, rng: random.Random, chat: Chat) -> None:
        if rng.random() < 0.02:
            at, new = rng.randrange(2), self.open_chat()
            new.owner.wait_s = 0.02 * at
            old, self.chats[at] = self.chats[at], new
            old.close()

    def do_collect(self, rng: random.Random, chat: Chat) -> None:
        if rng.random() < 0.02:
            gc.collect()

    def do_native(self, rng: random.Random, chat: Chat) -> None:
        """What lies below a chat, with no regard for who drives it."""
        if isinstance(chat.engine, ToyEngine):
            return
        rng.choice(
            (
                lambda: chat.engine.pos_range(0),
                lambda: chat.engine.dump(0),
                lambda: self.codec.encode(saying(rng) * 50, special=False),
                lambda: self.codec.piece(rng.randrange(200)),
            )
        )()

    def check(self) -> None:
        """Afterwards all is as if one thread had made the calls."""
        for chat in self.chats:
            chat.owner.wait_s = 0
            if chat.is_closed:
                continue
            chat.undo() if chat.awaits else chat.add("user", "Well.") if chat.session.budget.n_cells > 200 else None
            check_cells(chat.session)
            turns = [m.turn for m in chat.transcript]
            assert turns == sorted(turns) and (not turns or turns[-1] <= chat.session.turn)
            chat.clear()
            chat.unpin()
            chat.set_policy("sir")
            chat.set_system("")
            chat.set_budget(128)
            chat.clear()
            new = self.open_chat()
            answers = [one.reply("Name a colour.", max_tokens=6).text for one in (chat, new)]
            assert answers[0] == answers[1], answers
            check_cells(chat.session)
            new.close()


def main(kind: str, seconds: float, seed: int) -> None:
    faulthandler.enable()
    faulthandler.dump_traceback_later(seconds + 60, exit=True)
    model = None
    if kind == "toy":

        def open_chat() -> Chat:
            return make_chat(policy="sir", budget=128, max_tokens=6, host=ToyHost())

        torture = Torture(open_chat, CODEC, seconds, seed)
    else:
        model = edge_sir.load(kind, threads=1, quiet=True, max_tokens=6, temperature=0)
        torture = Torture(lambda: model.chat(budget=128, policy="sir"), model.codec, seconds, seed)
    torture.run()
    if not torture.wrong:
        torture.check()
    if model is not None:  # closed while others are at work
        torture.ends_at = time.monotonic() + 30
        threads = [threading.Thread(target=torture.work, args=(n,), daemon=True) for n in range(N_THREADS)]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        model.close()
        torture.ends_at = 0
        for thread in threads:
            thread.join()
    sys.stdout.write(json.dumps({"wrong": torture.wrong, **dict(sorted(torture.counts.items()))}) + "\n")
    sys.exit(1 if torture.wrong else 0)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
