"""A server on the toy engine, in a process of its own: all of it but llama.cpp, in milliseconds.

server_toy.py --state-dir DIR [--sessions N] [--budget N] [--port N]
"""

import argparse
import sys
from collections.abc import Sequence

from edge_sir.engine import Engine
from edge_sir.options import Options
from edge_sir.server.app import App, Served, Settings
from edge_sir.server.limits import Limits
from edge_sir.server.loaded import Loaded
from edge_sir.server.manager import Manager
from edge_sir.server.serve import HttpServer, bind
from edge_sir.server.stored_conversations import StoredConversations
from edge_sir.store.folder import StateFolder
from edge_sir.testing import ByteTokenizer, ToyEngine
from edge_sir.text.template import ChatTemplate

_CODEC = ByteTokenizer()


class _Toys:
    """A `Host` whose engines are toys."""

    def open_engine(self, n_cells: int) -> Engine:
        return ToyEngine(n_cells, n_seq_max=1)

    def release(self, engine: Engine) -> None:
        engine.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until a signal ends it."""
    parser = argparse.ArgumentParser(prog="server_toy")
    parser.add_argument("--state-dir", required=True)
    parser.add_argument("--sessions", type=int, default=4)
    parser.add_argument("--budget", type=int, default=256)
    parser.add_argument("--port", type=int, default=0)
    args = parser.parse_args(arguments)
    template = ChatTemplate(_CODEC.CHAT_TEMPLATE, bos=_CODEC.bos_text, eos=_CODEC.eos_text)
    fingerprint = ToyEngine(256).spec.fingerprint
    loaded = Loaded(_Toys(), _CODEC, template, fingerprint, "toy", {"model": "toy"})
    options = Options(budget=args.budget, policy="sir", max_tokens=12)
    home = StoredConversations(loaded, StateFolder(args.state_dir), options, args.sessions)
    settings = Settings(limits=Limits(waiting=256, waiting_each=256))
    app = App(home, Served("toy", fingerprint, 0, frozenset({"n"})), settings, Manager(home, fingerprint))
    listening = bind("127.0.0.1", args.port)
    server = HttpServer(app, "127.0.0.1", args.port, lambda address: _say(address[1]))
    server.run_here(listening)
    return 0


def _say(port: int) -> None:
    print(f"toy at http://127.0.0.1:{port}/v1", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
