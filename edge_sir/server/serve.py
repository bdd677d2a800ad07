"""Serves the application on an address, until a signal ends it."""

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Callable

import uvicorn

from edge_sir.errors import ConfigError
from edge_sir.server.app import App
from edge_sir.server.guard import LOOPBACK
from edge_sir.server.silent import SilentConnections

__all__ = ["HttpServer", "bind", "is_loopback"]

_log = logging.getLogger(__name__)


class HttpServer(uvicorn.Server):
    """uvicorn, which ends the application before it waits for open connections, however often it is interrupted.

    port: 0 for any that is free; `address` says which. on_start: called with the address once requests are taken.
    Ctrl-C and SIGTERM end it.
    """

    def __init__(
        self, app: App, host: str, port: int, on_start: Callable[[tuple[str, int]], None] = lambda _: None
    ) -> None:
        self._app, self._on_start = app, on_start
        self._silent = SilentConnections(app.limits.silent_s)
        # The name of the software is nobody's business, and proxies' headers are not believed.
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                lifespan="on",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=5,
                log_config=None,
                ws="none",
            )
        )

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, once `started`."""
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return host, port

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to take requests."""
        await super().startup(sockets)
        if self.started:
            self._on_start(self.address)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second; whether to end."""
        if counter % 10 == 0:
            self._silent.check(self.server_state.connections)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """What is under way ends, and all is saved; then connections are closed."""
        _log.info("ending: replies get a moment, and all is saved")
        await self._app.end()
        await super().shutdown(sockets)

    def run_here(self, listening: socket.socket | None = None) -> None:
        """Serves in this thread until it ends. listening: of `bind`, in place of host and port."""
        asyncio.run(self.serve(None if listening is None else [listening]))


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises ConfigError if it cannot, in one line."""
    if not 0 <= port < 2**16:
        raise ConfigError(f"--port is a number from 0 to 65535, not {port}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
        except BaseException:
            listening.close()
            raise
    except (OSError, OverflowError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot listen on {host}:{port} ({reason}); choose another --port or --host") from None
    return listening


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() in LOOPBACK
