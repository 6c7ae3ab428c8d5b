"""The cluster as one caller sees it: finds the shards of a collection, fans out, merges.

One per router, on its loop. It follows the control plane's state by a long poll; a request that meets a state newer
than ours (a shard says StaleEpoch, a name is unknown) fetches it once and is tried again. Errors are ShoalErrors. How
a request is fanned out is cluster/fan_out.py's affair, how answers become one cluster/merge.py's.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeVar

import numpy as np

from cluster.batching import Answered, SearchBatcher
from cluster.catalogue_calls import CatalogueCalls, before
from cluster.fan_out import ShardRequest, fan_out
from cluster.gather import Outcome
from cluster.merge import merge_hits
from cluster.requests import CollectionStatistics, QueryHits, Record, SearchAnswer, SearchRequest, WriteReceipt
from cluster.shard_client import ShardClient
from cluster.state import CatalogueControl, ClusterState, CollectionState
from shards import messages
from shards.batch import PointBatch, Vectors, encode_batch_parts, encode_keys
from shards.distance import Distance, passes_threshold, scores
from shards.errors import NotFound, ShoalError, StaleEpoch, Unavailable
from shards.index import SearchPlan
from shards.messages import Target
from shards.nearest import Want
from shards.point_ids import key_array, key_list
from shards.schema import CollectionSpec
from shards.wire import Kind

POLL_S = 30.0
POLL_RETRY_S = 0.25
START_S = 60.0
PATIENCE_S = 15.0
"""How long a request waits for a shard that restarts (measured: about 2 s for 200,000 points)."""

log = logging.getLogger(__name__)
T = TypeVar("T")


class _SearchKey(NamedTuple):
    """What searches have in common that leave together. `parameters`: a SearchRequest without its vectors."""

    name: str
    dim: int
    parameters: tuple[Any, ...]
    deadline_s: float


class Coordinator:
    """See the module. `start` before anything else."""

    def __init__(self, control: CatalogueControl, secret: bytes, patience_s: float = PATIENCE_S) -> None:
        self._control = control
        self._secret = secret
        self._patience_s = patience_s
        self._state: ClusterState | None = None
        self._clients: dict[int, ShardClient] = {}
        self._watch_task: asyncio.Task[None] | None = None
        self._searches: SearchBatcher[_SearchKey, QueryHits] = SearchBatcher(self._search_alike)
        self.catalogue = CatalogueCalls(control, self._take)

    async def start(self) -> None:
        """Learn the cluster's state, then follow it."""
        self._take(await self._control.cluster_state(-1, START_S))
        self._watch_task = asyncio.get_running_loop().create_task(self._watch())

    async def close(self) -> None:
        """Close the connections to the shards."""
        if self._watch_task is not None:
            self._watch_task.cancel()
        for client in self._clients.values():
            client.close()

    @property
    def state(self) -> ClusterState:
        """The newest state that this router knows."""
        if self._state is None:
            raise Unavailable("the router does not know the cluster's state yet", 1.0)
        return self._state

    def collection(self, name: str) -> CollectionState:
        """The state of the collection of this name or alias. Raises NotFound."""
        found = self.state.find(name)
        if found is None:
            raise NotFound(f"Not found: Collection `{name}` doesn't exist!")
        return found

    async def create_collection(
        self,
        name: str,
        spec: CollectionSpec,
        shard_count: int | None,
        deadline_s: float,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Make a collection on the first `shard_count` shards. Raises Conflict where it exists."""
        self._take(await before(deadline_s, self._control.create_collection(name, spec, shard_count, settings)))

    async def delete_collection(self, name: str, deadline_s: float) -> bool:
        """Delete a collection; False where there is none (an alias is none)."""
        try:
            self._take(await before(deadline_s, self._control.delete_collection(name)))
        except NotFound:
            return False
        return True

    async def upsert(self, name: str, batch: PointBatch, deadline_s: float) -> WriteReceipt:
        """Write points; returns when every shard has made its part durable and visible."""

        def bodies(collection: CollectionState) -> dict[int, list[Any]]:
            parts = collection.shard_map.split_by_shard(batch.keys)
            whole = len(parts) == 1
            return {
                shard_id: encode_batch_parts(batch if whole else batch.take(rows)) for shard_id, rows in parts.items()
            }

        return await self._write(name, Kind.UPSERT, bodies, deadline_s)

    async def delete(self, name: str, keys: list[int], deadline_s: float) -> WriteReceipt:
        """Delete points; ids that do not exist are no error."""
        array = key_array(keys)

        def bodies(collection: CollectionState) -> dict[int, list[Any]]:
            parts = collection.shard_map.split_by_shard(array)
            return {shard_id: [encode_keys(array[rows])] for shard_id, rows in parts.items()}

        return await self._write(name, Kind.DELETE, bodies, deadline_s)

    async def retrieve(
        self, name: str, keys: list[int], with_payload: bool, with_vectors: bool, deadline_s: float
    ) -> list[Record]:
        """The points of the ids, in the order asked; missing ones are left out."""
        array = key_array(keys)
        flags = bytes([with_payload | with_vectors << 1]) + bytes(7)

        async def ask(collection: CollectionState) -> list[Record]:
            parts = collection.shard_map.split_by_shard(array)
            target = _target(collection).encode()
            bodies = {shard_id: [target + flags, encode_keys(array[rows])] for shard_id, rows in parts.items()}
            replies = await self._ask(ShardRequest(Kind.RETRIEVE, bodies, messages.decode_records), deadline_s)
            return _records_in_order(replies.values(), keys, with_vectors)

        return await self._on_current_state(name, ask) if keys else []

    async def count(self, name: str, deadline_s: float) -> int:
        """Points in the collection, exactly."""
        return sum((await self._ask_all(name, Kind.COUNT, messages.decode_written, deadline_s)).values())

    async def statistics(self, name: str, deadline_s: float) -> list[CollectionStatistics]:
        """What each shard says of its part, by shard id."""
        replies = await self._ask_all(name, Kind.STATISTICS, messages.decode_json, deadline_s)
        return [CollectionStatistics(**replies[shard_id]) for shard_id in sorted(replies)]

    async def search(self, name: str, request: SearchRequest, deadline_s: float) -> SearchAnswer:
        """The nearest points to each query. Searches that ask alike share their way (cluster/batching.py)."""
        key = _SearchKey(name, request.vectors.shape[1], request[1:], deadline_s)
        return SearchAnswer(await self._searches.search(key, request.vectors), 1.0)

    async def probe(self, deadline_s: float) -> None:
        """A real search against every shard of some collection; where there is none, a ping of every shard."""
        names = sorted(self.state.collections)
        if names:
            dim = self.collection(names[0]).spec.vector.size
            query = np.full((1, dim), dim**-0.5, np.float32)
            await self.search(names[0], SearchRequest(query, k=1), deadline_s)
        bodies: dict[int, list[Any]] = {shard.shard_id: [] for shard in self.state.shards}
        await self._ask(ShardRequest(Kind.PING, bodies, bytes), deadline_s)

    async def _search_alike(self, key: _SearchKey, vectors: Vectors, answered: Answered) -> list[QueryHits]:
        request = SearchRequest(vectors, *key.parameters)
        return await self._on_current_state(key.name, partial(self._search, request, key.deadline_s, answered))

    async def _search(
        self, request: SearchRequest, deadline_s: float, answered: Answered, collection: CollectionState
    ) -> list[QueryHits]:
        plan = SearchPlan(request.k + request.offset, request.ef or collection.spec.hnsw.ef_search, request.exact)
        want = Want(request.with_payload, request.with_vectors)
        body = messages.encode_search(_target(collection), plan, want, request.vectors)
        bodies = dict.fromkeys(collection.shard_map.shard_ids, body)
        replies = await self._ask(ShardRequest(Kind.SEARCH, bodies, messages.decode_hits), deadline_s)
        answered()
        hits = merge_hits(list(replies.values()), request.k, request.offset)
        if request.score_threshold is not None:
            distance = collection.spec.vector.distance
            hits = [_cut_at_threshold(one, request.score_threshold, distance) for one in hits]
        return hits

    async def _write(
        self, name: str, kind: Kind, bodies_of: Callable[[CollectionState], dict[int, list[Any]]], deadline_s: float
    ) -> WriteReceipt:
        op_id = uuid.uuid4().bytes  # the same for every try: a shard that applied it already says so

        async def ask(collection: CollectionState) -> WriteReceipt:
            parts = bodies_of(collection)
            if not parts:
                return WriteReceipt(0)
            target = _target(collection)
            bodies = {shard_id: messages.encode_write(target, op_id, part) for shard_id, part in parts.items()}
            replies = await self._ask(ShardRequest(kind, bodies, messages.decode_written), deadline_s)
            return WriteReceipt(max(replies.values()))

        return await self._on_current_state(name, ask)

    async def _ask_all(
        self, name: str, kind: Kind, decode: Callable[[memoryview], T], deadline_s: float
    ) -> Mapping[int, T]:
        async def ask(collection: CollectionState) -> Mapping[int, T]:
            bodies = {shard_id: [_target(collection).encode()] for shard_id in collection.shard_map.shard_ids}
            return await self._ask(ShardRequest(kind, bodies, decode), deadline_s)

        return await self._on_current_state(name, ask)

    async def _ask(self, request: ShardRequest, deadline_s: float) -> Mapping[int, Any]:
        outcome = await fan_out(self._clients, request, deadline_s, self._patience_s)
        if outcome.failures:
            raise _failure(outcome)
        return outcome.replies

    async def _on_current_state(self, name: str, ask: Callable[[CollectionState], Awaitable[T]]) -> T:
        """Ask with the state we know; where it turns out to be old, once more with the newest."""
        try:
            return await ask(self.collection(name))
        except (StaleEpoch, NotFound):
            await self.catalogue.refresh()
            return await ask(self.collection(name))

    def _take(self, state: ClusterState) -> None:
        if self._state is not None and state.version <= self._state.version:
            return
        self._state = state
        for shard in state.shards:
            client = self._clients.get(shard.shard_id)
            if client is None:
                client = self._clients[shard.shard_id] = ShardClient(shard.shard_id, state.cluster_id, self._secret)
            address = None if shard.address is None else (shard.address.host, shard.address.port)
            client.retarget(address, shard.incarnation)

    async def _watch(self) -> None:
        while True:
            try:
                self._take(await self._control.cluster_state(self.state.version, POLL_S))
            except asyncio.CancelledError:
                raise
            except Exception as error:
                log.warning("the control plane does not answer (%s); searches and writes go on without it", error)
                await asyncio.sleep(POLL_RETRY_S)


def _target(collection: CollectionState) -> Target:
    return _target_of(collection.uid, collection.shard_map.epoch)


@lru_cache(maxsize=1024)
def _target_of(uid: str, epoch: int) -> Target:
    return Target(bytes.fromhex(uid), epoch)


def _failure(outcome: Outcome) -> ShoalError:
    """The error to raise: a lasting one first (it tells the caller what to change), else the first shard's."""
    errors = list(outcome.failures.values())
    return next((error for error in errors if not error.transient), errors[0])


def _records_in_order(replies: Any, keys: list[int], with_vectors: bool) -> list[Record]:
    found: dict[int, Record] = {}
    for records in replies:
        batch = records.batch
        versions = records.versions.tolist()
        for row, key in enumerate(key_list(batch.keys)):
            vector = batch.vectors[row] if with_vectors else None
            found[key] = Record(key, versions[row], batch.payload(row), vector)
    return [found[key] for key in keys if key in found]


def _cut_at_threshold(hits: QueryHits, score_threshold: float, distance: Distance) -> QueryHits:
    found = scores(np.array(hits.distances, np.float32), distance)
    return hits.first(int(passes_threshold(found, score_threshold, distance).sum()))
