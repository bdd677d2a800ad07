"""One process of scripts/long-session: goes on with the session, and prints a row of what each turn took.

Called with the state folder and the settings as JSON. When it has no more turns it waits: for its end, or for the end
of its input, at which it closes the session.
"""

import json
import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
from long_chat_talk import Said, Scenario, answers
from long_session_play import SESSION, Settings, conversation, database_bytes

import edge_sir
from edge_sir.chat import Chat
from edge_sir.engine import Slice, SliceResult
from edge_sir.store.layout import Layout

Row = dict[str, Any]


def main(arguments: Sequence[str]) -> None:
    """Plays the turns of one process."""
    folder, settings = Path(arguments[0]), Settings(**json.loads(arguments[1]))
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    scenario, talk = conversation(settings)
    began = time.perf_counter()
    with edge_sir.load(settings.model, threads=settings.threads, quiet=True) as model:
        loaded = time.perf_counter()
        chat = model.chat(
            session=SESSION,
            state_dir=folder,
            budget=settings.budget,
            recall="cells",
            archive_on_disk=settings.on_disk,
            system=scenario.system,
            max_tokens=settings.max_tokens,
            temperature=0,
        )
        opened = time.perf_counter()
        n_turns = chat.session.turn
        process = min(n_turns, settings.turns - 1) // settings.per_process + 1
        _print({"process": process, "load_s": loaded - began, "open_s": opened - loaded} | _resumed(chat))
        meter = _Meter(chat, folder)
        for said in talk[n_turns : process * settings.per_process]:
            _print(meter.turn(said, scenario, process))
        sys.stdin.read()
        started = time.perf_counter()
        chat.close()
        _print({"close_s": time.perf_counter() - started})


def _print(row: Row) -> None:
    print(json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()}), flush=True)


def _resumed(chat: Chat) -> Row:
    found = {} if chat.resumed is None else asdict(chat.resumed)
    row: Row = {"n_turns": chat.session.turn, "how": found.get("how", "")}
    row |= {name: found.get(name, 0) for name in ("n_replayed", "n_left_out")} | {"unsent": chat.awaits}
    return row | {"entries": len(chat.evictions), "rss": psutil.Process().memory_info().rss}


class _Meter:
    """What turns of a chat take. Seconds: of the wall; CPU seconds: of this thread, where the chat runs."""

    def __init__(self, chat: Chat, folder: Path) -> None:
        self._chat, self._folder, self._layout = chat, folder, Layout(folder)
        self._process = psutil.Process()
        self._in_engine = 0.0
        engine = chat.engine
        engine.decode = self._timed(engine.decode)  # type: ignore[method-assign]

    def _timed(self, decode: Callable[[Sequence[Slice]], list[SliceResult]]) -> Any:
        def timed(slices: Sequence[Slice]) -> list[SliceResult]:
            started = time.thread_time()
            try:
                return decode(slices)
            finally:
                self._in_engine += time.thread_time() - started

        return timed

    def turn(self, said: Said, scenario: Scenario, process: int) -> Row:
        """Says it, or asks for the reply again that a cut run did not get to it; the row of the turn."""
        chat, before, snapshots = self._chat, self._counts(), self._snapshots()
        started, cpu = time.perf_counter(), time.thread_time() - self._in_engine
        if chat.awaits:
            stream = chat.regenerate()
            for _ in stream:
                pass
            reply = stream.reply
        else:
            reply = chat.reply(said.text)
        seconds, cpu = time.perf_counter() - started, time.thread_time() - self._in_engine - cpu
        done = {name: value - before[name] for name, value in self._counts().items()}
        row: Row = {"turn": reply.turn, "process": process, "kind": said.kind, "fact": said.fact, "said": said.text}
        row |= {"reply": reply.text, "seconds": seconds, "beside_s": seconds - done.pop("decode_s"), "cpu_s": cpu}
        row |= done | {
            "snapshots": len(self._snapshots() - snapshots),
            "read": reply.n_read,
            "written": reply.n_generated,
            "resident": reply.resident,
        }
        row |= {"evicted": reply.evicted, "recalled": [[one.turn, one.n_tokens] for one in reply.recalled]}
        row |= {"database_bytes": database_bytes(self._folder), "rss": self._process.memory_info().rss}
        if said.kind == "question":
            row["right"] = answers(scenario.facts[said.fact], reply.text)
        return row

    def _counts(self) -> Row:
        """What grows. disk_bytes, passed_bytes: as the system counts them, if it does.

        disk_bytes: of pages that are to be written to a disk; passed_bytes: of all calls that write.
        """
        row: Row = {"decode_s": self._chat.engine.times.decode_s}
        if hasattr(self._process, "io_counters"):
            io = self._process.io_counters()
            row |= {"disk_bytes": io.write_bytes, "passed_bytes": getattr(io, "write_chars", io.write_bytes)}
        return row

    def _snapshots(self) -> set[str]:
        return {path.name for path in self._layout.folders[0].iterdir()}


if __name__ == "__main__":
    main(sys.argv[1:])
