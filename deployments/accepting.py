"""Takes all connections that wait on a router's port at once.

uvloop takes one connection in each turn of its loop (libuv does since 1.45), and in a busy router a turn takes 50 ms: of 256
clients that connected at the same moment 2, 15 and 46 had no answer after 5 s (three runs, a handler that does nothing).
asyncio's own loop takes as many as the backlog holds; this does the same for uvicorn's server inside a Serve replica.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from deployments.http_protocol import protocol_class

logger = logging.getLogger(__name__)

NO_DESCRIPTORS_PAUSE_S = 1.0
"""How long nothing is accepted after the process ran out of file descriptors (asyncio waits as long)."""


class Acceptor:
    """Listens on a bound socket; has what uvicorn asks of an asyncio.Server. Lives on the running loop."""

    def __init__(self, sock: socket.socket, protocol: Callable[[], asyncio.Protocol], backlog: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = sock
        self._protocol = protocol
        self._backlog = backlog
        self._connecting: set[asyncio.Task[Any]] = set()
        self._paused: asyncio.TimerHandle | None = None
        sock.setblocking(False)
        sock.listen(backlog)
        self._resume()

    def close(self) -> None:
        """Accept nothing more. Connections that were accepted go on."""
        if self._paused is not None:
            self._paused.cancel()
        self._loop.remove_reader(self._socket)

    async def wait_closed(self) -> None:
        """Until connections that were just accepted have their protocols."""
        if self._connecting:
            await asyncio.wait(self._connecting)

    def _resume(self) -> None:
        self._paused = None
        self._loop.add_reader(self._socket, self._accept_all)

    def _accept_all(self) -> None:
        for _ in range(self._backlog):
            try:
                connection, _address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                logger.exception("no connection can be accepted for %s s", NO_DESCRIPTORS_PAUSE_S)
                self._loop.remove_reader(self._socket)
                self._paused = self._loop.call_later(NO_DESCRIPTORS_PAUSE_S, self._resume)
                return
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = self._loop.create_task(self._loop.connect_accepted_socket(self._protocol, connection))
            self._connecting.add(task)
            task.add_done_callback(self._connected)

    def _connected(self, task: asyncio.Task[Any]) -> None:
        self._connecting.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.warning("an accepted connection was lost at once: %s", error)


async def start_accepting(server: Any, sockets: list[socket.socket] | None, startup: Callable[..., Any]) -> None:
    """In place of `uvicorn.Server.startup`, whose original is `startup`: the same, with Acceptors on bound sockets and the
    short way for requests (http_protocol.py).
    """
    config = server.config
    if not sockets or config.ssl:
        await startup(server, sockets=sockets)
        return
    await startup(server, sockets=[])
    loop = asyncio.get_running_loop()
    made: Any = protocol_class(config.http_protocol_class, loop)
    protocol = partial(
        made, config=config, server_state=server.server_state, app_state=server.lifespan.state, _loop=loop
    )

    server.servers = [Acceptor(sock, protocol, config.backlog) for sock in sockets]
