"""Measures what a server costs a client that sends everything again: beside a chat in process, and turn by turn.

    scripts/bench-server            0.5B where it is here, else 135M; every figure is a ratio of one run

The server runs in a thread of this process, on loopback; the client is an HTTP client in the main one.
"""

import argparse
import json
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np
from batch_equal import requests
from bench_rig import Bare, Setup, Tokens, clock_of, say
from bench_stats import Figure, paired, report, table

import edge_sir
from edge_sir import models
from edge_sir.errors import EdgeSirError, ModelError
from edge_sir.llama.native import default_threads
from edge_sir.server.app import App
from edge_sir.server.loaded import loaded_of, served_of
from edge_sir.server.serve import HttpServer, bind
from edge_sir.server.stored_conversations import StoredConversations
from edge_sir.store.folder import StateFolder
from edge_sir.text.encoder import MessageEncoder

__all__ = ["main"]

_HALF, _SMALL = "qwen2.5-coder-0.5b-instruct", "smollm2-135m-instruct"
_BUDGET, _TURNS, _REPLY = 512, 50, 24
_EARLY, _LATE = range(2, 5), range(_TURNS - 2, _TURNS + 1)
_STORY = "Tell me a very long story about the sailor, the lamp maker and the copper bridge. Leave nothing out."


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench-server", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--model", default=_best_here(), metavar="M", help="name or GGUF file (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads; 0 chooses")
    args = parser.parse_args(arguments)
    threads = args.threads or default_threads()
    setup = Setup(args.model, threads, args.quick, clock_of(0))
    host = {"model": args.model, "threads": threads, "budget": _BUDGET, "quick": args.quick}
    try:
        figures = _measure(setup)
    except EdgeSirError as error:
        print(f"bench-server: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report(host, figures)) if args.json else table(host, figures))
    return 0


def _best_here() -> str:
    try:
        models.resolve(_HALF)
    except ModelError:
        return _SMALL
    return _HALF


def _measure(setup: Setup) -> list[Figure]:
    folder = Path(tempfile.mkdtemp(prefix="edge-sir-bench-"))
    try:
        with edge_sir.load(
            setup.model, threads=setup.threads, budget=_BUDGET, max_tokens=_REPLY, temperature=0, quiet=True
        ) as model:
            with _serving(model, folder / "served") as url:
                figures = _long_conversations(model, url, setup.pick(1, 3))
                figures.append(_beside_chat(model, url, setup.pick(4, 16)))
            figures.append(_swapping(model, folder / "served", setup))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return figures


@contextmanager
def _serving(model: edge_sir.Model, folder: Path) -> Iterator[str]:
    home = StoredConversations(loaded_of(model), StateFolder(folder), model.options, 2)
    server = HttpServer(App(home, served_of(model)), "127.0.0.1", 0)
    thread = threading.Thread(target=server.run_here, args=(bind("127.0.0.1", 0),))
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.address[1]}"
    finally:
        server.should_exit = True
        thread.join()


@dataclass(frozen=True, slots=True)
class _Answer:
    """first_s, last_s: since it was sent, of the first and last text. n_read, n_written: tokens."""

    text: str
    match: str
    first_s: float
    last_s: float
    n_read: int
    n_written: int


def _ask(http: httpx.Client, history: Sequence[dict[str, str]], **terms: Any) -> _Answer:
    """One streamed reply to everything that was said."""
    body = {"messages": list(history), "stream": True, "stream_options": {"include_usage": True}} | terms
    text, times, usage = "", [], {}
    began = time.perf_counter()
    with http.stream("POST", "/v1/chat/completions", json=body) as answer:
        answer.raise_for_status()
        for line in answer.iter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line.removeprefix("data: "))
            usage = chunk.get("usage") or usage
            if chunk["choices"] and (bit := chunk["choices"][0]["delta"].get("content")):
                times.append(time.perf_counter() - began)
                text += bit
    n_read = usage["prompt_tokens_details"]["cache_write_tokens"]
    match = answer.headers["x-edge-sir-match"]
    return _Answer(text, match, times[0], times[-1], n_read, usage["completion_tokens"])


# ---- a client that sends everything again --------------------------------------------------------


