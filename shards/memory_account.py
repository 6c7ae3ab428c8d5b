"""A shard's memory in the books: what each of its collections holds, and who may take more.

One for all collections of a shard, on its loop. It asks the model (shards/memory.py) what lives, tells the budget
(shards/memory_budget.py), and turns its verdicts into what writers meet: a delay, or MemoryExhausted with the reason.
What is held to the limit is the model's sum, not what the system measures: it is the same on every machine, and known
before the memory is taken. The measured figures are reported beside it (shards/resident.py).

Let in at every level: deletes, searches, and the attach of a load that has its permit. Opening what is on the disk is
never refused, nor is the seal of rows that were acknowledged.
"""

from __future__ import annotations

from typing import Any, Protocol

from shards.collection import ShardCollection
from shards.errors import MemoryExhausted
from shards.growing import rows_that_fit
from shards.hnsw import has_graph
from shards.log_frame import OpKind
from shards.memory import (
    CollectionPlan,
    CollectionSize,
    GraphKind,
    MemoryParts,
    building_bytes,
    freed_by_sealing,
    parts_of,
    predict,
    total_of,
)
from shards.memory_budget import MemoryBudget, MemoryLevel, MemoryPermit, MemoryThresholds
from shards.resident import Resident
from shards.schema import CollectionSpec
from shards.settings import ShardSettings

RETRY_AFTER_S = 5.0
THROTTLE_DELAY_S_MAX = 0.2
"""How long a group of writes is held back just below `refuse`; an fsync takes a fortieth of it. A client that waits for
its answers is slowed to five writes a second, and a group that waited longer is larger, so the log keeps its pace."""

SEAL_FREES_FRACTION_MIN = 0.01
"""Of the limit: what sealing a growing segment early has to free to be worth a graph."""

TO_DO = "delete points, drop a collection, or raise shards.memory_bytes_max"


class Weighed(Protocol):
    """What is asked of a write: a LogOp, or one that becomes some."""

    @property
    def kind(self) -> OpKind: ...

    @property
    def body(self) -> bytes | memoryview: ...


class MemoryAccount:
    """See the module. `owner` names the shard in sentences."""

    def __init__(self, settings: ShardSettings, owner: str = "this shard") -> None:
        self.budget = MemoryBudget(settings.memory_bytes_max, MemoryThresholds.of(settings))
        self.owner = owner
        self._settings = settings
        self.queued_bytes = 0
        """Of writes that wait for the log."""
        self._parts: dict[ShardCollection, MemoryParts] = {}

    def __repr__(self) -> str:
        return f"<MemoryAccount of {self.owner}: {self.budget!r}, {len(self._parts)} collections>"

    def observe(self, collection: ShardCollection) -> None:
        """Take note of what a collection holds now. Cost: its segments, not its points."""
        self._parts[collection] = parts_of(size_of(collection))
        self.budget.observe(total_of(self._parts.values()))

    def forget(self, collection: ShardCollection) -> None:
        """It is no longer held. Harmless to repeat."""
        self._parts.pop(collection, None)
        self.budget.observe(total_of(self._parts.values()))

    def check_new(self, spec: CollectionSpec) -> None:
        """Raises MemoryExhausted where a new collection's growing segment finds no room."""
        byte_count = predict(plan_for(spec, self._settings, 0)).total
        if not self.budget.has_room_for(byte_count):
            raise self._exhausted(f"a new collection of {spec.layout.dim} dimensions", byte_count)

    def admit(self, op: Weighed) -> MemoryExhausted | None:
        """Let a write wait for the log, until it is `finish`ed; or the reason why an upsert may not.

        Returned, not raised: the error goes into a future, and with a traceback it would hold the frame that holds the
        future, and by it the collection, after its drop.
        """
        byte_count = len(op.body)
        if op.kind is OpKind.UPSERT and not self.budget.has_room_for(self.queued_bytes + byte_count):
            return self._exhausted("upserts", self.queued_bytes + byte_count)
        self.queued_bytes += byte_count
        return None

    def finish(self, op: Weighed) -> None:
        """A write that was let in has had its effect, or failed."""
        self.queued_bytes -= len(op.body)

    def reserve(self, byte_count: int, purpose: str) -> MemoryPermit:
        """A permit for something big. Raises MemoryExhausted, saying what would have to be freed."""
        permit = self.budget.reserve(byte_count, purpose)
        if permit is None:
            raise self._exhausted(f"{byte_count:,} bytes for {purpose}", byte_count)
        return permit

    @property
    def is_short(self) -> bool:
        """Whether the shard has less memory left than it should."""
        return self.budget.level is not MemoryLevel.NORMAL

    def write_delay_s(self) -> float:
        """How long the next group of upserts is to be held back."""
        if not self.is_short:
            return 0.0
        return THROTTLE_DELAY_S_MAX * self.budget.pressure

    def is_sealing_a_relief(self, collection: ShardCollection, was_refused: bool = False) -> bool:
        """Whether to seal the growing segment before it is full: memory is short (or a write was just refused), and
        that frees some of it.
        """
        if not (was_refused or self.is_short) or collection.frozen or self.budget.limit_bytes is None:
            return False
        freed = freed_by_sealing(collection.growing.memory_size, graph_kinds(collection.spec))
        return freed >= self.budget.limit_bytes * SEAL_FREES_FRACTION_MIN

    def report(self, collection: ShardCollection, resident: Resident | None) -> dict[str, Any]:
        """How a collection and the whole shard stand, for statistics; all figures are bytes."""
        budget = self.budget
        return {
            "allocated": parts_of(size_of(collection)).to_json(),
            "predicted": predict(plan_of(collection)).to_json(),
            "mapped_bytes": sum(sealed.mapped_bytes for sealed in collection.sealed),
            "shard": {
                "level": budget.level.value,
                "used_bytes": budget.used_bytes,
                "limit_bytes": budget.limit_bytes,
                "reserved_bytes": budget.reserved_bytes,
                "queued_bytes": self.queued_bytes,
                "over_target_bytes": budget.bytes_over_target(),
                "allocated": budget.parts.to_json(),
                "resident": None if resident is None else resident.to_json(),
            },
        }

    def _exhausted(self, what: str, wanted_bytes: int) -> MemoryExhausted:
        message = f"{self.owner} refuses {what}: its {self.budget.in_words(wanted_bytes)}; {TO_DO}"
        return MemoryExhausted(message, RETRY_AFTER_S)


