"""Serves the application on an address, until a signal ends it."""

import asyncio
import socket

import uvicorn

from edge_sir.server.app import App

__all__ = ["HttpServer"]


class HttpServer(uvicorn.Server):
    """uvicorn, which ends the application before it waits for open connections, however often it is interrupted.

    port: 0 for any that is free; `address` says which. Ctrl-C and SIGTERM end it.
    """

    def __init__(self, app: App, host: str, port: int) -> None:
        self._app = app
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
            )
        )

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, once `started`."""
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return host, port

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """What is under way ends, and all is saved; then connections are closed."""
        await self._app.end()
        await super().shutdown(sockets)

    def run_here(self) -> None:
        """Serves in this thread until it ends."""
        asyncio.run(self.serve())
