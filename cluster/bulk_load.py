"""One bulk load into one collection: streams batches to all its shards at once, then makes them count together.

    begin      every shard makes a builder
    add        rows go to their shards; at most `WINDOW` batches a shard are on the way, to bound memory
    finish     every shard makes its segment durable (prepare); only when all have, every shard attaches it (commit)
    abort      nothing is left

Until `finish` nobody sees a row. A shard that restarts before it has prepared ends the load (its builder is gone);
one that restarts later still has the segment: the commit is repeated until it took effect, and takes effect once.

In a collection with a tenant field rows go where their payload says. A load looks for no older points of its ids under
other tenants: an id that may have changed its tenant is upserted, or deleted before the load.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from cluster.shard_client import ShardClient
from cluster.state import ClusterState
from cluster.tenants import split_points
from shards import messages
from shards.batch import PointBatch, encode_batch_parts
from shards.errors import Internal, NotFound, ShardUnavailable, ShoalError
from shards.messages import Target
from shards.wire import Kind

WINDOW = 3
STEP_S = 600.0
"""One step's deadline: a batch is inserted in seconds, a graph of a few GiB is written and read back in minutes."""
COMMIT_S = 120.0
COMMIT_RETRY_S = 0.25
CAPACITY_SLACK = 1.1
"""Slots are even within a few percent; a builder that runs over doubles its room."""

FetchState = Callable[[], Awaitable[ClusterState]]


@dataclass(frozen=True, slots=True)
class LoadCounts:
    """rows: sent; superseded: those that a later row with the same id replaced."""

    rows: int
    superseded: int


class BulkLoad:
    """See the module. `fetch_state` gives the cluster's newest state (shards move when they restart)."""

    def __init__(self, fetch_state: FetchState, secret: bytes, collection: str) -> None:
        self._fetch_state = fetch_state
        self._secret = secret
        self._name = collection
        self._session = uuid.uuid4().bytes
        self._clients: dict[int, ShardClient] = {}
        self._windows: dict[int, asyncio.Semaphore] = {}
        self._sending: set[asyncio.Task[None]] = set()
        self._rows_prepared: dict[int, int] = {}
        self._failure: ShoalError | None = None
        self.rows_done = 0

    async def begin(self, expected_rows: int) -> None:
        """Make a builder on every shard, with room for its part of the rows."""
        state = await self._fetch_state()
        collection = state.find(self._name)
        if collection is None:
            raise NotFound(f"Not found: Collection `{self._name}` doesn't exist!")
        self._map, self._tenant_field = collection.shard_map, collection.tenant_field
        self._target = Target(bytes.fromhex(collection.uid), self._map.epoch)
        self._retarget(state)
        share = {"expected_rows": int(expected_rows / len(self._map.shard_ids) * CAPACITY_SLACK) + 1}
        self._begin_body = messages.encode_json(share)
        await self._on_all(lambda shard_id: self._call(shard_id, Kind.BULK_BEGIN, self._begin_body))

    async def add(self, batch: PointBatch) -> None:
        """Send prepared or raw vectors (shards prepare them). Returns when they are on their way; raises what failed
        before.
        """
        for shard_id, rows in split_points(self._map, self._tenant_field, batch).items():
            await self._windows[shard_id].acquire()
            self._raise_failure()
            task = asyncio.create_task(self._send(shard_id, batch.take(rows)))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def finish(self) -> LoadCounts:
        """Make the load count, whole, on every shard."""
        while self._sending:
            await asyncio.wait(self._sending)
        self._raise_failure()
        counts = await self._on_all(self._prepare)
        await self._on_all(self._commit)
        return LoadCounts(sum(count["rows"] for count in counts), sum(count["superseded"] for count in counts))

    async def abort(self) -> None:
        """Leave nothing behind, as far as shards can be reached."""
        for task in self._sending:
            task.cancel()
        bodies = [self._call(shard_id, Kind.BULK_ABORT, []) for shard_id in self._windows]
        await asyncio.gather(*bodies, return_exceptions=True)

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            client.close()

    def _retarget(self, state: ClusterState) -> None:
        for shard in state.shards:
            if shard.shard_id in self._map.shard_ids:
                client = self._clients.get(shard.shard_id)
                if client is None:
                    client = ShardClient(shard.shard_id, state.cluster_id, self._secret)
                    self._clients[shard.shard_id] = client
                    self._windows[shard.shard_id] = asyncio.Semaphore(WINDOW)
                address = None if shard.address is None else (shard.address.host, shard.address.port)
                client.retarget(address, shard.incarnation)

    async def _send(self, shard_id: int, batch: PointBatch) -> None:
        try:
            await self._call(shard_id, Kind.BULK_ROWS, encode_batch_parts(batch))
            self.rows_done += len(batch)
        except (ShoalError, TimeoutError) as error:
            self._failure = self._failure or (
                error
                if isinstance(error, ShoalError)
                else ShardUnavailable(f"shard {shard_id} did not answer in time")
            )
        finally:
            self._windows[shard_id].release()

    async def _prepare(self, shard_id: int) -> dict[str, int]:
        counts: dict[str, int] = messages.decode_json(await self._call(shard_id, Kind.BULK_PREPARE, []))
        self._rows_prepared[shard_id] = counts["rows"]
        return counts

    async def _commit(self, shard_id: int) -> None:
        give_up_at = asyncio.get_running_loop().time() + COMMIT_S
        while True:
            try:
                await self._call(shard_id, Kind.BULK_COMMIT, [])
                return
            except NotFound:
                await self._prepare_again(shard_id)
            except ShardUnavailable:
                if asyncio.get_running_loop().time() > give_up_at:
                    raise
                await asyncio.sleep(COMMIT_RETRY_S)
                self._retarget(await self._fetch_state())

    async def _prepare_again(self, shard_id: int) -> None:
        """The shard restarted between prepare and commit: it has the segment, it only has to find it again."""
        await self._call(shard_id, Kind.BULK_BEGIN, self._begin_body)
        expected = self._rows_prepared[shard_id]
        found = await self._prepare(shard_id)
        if found["rows"] != expected:
            raise Internal(
                f"shard {shard_id} has {found['rows']} of the load's {expected} rows after its restart; load again"
            )

    async def _call(self, shard_id: int, kind: Kind, parts: list[Any]) -> memoryview:
        body = messages.encode_write(self._target, self._session, parts)
        return (await self._clients[shard_id].call(kind, body, STEP_S)).body

    async def _on_all(self, step: Callable[[int], Awaitable[Any]]) -> list[Any]:
        return await asyncio.gather(*(step(shard_id) for shard_id in self._map.shard_ids))

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
