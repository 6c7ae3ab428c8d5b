"""One router without a socket in front: a coordinator, a cache, the HTTP API, and a way to send requests to it."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import orjson

from cluster.coordinator import Coordinator
from deployments.cache_settings import CacheSettings
from deployments.cache_start import start_cache
from deployments.http_app import HttpApp
from deployments.http_message import Reply
from deployments.limits import LimitSettings
from deployments.router_parts import RouterParts
from tests.local_cluster import SECRET

HEADERS = ((b"content-type", b"application/json"),)


class Routed:
    """On the loop that it is made on. `cache` None where the settings say so."""

    def __init__(self, coordinator: Coordinator, settings: CacheSettings) -> None:
        self.coordinator = coordinator
        self.cache = start_cache(coordinator, settings, SECRET)
        self.app = HttpApp(coordinator, LimitSettings(), "0", parts=RouterParts(self.cache))

    async def send(self, method: str, path: str, body: Any = None, headers: Any = HEADERS) -> Reply:
        """`body`: bytes as they are, or a value that becomes JSON."""
        encoded = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
        path, _, query = path.partition("?")
        return await self.app.answer(self.app.admit(method, path, query.encode(), headers, perf_counter()), encoded)

    async def result(self, method: str, path: str, body: Any = None) -> Any:
        """The result of a request that has to succeed."""
        reply = await self.send(method, path, body)
        assert reply.status == 200, reply.body
        return orjson.loads(reply.body)["result"]
