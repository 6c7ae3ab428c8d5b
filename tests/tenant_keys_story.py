"""Keys of two tenants against a dictionary: random requests over HTTP's own routes find and change own points alone.

Writes come one after the other; between them every kind of read comes at once from both, some of them cancelled. Whatever
an answer shows besides, or does not show, ends the story with an AssertionError.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from cluster.api_keys import AddKey, Grant, Role, new_key
from cluster.coordinator import Coordinator
from deployments.cache_settings import CacheSettings
from deployments.cluster_api import ClusterApi
from deployments.http_app import HttpApp
from deployments.http_errors import error_reply
from deployments.http_message import Reply
from deployments.limits import LimitSettings
from deployments.result_cache import ResultCache
from deployments.router_parts import RouterParts
from shards.errors import ShoalError
from tests.local_cluster import LocalCluster

IDS = [*range(1, 25), "00000000-0000-0000-0000-00000000000a"]
OWNERS = ["ann", "bob", "cy", None]
TENANTS = ["ann", "bob"]
Document = dict[str, Any]
FILTERS: list[tuple[Any, Callable[[Document], bool]]] = [
    (None, lambda payload: True),
    ({"must": {"key": "n", "range": {"gte": 3}}}, lambda payload: payload.get("n", -1) >= 3),
    ({"must_not": [{"key": "org", "match": {"value": "ann"}}]}, lambda payload: payload.get("org") != "ann"),
    ({"should": [{"key": "org", "match": {"any": ["bob", "cy"]}}]}, lambda payload: payload.get("org") in ("bob", "cy")),
    ({"must": [{"is_empty": {"key": "org"}}]}, lambda payload: payload.get("org") is None),
    (
        {"min_should": {"conditions": [{"key": "n", "match": {"value": 1}}, {"has_id": IDS}], "min_count": 1}},
        lambda payload: True,
    ),
]  # fmt: skip


def key_of(number: int, *grants: Grant) -> Any:
    return new_key(number.to_bytes(6, "big") + bytes(32), grants, "", 1)


@dataclass
class Point:
    vector: list[float]
    payload: Document


class Story:
    """`expected`: every point that should be there; `request_count`: of all kinds, the cancelled ones too."""

    def __init__(self, cluster: ClusterApi, seed: int, parts: RouterParts) -> None:
        self.cluster = cluster
        self.app = HttpApp(cluster, LimitSettings(), "0", parts=parts)
        self.random = np.random.default_rng(seed)
        self.expected: dict[Any, Point] = {}
        self.keys: dict[str | None, str] = {}
        self.request_count = self.read_count = self.cancelled_count = 0

    async def begin(self, is_late: bool) -> None:
        """The collection `c` with the tenant field `org`, a key for everything and one for each tenant."""
        await self.ask(None, "PUT", "", {"vectors": {"size": 2, "distance": "Euclid"}})
        declaration = {"field_name": "org", "field_schema": {"type": "keyword", "is_tenant": True}}
        if is_late:
            self.expected = {IDS[0]: Point([0.0, 0.0], {"org": "cy", "n": 0})}
            await self.ask(None, "PUT", "points", {"points": self._bodies(IDS[:1])})
        assert (await self.ask(None, "PUT", "index", declaration)).status == 200
        everything = key_of(1, Grant(role=Role.ADMIN))
        made: dict[str | None, Any] = {None: everything}
        for number, name in enumerate(TENANTS, 2):
            made[name] = key_of(number, Grant(role=Role.WRITE, tenant=name, collection="c"))
        for key in made.values():
            await self.cluster.catalogue.change_keys(AddKey(key.record), 10.0)
        self.keys = {name: key.text for name, key in made.items()}

    async def ask(self, tenant: str | None, method: str, path: str, body: Any = None) -> Reply:
        """One request with that tenant's key; None: with the one for everything."""
        self.request_count += 1
        headers = [(b"api-key", self.keys[tenant].encode())] if self.keys else []
        whole = f"/collections/c/{path}".rstrip("/")
        try:
            call = self.app.admit(method, whole, b"wait=true", headers, 0.0)
        except ShoalError as error:
            return error_reply(error, 0.0)
        return await self.app.answer(call, b"" if body is None else orjson.dumps(body))

    def _bodies(self, ids: list[Any]) -> list[Document]:
        return [
            {"id": key, "vector": self.expected[key].vector, "payload": self.expected[key].payload} for key in ids
        ]

    def _own(self, tenant: str | None) -> dict[Any, Point]:
        return {key: one for key, one in self.expected.items() if tenant is None or one.payload.get("org") == tenant}

    def _some_ids(self) -> list[Any]:
        count = int(self.random.integers(1, 5))
        return [IDS[place] for place in self.random.choice(len(IDS), count, replace=False).tolist()]

    async def step(self) -> None:
        """A write, a look at everything, and all reads at once."""
        await self.write()
        await self.compare_all()
        await self.read_at_once()

    async def write(self) -> None:
        """One write by a random caller, and what it should have done."""
        tenant = [*TENANTS, *TENANTS, None][self.random.integers(5)]
        ids = self._some_ids()
        number = int(self.random.integers(7))
        step = [self._upsert, self._upsert, self._delete, self._set, self._overwrite, self._vectors, self._trespass]
        await step[self.random.integers(len(step))](tenant, ids, number)

    async def _upsert(self, tenant: str | None, ids: list[Any], number: int) -> None:
        owner = OWNERS[self.random.integers(4)] if tenant is None or self.random.random() < 0.1 else tenant
        vector = self.random.random(2, np.float32).tolist()
        payload = {"n": number} if owner is None else {"n": number, "org": owner}
        points = [{"id": key, "vector": vector, "payload": payload} for key in ids]
        reply = await self.ask(tenant, "PUT", "points", {"points": points})
        is_allowed = tenant is None or (
            owner == tenant and all(key in self._own(tenant) for key in ids if key in self.expected)
        )
        assert reply.status == (200 if is_allowed else 403), reply.body
        if is_allowed:
            self.expected |= {key: Point(vector, dict(payload)) for key in ids}

    async def _delete(self, tenant: str | None, ids: list[Any], number: int) -> None:
        given, chosen = self._chosen(tenant, ids)
        assert (await self.ask(tenant, "POST", "points/delete", given)).status == 200
        for key in chosen:
            del self.expected[key]

    async def _set(self, tenant: str | None, ids: list[Any], number: int) -> None:
        given, chosen = self._chosen(tenant, ids)
        reply = await self.ask(tenant, "POST", "points/payload", {"payload": {"n": number}, **given})
        self._check_all_there(reply, given, chosen)
        for key in chosen:
            self.expected[key].payload["n"] = number

    async def _overwrite(self, tenant: str | None, ids: list[Any], number: int) -> None:
        """As one operation of a batch."""
        given, chosen = self._chosen(tenant, ids)
        owner = tenant or "ann"
        if tenant is None and any(self.expected[key].payload.get("org") != owner for key in chosen):
            return  # each shard refuses its part, others may have done theirs: tests/unit/cluster/test_tenant_collections.py
        operation = {"overwrite_payload": {"payload": {"org": owner, "m": number}, **given}}
        reply = await self.ask(tenant, "POST", "points/batch", {"operations": [operation]})
        self._check_all_there(reply, given, chosen)
        for key in chosen:
            self.expected[key].payload = {"org": owner, "m": number}

    async def _vectors(self, tenant: str | None, ids: list[Any], number: int) -> None:
        vector = self.random.random(2, np.float32).tolist()
        reply = await self.ask(
            tenant, "PUT", "points/vectors", {"points": [{"id": key, "vector": vector} for key in ids]}
        )
        chosen = [key for key in ids if key in self._own(tenant)]
        self._check_all_there(reply, {"points": ids}, chosen)
        for key in chosen:
            self.expected[key].vector = vector

    async def _trespass(self, tenant: str | None, ids: list[Any], number: int) -> None:
        """What a tenant's key must not do."""
        if tenant is None:
            return
        given, _ = self._chosen(tenant, ids)
        refused = [
            ("POST", "points/payload", {"payload": {"org": "cy"}, **given}, 400),
            ("POST", "points/payload/delete", {"keys": ["org"], **given}, 400),
            ("POST", "points/payload/clear", given, 400),
            ("DELETE", "", None, 403),
            ("PUT", "index", {"field_name": "n", "field_schema": "integer"}, 403),
            ("GET", "cluster", None, 403),
        ]
        method, path, body, status = refused[self.random.integers(len(refused))]
        assert (await self.ask(tenant, method, path, body)).status == status

    def _chosen(self, tenant: str | None, ids: list[Any]) -> tuple[Document, list[Any]]:
        """A selection for a body, and the points that it should reach."""
        own = self._own(tenant)
        if self.random.random() < 0.6:
            return {"points": ids}, [key for key in ids if key in own]
        given, holds = FILTERS[self.random.integers(len(FILTERS))]
        if given is None or self.random.random() < 0.7:  # else too little would be left
            given, number = {"must": {"key": "n", "match": {"value": 2}}}, 2
            return {"filter": given}, [key for key, one in own.items() if one.payload.get("n") == number]
        return {"filter": given}, [key for key, one in own.items() if holds(one.payload)]

    @staticmethod
    def _check_all_there(reply: Reply, given: Document, chosen: list[Any]) -> None:
        """A foreign point reads like one that is not there."""
        is_missing = "points" in given and len(chosen) < len(given["points"])
        assert reply.status == (404 if is_missing else 200), reply.body

    async def read_at_once(self) -> None:
        """Every kind of read from both tenants; some are cancelled before they are answered."""
        reads = [read for tenant in TENANTS * 2 for read in self._reads(tenant)]
        self.random.shuffle(reads)
        tasks = [asyncio.ensure_future(read) for read in reads]
        for _ in range(int(self.random.integers(1, 4))):  # one at least, so that all have begun
            await asyncio.sleep(0)
        if self.random.random() < 0.5:
            await asyncio.sleep(float(self.random.random()) * 0.005)
        cancelled = {task for task in tasks if self.random.random() < 0.1 and task.cancel()}
        self.cancelled_count += len(cancelled)
        for task, outcome in zip(tasks, await asyncio.gather(*tasks, return_exceptions=True), strict=True):
            if isinstance(outcome, asyncio.CancelledError):
                assert task in cancelled, "who shared a search with a request that was cancelled has no answer"
            else:
                assert outcome is None, outcome
                self.read_count += 1

    def _reads(self, tenant: str) -> list[Any]:
        given, holds = FILTERS[self.random.integers(len(FILTERS))]
        body = {} if given is None else {"filter": given}
        own = {key: one.payload for key, one in self._own(tenant).items()}
        found = {key: payload for key, payload in own.items() if holds(payload)}
        vector = self.random.random(2, np.float32).tolist()
        if self.random.random() < 0.5:
            vector = [0.5, 0.5]  # asked again and again, by everybody: what a cache keeps
        query = {"query": vector, "limit": 50, "with_payload": True, **body}
        older = {"vector": vector, "limit": 50, "with_payload": True, **body}
        return [
            self._compare(tenant, "points/query", query, lambda result: result["points"], found),
            self._compare(
                tenant, "points/query/batch", {"searches": [query, query]}, lambda result: result[0]["points"], found
            ),
            self._compare(
                tenant, "points/query/batch", {"searches": [query, query]}, lambda result: result[1]["points"], found
            ),
            self._compare(tenant, "points/search", older, lambda result: result, found),
            self._compare(tenant, "points/scroll", {"limit": 50, **body}, lambda result: result["points"], found),
            self._compare(tenant, "points", {"ids": IDS}, lambda result: result, own),
            self._count(tenant, body, len(found)),
            self._get(tenant, self._some_ids()[0]),
        ]

    async def _compare(
        self, tenant: str, path: str, body: Document, points_of: Any, expected: dict[Any, Document]
    ) -> None:
        reply = await self.ask(tenant, "POST", path, body)
        assert reply.status == 200, reply.body
        points = points_of(orjson.loads(reply.body)["result"])
        assert {point["id"]: point["payload"] for point in points} == expected
        assert len(points) == len(expected), "a point is there twice"

    async def _count(self, tenant: str, body: Document, expected: int) -> None:
        reply = await self.ask(tenant, "POST", "points/count", body)
        assert reply.status == 200, reply.body
        assert orjson.loads(reply.body)["result"]["count"] == expected
        shown = orjson.loads((await self.ask(tenant, "GET", "")).body)["result"]
        assert shown["points_count"] == len(self._own(tenant))

    async def _get(self, tenant: str, key: Any) -> None:
        reply = await self.ask(tenant, "GET", f"points/{key}")
        if key not in self._own(tenant):
            assert reply.status == 404
            return
        assert orjson.loads(reply.body)["result"]["payload"] == self._own(tenant)[key].payload

    async def compare_all(self) -> None:
        """What is there, vectors too."""
        body = {"limit": 100, "with_vector": True}
        reply = await self.ask(None, "POST", "points/scroll", body)
        assert reply.status == 200, reply.body
        points = orjson.loads(reply.body)["result"]["points"]
        found = {point["id"]: (point["payload"], np.float32(point["vector"]).tolist()) for point in points}
        assert len(points) == len(found), "a point is there twice"
        assert found == {key: (one.payload, np.float32(one.vector).tolist()) for key, one in self.expected.items()}


@asynccontextmanager
async def over_shards(folder: Path, shard_count: int) -> AsyncIterator[tuple[Coordinator, RouterParts]]:
    """A cluster of shards with real sockets and logs, and a router's parts over it, with a result cache."""
    cluster = LocalCluster(folder, shard_count)
    coordinator = await cluster.connect()
    try:
        yield coordinator, RouterParts(cache=ResultCache(coordinator, CacheSettings()))
    finally:
        await coordinator.close()
        await asyncio.to_thread(cluster.stop)
