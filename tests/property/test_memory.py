"""The memory model and the budget, whatever the sizes and whatever comes: never negative, always the sum of the parts,
never more for less; and a real collection's figures through writes, seals and restarts.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import astuple
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from shards import sealing
from shards.memory import (
    CollectionSize,
    GraphKind,
    GraphSize,
    GrowingSize,
    MemoryParts,
    SealedSize,
    growing_parts,
    parts_of,
    sealed_parts,
    total_of,
)
from shards.memory_account import size_of
from shards.memory_budget import MemoryBudget, MemoryLevel, MemoryPermit, MemoryThresholds
from tests.shard_oracle import SMALL, UID, WIDE_DIM, batch_of, delete_op, new_collection, reopened, spec_of, upsert_op

counts = st.integers(0, 10**7)
dims = st.integers(1, 65_536)
links = st.sampled_from([0, 2, 16, 128])
graph_kinds = st.builds(GraphKind, dims, links)


@st.composite
def growing_sizes(draw: st.DrawFn) -> GrowingSize:
    capacity = draw(counts)
    rows = draw(st.integers(0, capacity))
    live, large, documents = (draw(st.integers(0, rows)) for _ in range(3))
    return GrowingSize(draw(dims), capacity, rows, live, large, documents, draw(counts) if documents else 0)


@st.composite
def sealed_sizes(draw: st.DrawFn) -> SealedSize:
    m, rows = draw(links), draw(st.integers(1, 10**7))
    capacity = draw(st.integers(rows, 2 * rows)) if m else 0
    graphs = (GraphSize(draw(dims), m, capacity, rows),) if m else ()
    return SealedSize(graphs, rows, draw(st.integers(0, rows)), draw(st.booleans()))


collection_sizes = st.builds(
    CollectionSize,
    growing=growing_sizes(),
    frozen=st.lists(growing_sizes(), max_size=3).map(tuple),
    sealed=st.lists(sealed_sizes(), max_size=4).map(tuple),
    operation_count=st.integers(0, 65_536),
    searchers=st.integers(1, 64),
    graphs=st.lists(graph_kinds, max_size=3).map(tuple),
)


@given(size=collection_sizes, row=growing_sizes())
def test_no_part_is_negative_and_the_total_is_their_sum(size: CollectionSize, row: GrowingSize) -> None:
    parts = parts_of(size)
    assert min(astuple(parts)) >= 0
    assert parts.total == sum(astuple(parts)) == sum(parts.by_name().values())
    segments = [growing_parts(one) for one in (size.growing, *size.frozen)]
    segments += [sealed_parts(one, size.searchers) for one in size.sealed]
    assert total_of(segments).total <= parts.total
    more = parts_of(size._replace(frozen=(*size.frozen, row)))
    assert all(after >= before for before, after in zip(astuple(parts), astuple(more), strict=True))


class Reference:
    """The levels in the plainest way: two switches, each with its own memory."""

    def __init__(self) -> None:
        self.is_throttling = self.is_refusing = False

    def observe(self, used: int, limit: int) -> MemoryLevel:
        fraction = used / limit
        self.is_refusing = fraction >= (0.85 if self.is_refusing else 0.9)
        self.is_throttling = self.is_refusing or fraction >= (0.75 if self.is_throttling else 0.8)
        if self.is_refusing:
            return MemoryLevel.REFUSE
        return MemoryLevel.THROTTLE if self.is_throttling else MemoryLevel.NORMAL


events = st.lists(
    st.one_of(
        st.tuples(st.just("observe"), st.integers(0, 1_300)),
        st.tuples(st.just("reserve"), st.integers(0, 500)),
        st.tuples(st.just("release"), st.integers(0, 5)),
    ),
    max_size=40,
)


@given(events=events)
def test_a_budget_is_never_negative_and_its_level_is_the_reference_s(events: list[tuple[str, int]]) -> None:
    budget = MemoryBudget(1_000, MemoryThresholds(target=0.7, throttle=0.8, refuse=0.9, margin=0.05))
    reference, permits, lived = Reference(), list[MemoryPermit](), 0
    for what, value in events:
        if what == "observe":
            lived = value
            budget.observe(MemoryParts(graphs=value))
        elif what == "reserve":
            had_room, missing = budget.has_room_for(value), budget.bytes_to_free(value)
            permit = budget.reserve(value, "something")
            assert (permit is not None) is had_room
            assert had_room or missing > 0
            if permit is not None:
                permits.append(permit)
                assert budget.used_bytes < 900
        elif permits:
            budget.release(permits.pop(value % len(permits)))
        reserved = sum(permit.byte_count for permit in permits)
        assert (budget.reserved_bytes, budget.used_bytes) == (reserved, lived + reserved)
        assert budget.level is reference.observe(budget.used_bytes, 1_000)
        assert 0.0 <= budget.pressure <= 1.0


steps = st.lists(
    st.one_of(
        st.tuples(st.just("upsert"), st.lists(st.integers(0, 150), min_size=1, max_size=60)),
        st.tuples(st.just("delete"), st.lists(st.integers(0, 150), max_size=60)),
        st.tuples(st.sampled_from(["seal", "reopen"]), st.just([])),
    ),
    max_size=12,
)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(steps=steps)
def test_a_collection_s_figures_follow_from_what_it_holds(steps: list[tuple[str, list[int]]]) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        collection = new_collection(folder / UID, SMALL, spec_of(dim=WIDE_DIM))
        for what, keys in steps:
            if what == "upsert":
                collection.commit([upsert_op(batch_of(keys, dim=WIDE_DIM))], 1)
            elif what == "delete":
                collection.commit([delete_op(keys)], 1)
            elif what == "seal":
                sealing.seal_all(collection)
            else:
                collection.wal.close()
                collection = reopened(folder / UID, SMALL)
            size = size_of(collection)
            parts = parts_of(size)
            assert min(astuple(parts)) >= 0
            assert parts.total == sum(astuple(parts))
            assert bool(parts.graphs) is bool(collection.sealed)
            assert bool(parts.building) is bool(collection.frozen)
            rows = sum(one.row_count for one in (size.growing, *size.frozen, *size.sealed))
            assert rows == sum(segment.row_count for segment in collection.segments())
            live = sum(one.live_count for one in (size.growing, *size.frozen))
            assert live + sum(sealed.live_count for sealed in collection.sealed) == collection.count()
    finally:
        shutil.rmtree(folder)