def _long_conversations(model: edge_sir.Model, url: str, n: int) -> list[Figure]:
    early, late, over_new, n_again = [], [], [], 0
    with httpx.Client(base_url=url, timeout=600) as http:
        for i in range(n):
            say(f"a conversation of {_TURNS} turns, {i + 1} of {n}")
            answers, news = _converse(http, model, i)
            n_again += sum(answer.match != "exact" for answer in answers[1:])
            early += [answers[turn - 1].first_s for turn in _EARLY]
            late += [answers[turn - 1].first_s for turn in _LATE]
            over_new += [answers[turn - 1].n_read / news[turn - 1] for turn in _LATE]
    detail = {"early_ms": 1000 * median(early), "late_ms": 1000 * median(late), "not_exact": n_again}
    return [
        paired("first_token_turn_50_over_turn_2", late, early, detail=detail),
        Figure("tokens_read_over_new", float(np.mean(over_new)), min(over_new), max(over_new), "lowest and highest"),
    ]


def _converse(http: httpx.Client, model: edge_sir.Model, seed: int) -> tuple[list[_Answer], list[int]]:
    """The answers, and how many tokens each message takes with its template tokens and the opening of a reply."""
    encoder = MessageEncoder(model.codec, model.template, None)
    [asked] = requests(1, _TURNS, seed=seed, n_words=20)
    history: list[dict[str, str]] = []
    answers, news = [], []
    for turn, text in enumerate(asked.said):
        parts = encoder.message("user", text, first=not turn)
        news.append(sum(len(tokens) for _, tokens in (*parts, *encoder.reply_opening())))
        history.append({"role": "user", "content": text})
        answers.append(_ask(http, history, max_tokens=_REPLY, temperature=0.8))
        history.append({"role": "assistant", "content": answers[-1].text})
    return answers, news


# ---- beside a chat in process --------------------------------------------------------------------


def _beside_chat(model: edge_sir.Model, url: str, n_rounds: int) -> Figure:
    """Tokens per second of a reply of 100 tokens, streamed by the server and by a chat, in turn."""
    served, chatted = [], []
    with httpx.Client(base_url=url, timeout=600) as http:
        for i in range(n_rounds):
            say(f"replies through the server and in process, {i + 1} of {n_rounds}")
            asked = f"{i}. {_STORY}"
            if i % 2:
                chatted.append(_chat_speed(model, asked))
            answer = _ask(http, [{"role": "user", "content": asked}], max_tokens=100)
            served.append((answer.n_written - 1) / (answer.last_s - answer.first_s))
            if not i % 2:
                chatted.append(_chat_speed(model, asked))
    detail = {"server_tokens_per_s": median(served), "chat_tokens_per_s": median(chatted)}
    return paired("server_vs_chat", served, chatted, detail=detail)


def _chat_speed(model: edge_sir.Model, asked: str) -> float:
    with model.chat() as chat:
        stream, times = chat.stream(asked, max_tokens=100), []
        for _ in stream:
            times.append(time.perf_counter())
        return (stream.reply.n_generated - 1) / (times[-1] - times[0])


# ---- swapping ------------------------------------------------------------------------------------


def _swapping(model: edge_sir.Model, folder: Path, setup: Setup) -> Figure:
    """Going on with a session that is on disk, beside decoding what it holds again in bare llama.cpp."""
    home = StoredConversations(loaded_of(model), StateFolder(folder), model.options, 1)
    sessions, loaded, left, read, n_resident = home.sessions, [], [], [], []
    try:
        longest = sorted(sessions.folder.sessions(), key=lambda info: -info.n_turns)
        ids = [info.id for info in longest[:2]]
        with Bare(model.native, _BUDGET, 128, setup.threads) as bare:
            for i in range(setup.pick(6, 24)):
                say(f"swapping, {i + 1}")
                left.append(_seconds(sessions._make_place))
                loaded.append(_seconds(lambda i=i: sessions.live(ids[i % len(ids)])))
                [live] = sessions
                tokens: Tokens = live.chat.session.ledger["token"].astype(np.int32)
                n_resident.append(len(tokens))
                bare.rewind(0)
                read.append(_seconds(lambda tokens=tokens: bare.prefill(tokens)))
    finally:
        home.close()
    detail = {"swap_in_ms": 1000 * median(loaded), "swap_out_ms": 1000 * median(left[1:])}
    detail |= {"reread_ms": 1000 * median(read), "resident": median(n_resident)}
    return paired("swap_in_vs_reread", read, loaded, detail=detail)


def _seconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
