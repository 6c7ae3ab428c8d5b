"""The memory model: how many bytes of the heap a shard's parts take, before they are made and while they live.

Pure arithmetic over sizes (rows, dimensions, capacities); nothing here looks at a point. `parts_of` says what a
collection holds, `predict` what one of n points will hold at rest. What is done about it is decided elsewhere:
shards/memory_budget.py, shards/memory_account.py.

- Counted is what is reserved, touched or not: a growing segment's arrays and a graph's rows from the moment that they
  are made, a search's scratch for as many searchers as there may be. So a figure never falls short of what a full
  segment needs, and lies above the resident bytes of one that is not full yet.
- Not counted: mapped files (vectors, keys and payloads of sealed segments; the system takes them back when it needs
  them), the interpreter and its libraries (about 65 MiB in a shard's process), the matrices of a search under way,
  messages on their way, and what the allocator keeps of freed memory.

The constants are the sizes of hnswlib 0.8's, libstdc++'s and CPython 3.11's own structures on 64 bits. Source of each:
its docstring; checked against the growth of anonymous memory by benchmarks/memory_part.py (within 10 %).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import NamedTuple

GRAPH_FIXED_BYTES = 65_536 * 40
"""hnswlib's lock table for labels: MAX_LABEL_OPERATION_LOCKS mutexes of 40 bytes, in every graph, however small."""

LOCK_BYTES, LEVEL_BYTES = 40, 4
"""Of each row that a graph has room for: a std::mutex, and an int for its level."""

ROW_LIST_BYTES = 8
"""Of each row that has a vector which not all have: its number."""

LABEL_BYTES = 32 + 12
"""Of each row of a graph: its node in the label map (24 bytes in a malloc chunk of 32), and its part of the buckets (8
bytes each, one to two a row as the table doubles)."""

UPPER_CHUNK_BYTES = 9
"""What malloc adds to the upper links of a row that has some, by its header and by rounding to 16 bytes, and hnswlib by
one byte."""

VISITED_BYTES = 2
"""Of each row that a graph has room for and each concurrent searcher: its mark in hnswlib's list of visited rows."""

SEGMENT_BYTES = 12 * 1024
"""A sealed segment's Python objects: its header, seven mapped files, arrays over them."""

COLLECTION_BYTES = 48 * 1024
"""A collection's Python objects: log, specification, committer with its disk thread's bookkeeping."""

KEY_BYTES, LARGE_KEY_BYTES = 32, 48
"""An int object below 2**60, and a larger one (a UUID's key has five digits of 30 bits)."""

LARGE_KEY = 1 << 60

LIST_SLOT_BYTES = 9
"""A list's pointer, and its share of the eighth that a growing list keeps free."""

ROW_NUMBER_BYTES = 32
"""An int object: the row that a key's dict entry holds."""

DOCUMENT_BYTES = 33 + 8
"""A bytes object beyond its content: its header, and the rounding to 16 bytes."""

OPERATION_BYTES = 64 + 32
"""An operation id (16 bytes as an object) and its LSN, beside their dict entry."""

BUILD_ROW_BYTES = 40
"""Of each row of a segment in the making: keys twice, their order, payload length and offset."""


class GraphKind(NamedTuple):
    """Graphs of one vector: its components, and links a node."""

    dim: int
    m: int


class GraphSize(NamedTuple):
    """One graph, `row_count` of whose room for `capacity` rows are used."""

    dim: int
    m: int
    capacity: int
    row_count: int


class GrowingSize(NamedTuple):
    """A growing or frozen segment. `dim`: components of a row; `large_key_count`: rows whose key is above LARGE_KEY;
    `document_count`: rows that have a payload; `payload_bytes`: of those documents together. Dead rows are among all of
    these: they take as much.
    """

    dim: int
    capacity: int
    row_count: int
    live_count: int
    large_key_count: int
    document_count: int
    payload_bytes: int


