"""A server on loopback, in a thread, for tests."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from edge_sir.server.app import App, Served, Settings
from edge_sir.server.conversations import Conversations
from edge_sir.server.manager import Manager
from edge_sir.server.serve import HttpServer

SERVED = Served("toy", "toy-fingerprint", 1_700_000_000)


@contextmanager
def serving(
    conversations: Conversations,
    settings: Settings | None = None,
    served: Served = SERVED,
    manager: Manager | None = None,
) -> Iterator[str]:
    """Yields the server's address, and ends it afterwards."""
    server = HttpServer(App(conversations, served, settings, manager), "127.0.0.1", 0)
    thread = threading.Thread(target=server.run_here)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            threading.Event().wait(0.01)
        yield f"http://127.0.0.1:{server.address[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()
