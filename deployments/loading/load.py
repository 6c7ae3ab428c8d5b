"""One load: rows from a ParquetSource into one collection, by BulkLoad, all or nothing.

Decides the order of things: whatever can be refused is refused before a row is sent; the collection is made when the
order says so, and removed again if the load does not end well, also when it is cancelled. Once the shards are told to
attach their rows a cancellation waits: a load is there as a whole or not at all.

The shards build the graphs and take every core, so this process only reads, splits and sends: 399,000 rows of 50
components cost it about 3 s of CPU, 3 % of the load.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from cluster.bulk_load import BulkLoad
from cluster.state import ControlPlane
from deployments.loading.bad_rows import BadRowPolicy, fail
from deployments.loading.source import ParquetSource, SourceBatch
from deployments.loading.target import NewCollection, check_fits, existing_spec, new_spec
from shards.errors import Conflict, InvalidRequest, ShoalError
from shards.schema import CollectionSpec

BATCH_ROWS = 4096
"""A shard inserts its part in about half a second, and three are on the way to each: it never waits for reading."""
BATCH_VECTOR_BYTES_MAX = 16 * 1024 * 1024
"""All vectors of a batch: bounds this process's memory, and keeps frames far below the shards' limit of 128 MiB."""
PROGRESS_S = 0.2

Phase = Literal["loading", "finishing"]
_T = TypeVar("_T")


class LoadObserver(Protocol):
    """Who is told how a load goes. Called on the loop: return at once."""

    def progress(self, phase: Phase, rows_done: int, row_count: int) -> None:
        """`rows_done` rows have their place in a shard's graph. Called about five times a second."""
        ...

    def warn(self, text: str) -> None: ...


class Silent:
    """A LoadObserver that tells nobody."""

    def progress(self, phase: Phase, rows_done: int, row_count: int) -> None: ...

    def warn(self, text: str) -> None: ...


@dataclass(frozen=True, slots=True)
class LoadOrder:
    """`create` None: the collection exists. `batch_rows` is lowered where vectors are large."""

    source: ParquetSource
    collection: str
    create: NewCollection | None = None
    batch_rows: int = BATCH_ROWS
    on_bad_row: BadRowPolicy = fail

    def batch_rows_fitting(self, spec: CollectionSpec) -> int:
        """A row has room for every vector of the collection, also for those that the source does not have."""
        return max(1, min(self.batch_rows, BATCH_VECTOR_BYTES_MAX // (4 * spec.layout.dim)))


@dataclass(frozen=True, slots=True)
class LoadReport:
    """rows: loaded; replaced: those of them that a later row with the same id replaced; rejected: told to the policy;
    nulled: NaN and infinite payload numbers that became null.
    """

    rows: int
    replaced: int
    rejected: int
    nulled: int


async def load(
    order: LoadOrder, control: ControlPlane, secret: bytes, observer: LoadObserver | None = None
) -> LoadReport:
    """Run the order. `secret` is the cluster's, in its data folder.

    Raises Conflict for a collection to be made that exists, NotFound for one that should and does not,
    DimensionMismatch or InvalidRequest where the source's vectors and the collection's differ, and what the source, its
    policy or a shard raises. Nothing is left then.
    """
    observer = observer or Silent()
    async with _collection(order, control, observer) as spec:
        batches = order.source.batches(order.batch_rows_fitting(spec), spec, order.on_bad_row)
        # A first batch before a shard hears of the load: most of what is wrong with a file shows in it.
        first = await asyncio.to_thread(next, batches, None)
        bulk = BulkLoad(lambda: control.cluster_state(-1, 0), secret, order.collection)
        progress = _Progress(bulk, order.source.row_count, observer)
        ticking = asyncio.create_task(progress.tick())
        try:
            await bulk.begin(order.source.row_count)
            rejected, nulled = await _send(bulk, first, batches)
            if rejected == order.source.row_count:
                raise InvalidRequest(f"none of the {rejected} rows could be loaded")
            progress.phase = "finishing"
            counts = await _uninterrupted(bulk.finish())
        except BaseException:
            await bulk.abort()
            raise
        finally:
            ticking.cancel()
            bulk.close()
    return LoadReport(counts.rows, counts.superseded, rejected, nulled)


async def _send(bulk: BulkLoad, batch: SourceBatch | None, batches: Any) -> tuple[int, int]:
    """All rows, the next batch being read while one is sent. Returns how many were rejected, how many numbers nulled."""
    rejected = nulled = 0
    while batch is not None:
        rejected += batch.rejected_count
        nulled += batch.nulled_count
        reading = asyncio.create_task(asyncio.to_thread(next, batches, None))
        try:
            await bulk.add(batch.batch)
        except BaseException:
            with suppress(ShoalError):
                await reading
            raise
        batch = await reading
    return rejected, nulled


@asynccontextmanager
async def _collection(
    order: LoadOrder, control: ControlPlane, observer: LoadObserver
) -> AsyncIterator[CollectionSpec]:
    """What the collection is like; one that is made for the load goes with it."""
    name = order.collection
    state = await control.cluster_state(-1, 0)
    if order.create is None:
        spec = existing_spec(name, state)
        check_fits(order.source.vectors, name, spec)
        yield spec
        return
    if name in state.collections:
        raise Conflict(f"the collection `{name}` exists already; leave out --create to load into it")
    spec = new_spec(order.create, order.source.vectors)
    await _uninterrupted(control.create_collection(name, spec, None))
    try:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError
        yield spec
    except BaseException:
        try:
            await control.delete_collection(name)
        except ShoalError as error:
            observer.warn(f"the collection `{name}`, made for this load, could not be removed: {error.message}")
        raise


async def _uninterrupted(work: Coroutine[Any, Any, _T]) -> _T:
    """The outcome of `work`, which goes on to its end when the caller is cancelled meanwhile."""
    task = asyncio.create_task(work)
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([task])
    return task.result()


class _Progress:
    def __init__(self, bulk: BulkLoad, row_count: int, observer: LoadObserver) -> None:
        self.phase: Phase = "loading"
        self._bulk = bulk
        self._row_count = row_count
        self._observer = observer

    async def tick(self) -> None:
        while True:
            self._observer.progress(self.phase, self._bulk.rows_done, self._row_count)
            await asyncio.sleep(PROGRESS_S)