class LoadPermits:
    """What one bulk load has reserved: the segment that it builds, with room for the rows that it has announced, and
    for more when more come. Made before anything is allocated; raises MemoryExhausted.
    """

    def __init__(self, account: MemoryAccount, collection: ShardCollection, expected_rows: int) -> None:
        self._account = account
        self._kinds = graph_kinds(collection.spec)
        self._row_count = 0
        self._capacity = 0
        self._permits: list[MemoryPermit] = []
        self._grow_to(max(1, expected_rows))

    def add_rows(self, count: int) -> None:
        """Rows are about to be added. Raises MemoryExhausted where the graph's room has to be doubled and can't."""
        if self._row_count + count > self._capacity:
            self._grow_to(max(self._row_count + count, 2 * self._capacity))
        self._row_count += count

    def release(self) -> None:
        """The load is over. Harmless to repeat."""
        while self._permits:
            self._account.budget.release(self._permits.pop())

    def _grow_to(self, capacity: int) -> None:
        held = sum(permit.byte_count for permit in self._permits)
        needed = building_bytes(self._kinds, capacity) - held
        self._permits.append(self._account.reserve(needed, f"a load of {capacity:,} rows"))
        self._capacity = capacity


def size_of(collection: ShardCollection) -> CollectionSize:
    """What the memory model has to know of a collection. Cost: its segments."""
    return CollectionSize(
        growing=collection.growing.memory_size,
        frozen=tuple(frozen.growing.memory_size for frozen in collection.frozen),
        sealed=tuple(sealed.memory_size for sealed in collection.sealed),
        operation_count=len(collection.history),
        searchers=searchers_of(collection.settings),
        graphs=graph_kinds(collection.spec),
    )


def plan_of(collection: ShardCollection) -> CollectionPlan:
    """What its points would be planned as: the same number, with the growing segment's average payload."""
    growing = collection.growing.memory_size
    payload_bytes = growing.payload_bytes // growing.row_count if growing.row_count else 0
    return plan_for(collection.spec, collection.settings, collection.count(), payload_bytes)


def plan_for(
    spec: CollectionSpec, settings: ShardSettings, point_count: int, payload_bytes: int = 0
) -> CollectionPlan:
    """So many points, each with a payload of so many bytes, in a collection of this kind on one shard."""
    return CollectionPlan(
        point_count=point_count,
        dim=spec.layout.dim,
        graphs=graph_kinds(spec),
        payload_bytes=payload_bytes,
        growing_capacity=rows_that_fit(settings.seal_bytes, spec.layout.dim),
        searchers=searchers_of(settings),
    )


def graph_kinds(spec: CollectionSpec) -> tuple[GraphKind, ...]:
    """The graphs that its points are in: one for each vector whose distance has some."""
    return tuple(
        GraphKind(column.size, spec.hnsw_of(column).m) for column in spec.layout.columns if has_graph(column.distance)
    )


def searchers_of(settings: ShardSettings) -> int:
    """Threads that may search one graph at once: the loop, and those for batches."""
    return 1 + settings.search_threads
