"""Where `shoal top` gets its numbers: /metrics and /readyz, asked of the cluster's one address.

Several routers share that address, and nobody tells how many there are. So each round asks a few times, until a router
answers that has answered in this round already; a router that was not met for FORGET_S is taken for gone.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

import orjson

from deployments.http_client import ClusterClient, NoCluster
from deployments.top_reading import Snapshot, read_snapshot

ROUND_MAX = 8
"""Scrapes a round."""
FORGET_S = 60.0


class ObservingClient(ClusterClient):
    """A client that also reads what is no result in an envelope."""

    def metrics(self) -> Snapshot:
        """What one of the routers counted. Raises ShoalErrors."""
        status, answer = self._get("/metrics", "text/plain")
        if status != 200:
            self._result(status, answer)
        try:
            return read_snapshot(answer.decode())
        except (ValueError, KeyError) as error:
            raise NoCluster(f"what {self.url} gives as /metrics can't be read: {error}") from None

    def readiness(self) -> dict[str, Any]:
        """The verdict of one of the routers, as /readyz tells it as JSON."""
        _, answer = self._get("/readyz", "application/json")
        try:
            found = orjson.loads(answer)
        except ValueError:
            found = None
        if isinstance(found, dict) and "ready" in found:
            return found
        return {"ready": False, "reasons": ["no router answers"]}

    def _get(self, path: str, accept: str) -> tuple[int, bytes]:
        before = self._headers
        self._headers = {**before, "accept": accept}
        try:
            return self._answer("GET", path, None)
        finally:
            self._headers = before


class Routers:
    """What was heard of each router, lately."""

    def __init__(self, client: ObservingClient) -> None:
        self._client = client
        self._last: dict[str, tuple[float, Snapshot]] = {}

    def ask(self) -> tuple[list[Snapshot], Snapshot]:
        """What each router that was met did since it was met before (or ever), and the newest whole snapshot."""
        met: dict[str, Snapshot] = {}
        for _ in range(ROUND_MAX):
            snapshot = self._client.metrics()
            if snapshot.router in met:
                break
            met[snapshot.router] = snapshot
        now = monotonic()
        before = {name: held for name, (_, held) in self._last.items()}
        self._last = {name: held for name, held in self._last.items() if now - held[0] < FORGET_S}
        self._last |= {name: (now, snapshot) for name, snapshot in met.items()}
        newest = next(reversed(met.values()))
        return [snapshot.since(before.get(name)) for name, snapshot in met.items()], newest

    @property
    def count(self) -> int:
        """Routers that were met within FORGET_S."""
        return len(self._last)