class SealedSize(NamedTuple):
    """A sealed segment. `named_row_count`: rows listed because not all have their vector; `has_dead`: whether a row has
    died; `filter_bytes`: what is remembered of filters (shards/filter_memo.py).
    """

    graphs: tuple[GraphSize, ...]
    row_count: int
    named_row_count: int
    has_dead: bool
    filter_bytes: int = 0


class CollectionSize(NamedTuple):
    """A collection. `frozen`: the first of them is being sealed, or about to be; `searchers`: how many threads may
    search at once; `graphs`: those that are to be built of every segment.
    """

    growing: GrowingSize
    frozen: tuple[GrowingSize, ...]
    sealed: tuple[SealedSize, ...]
    operation_count: int
    searchers: int
    graphs: tuple[GraphKind, ...]


class CollectionPlan(NamedTuple):
    """A collection that is still to be filled. `payload_bytes`: of one point, 0 for none; `growing_capacity`: rows of
    its growing segment (shards/growing.py: `rows_that_fit`); every point has every vector.
    """

    point_count: int
    dim: int
    graphs: tuple[GraphKind, ...]
    payload_bytes: int
    growing_capacity: int
    searchers: int = 2


@dataclass(frozen=True, slots=True)
class MemoryParts:
    """Bytes on the heap, by what they are for.

    graphs: links, vectors and bookkeeping of hnswlib; growing: vectors and versions of rows without a graph; ids: keys
    of these rows, and the way from a key to its row; payloads: documents of these rows; bitmaps: which rows live;
    history: operations that may be repeated; scratch: hnswlib's visited lists; building: a segment in the making;
    objects: what each collection and each segment takes, however small.
    """

    graphs: int = 0
    growing: int = 0
    ids: int = 0
    payloads: int = 0
    bitmaps: int = 0
    history: int = 0
    scratch: int = 0
    building: int = 0
    objects: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.by_name().values())

    def by_name(self) -> dict[str, int]:
        """Bytes by part."""
        return {name: getattr(self, name) for name in PART_NAMES}

    def to_json(self) -> dict[str, int]:
        """Bytes by part, and their `total`."""
        return {**self.by_name(), "total": self.total}


PART_NAMES = tuple(field.name for field in fields(MemoryParts))


def total_of(parts: Iterable[MemoryParts]) -> MemoryParts:
    """The sum of several, part by part."""
    columns = zip(*(one.by_name().values() for one in (MemoryParts(), *parts)), strict=True)
    return MemoryParts(*map(sum, columns))


def graph_bytes(dim: int, m: int, capacity: int, row_count: int | None = None) -> int:
    """Heap bytes of a graph with room for `capacity` rows, `row_count` of which it has (None: all).

    For each row that there is room for: 2m links and a count on layer 0 (4 bytes each), the vector, the label, a
    pointer to the upper links, a lock, a level. For each row that there is: its label's entry; a row has upper links
    (m and a count a layer) with probability 1/m, on 1/(m - 1) layers on average. 0 for `m` 0: no graph.
    """
    if not m:
        return 0
    row_count = capacity if row_count is None else row_count
    room = capacity * ((8 * m + 4) + 4 * dim + 8 + 8 + LOCK_BYTES + LEVEL_BYTES)
    upper = row_count * (4 * m + 4) // (m - 1) + row_count * UPPER_CHUNK_BYTES // m
    return GRAPH_FIXED_BYTES + room + row_count * LABEL_BYTES + upper


def scratch_bytes(capacity: int, searchers: int) -> int:
    """What `searchers` threads that search one graph at once keep there for good."""
    return VISITED_BYTES * capacity * searchers


def building_bytes(graphs: Sequence[GraphKind], row_count: int, payload_bytes: int = 0) -> int:
    """The most that a segment in the making takes beside its source: its graphs, the columns that wait for its files,
    and `payload_bytes` that are copied at once (a seal's; a load's go to their file batch by batch).
    """
    grown = sum(graph_bytes(kind.dim, kind.m, row_count) + scratch_bytes(row_count, 1) for kind in graphs)
    return grown + row_count * BUILD_ROW_BYTES + payload_bytes


