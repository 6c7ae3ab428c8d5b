"""An ASGI application behind a real socket, on a thread of its own, for tests with unmodified clients."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from deployments import http_protocol
from deployments.cache_settings import CacheSettings
from deployments.http_app import HttpApp
from deployments.limits import LimitSettings
from deployments.observability import OBSERVE_DEFAULTS, ObserveSettings
from deployments.result_cache import ResultCache
from deployments.router_parts import RouterParts
from deployments.snapshot_settings import SnapshotSettings
from shards.settings import ShardSettings
from tests.local_cluster import LocalCluster

ONGOING_MAX = 100


@dataclass(frozen=True, slots=True)
class Entrance:
    """`own_key`: see HttpApp. `is_short`: requests take http_protocol.py's way, as they do behind HAProxy; one such server
    at a time. `port` 0: one that is free.
    """

    own_key: str | None = None
    is_short: bool = False
    port: int = 0
    observe: ObserveSettings = OBSERVE_DEFAULTS
    snapshots: SnapshotSettings | None = None


class Server(uvicorn.Server):
    """Says when it listens, so that nobody has to poll."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


@contextmanager
def serving(app: Any, entrance: Entrance | None = None) -> Iterator[str]:
    """The URL of the application."""
    entrance = entrance or Entrance()
    way: Any = http_protocol.RouterProtocol if entrance.is_short else "httptools"
    with socket.create_server(("127.0.0.1", entrance.port)) as listening:
        server = Server(uvicorn.Config(app, log_level="warning", http=way, ws="none", lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            assert server.ready.wait(30)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)


@contextmanager
def serving_cluster(
    folder: Path, shard_count: int, settings: ShardSettings | None = None, entrance: Entrance | None = None
) -> Iterator[str]:
    """The URL of one router over a cluster of shard hosts (tests/local_cluster.py)."""
    cluster = LocalCluster(folder, shard_count, settings)
    try:
        with serving(_Router(cluster, entrance or Entrance()), entrance) as url:
            yield url
    finally:
        cluster.stop()


class _Router:
    """The HTTP API over a coordinator that lives on the server's loop, from its start to its end."""

    def __init__(self, cluster: LocalCluster, entrance: Entrance) -> None:
        self._cluster = cluster
        self._entrance = entrance
        self._app: HttpApp | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            assert self._app is not None
            await self._app(scope, receive, send)
            return
        await receive()
        coordinator = await self._cluster.connect()
        cache = ResultCache(coordinator, CacheSettings(sample_fraction=1.0))
        entrance = self._entrance
        parts = RouterParts(cache, entrance.observe, entrance.snapshots or SnapshotSettings())
        self._app = HttpApp(coordinator, LimitSettings(), "0", entrance.own_key, parts)
        if self._entrance.is_short:
            http_protocol.register(self._app, ONGOING_MAX)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if self._entrance.is_short:
            http_protocol._Registered.app = None
        await coordinator.close()
        await send({"type": "lifespan.shutdown.complete"})