def dict_bytes(entry_count: int) -> int:
    """A dict that grew to so many entries: CPython doubles its table when two thirds of it are used. An entry takes 24
    bytes, a place in the table 1, 2 or 4.
    """
    size = 8
    while entry_count > size * 2 // 3:
        size *= 2
    index_bytes = 1 if size < 1 << 8 else 2 if size < 1 << 16 else 4
    return size * index_bytes + (size * 2 // 3) * 24


def growing_parts(size: GrowingSize) -> MemoryParts:
    """One growing or frozen segment. Its arrays count whole from the start, its Python objects as they come."""
    keys = size.row_count * KEY_BYTES + size.large_key_count * (LARGE_KEY_BYTES - KEY_BYTES)
    slots = size.row_count * LIST_SLOT_BYTES
    return MemoryParts(
        growing=size.capacity * (4 * size.dim + 8),
        ids=keys + slots + size.row_count * ROW_NUMBER_BYTES + dict_bytes(size.row_count),
        payloads=slots + size.document_count * DOCUMENT_BYTES + size.payload_bytes,
        bitmaps=size.capacity,
    )


@lru_cache(maxsize=4096)
def sealed_parts(size: SealedSize, searchers: int) -> MemoryParts:
    """One sealed segment. Kept, for a collection is asked after every commit, and its segments seldom change."""
    return MemoryParts(
        graphs=sum(graph_bytes(*graph) for graph in size.graphs),
        bitmaps=(size.row_count if size.has_dead else 0) + ROW_LIST_BYTES * size.named_row_count + size.filter_bytes,
        scratch=sum(scratch_bytes(graph.capacity, searchers) for graph in size.graphs),
        objects=SEGMENT_BYTES,
    )


def parts_of(size: CollectionSize) -> MemoryParts:
    """All that a collection holds. Cost: the number of its segments."""
    rest = MemoryParts(
        history=history_bytes(size.operation_count),
        building=_seal_bytes(size),
        objects=COLLECTION_BYTES,
    )
    growing = [growing_parts(one) for one in (size.growing, *size.frozen)]
    return total_of([rest, *growing, *(sealed_parts(one, size.searchers) for one in size.sealed)])


def predict(plan: CollectionPlan) -> MemoryParts:
    """What a collection of `point_count` points holds at rest: one graph of all of them, and a growing segment that is
    full again.
    """
    count, capacity = plan.point_count, plan.growing_capacity
    rows = min(count, capacity)
    documents = rows if plan.payload_bytes else 0
    growing = GrowingSize(plan.dim, capacity, rows, rows, 0, documents, documents * plan.payload_bytes)
    graphs = tuple(GraphSize(*kind, count, count) for kind in plan.graphs)
    sealed = SealedSize(graphs, count, 0, has_dead=False)
    segments = (sealed,) if count else ()
    return parts_of(CollectionSize(growing, (), segments, 0, plan.searchers, plan.graphs))


def freed_by_sealing(size: GrowingSize, graphs: Sequence[GraphKind]) -> int:
    """Bytes that the heap loses for good when a segment gets its graphs; negative where they take more than the
    rows did. Rows that died are left out of the graphs, and payloads go to a mapped file.
    """
    parts = growing_parts(size)
    kept = 0
    if size.live_count:
        kept = SEGMENT_BYTES + sum(graph_bytes(kind.dim, kind.m, size.live_count) for kind in graphs)
    return parts.ids + parts.payloads - kept


def history_bytes(operation_count: int) -> int:
    """The operations of a collection that may be repeated. Old ones leave while new ones come, so their dict's table is
    made for more than live.
    """
    return operation_count * OPERATION_BYTES + dict_bytes(operation_count * 3 // 2) if operation_count else 0


def _seal_bytes(size: CollectionSize) -> int:
    if not size.frozen:
        return 0
    frozen = size.frozen[0]
    copied = frozen.live_count * 4 * frozen.dim + frozen.payload_bytes
    return building_bytes(size.graphs, frozen.live_count, copied)
