"""What a caller asks of the cluster and what it gets back: the engine's own words, free of any API's spelling.

The HTTP layer fills these and the coordinator answers them. Pure data: vectors are numpy arrays that the caller has
already checked and prepared (`shards.distance.prepare_vectors`), payloads are JSON bytes, ids are keys
(`shards/point_ids.py`), distances are inner ones (they ascend).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cluster.search_times import SearchTimes
from shards.batch import Vectors
from shards.generations import Asked
from shards.hits import HitLists
from shards.vector_layout import UNNAMED


class SearchRequest(NamedTuple):
    """`nq` queries that share their parameters. vectors: float32 (nq, size of the vector), prepared.

    Each is answered with at most `k` points, after the `offset` nearest ones are skipped. `ef` None means the
    collection's own; `score_threshold` is a score as the API returns it, not a distance; `vector` is the name of the one
    that is compared; `filter` an encoded filter (shards/filters/parsing.py), b"" for none; `min_coverage` the fraction of
    the shards (0 to 1) that is enough for the caller: below 1 an answer may be partial.
    """

    vectors: Vectors
    k: int
    ef: int | None = None
    exact: bool = False
    score_threshold: float | None = None
    with_payload: bool = False
    with_vectors: bool = False
    offset: int = 0
    vector: str = UNNAMED
    filter: bytes = b""
    min_coverage: float = 1.0


class MissingShard(NamedTuple):
    """A shard whose points are not in an answer, and why: an error's code, and mostly its words."""

    shard_id: int
    reason: str


class QueryHits(NamedTuple):
    """What one query found, nearest first, as columns of equal length: distances, keys, versions (the LSN of each
    point's last write), and where asked for payloads (JSON bytes, b"" for none) and vectors: all of a point, float32
    (row dim,).
    """

    distances: Sequence[float]
    keys: Sequence[int]
    versions: Sequence[int]
    payloads: Sequence[bytes] | None = None
    vectors: Sequence[Vectors] | None = None

    def first(self, count: int) -> QueryHits:
        """The `count` nearest of these."""
        return QueryHits(
            self.distances[:count],
            self.keys[:count],
            self.versions[:count],
            None if self.payloads is None else self.payloads[:count],
            None if self.vectors is None else self.vectors[:count],
        )


class Footprint(NamedTuple):
    """What an answer depends on: these shards' parts of a collection, or only slots of them, by the texts of a field."""

    asked: Asked
    shard_ids: tuple[int, ...]


class Origin(NamedTuple):
    """What a query's hits were merged from: the shards' answers, each to several queries, and which of them it is."""

    replies: Mapping[int, HitLists]
    query: int


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """Merged hits of each query, offset applied. `coverage`: the fraction of the asked shards that answered, 0 to 1;
    `missing`: the others. An answer without all of them is never to be kept. `times`: when it was where; None where nobody
    took them. `origins`: of each query, where shards were asked, None or none at all where its answer can't be told from them.
    """

    hits: list[QueryHits]
    coverage: float
    times: SearchTimes | None = None
    origins: Sequence[Origin | None] = ()
    missing: tuple[MissingShard, ...] = ()


@dataclass(frozen=True, slots=True)
class PointCount:
    """How many points there are, on the shards that answered; `coverage` and `missing` as of a SearchAnswer."""

    count: int
    coverage: float = 1.0
    missing: tuple[MissingShard, ...] = ()


@dataclass(frozen=True, slots=True)
class WriteReceipt:
    """Where in the log the write stands."""

    lsn: int


@dataclass(frozen=True, slots=True)
class Record:
    """One stored point. payload: its JSON bytes, empty for none or where not asked for; vector: all of its vectors, float32
    (row dim,)."""

    key: int
    version: int
    payload: bytes
    vector: Vectors | None


@dataclass(frozen=True, slots=True)
class CollectionStatistics:
    """What one shard says of its part of a collection. `growing_count` points of `point_count` have no graph yet.

    `recall`: its own measurement of it (shards/recall_probe.py), None where there is none yet. `is_building`: graphs are
    being built or merged; `waits_for`: why a merge that is due is not made. `written_bytes`: what it wrote since it was
    started, to its log, by seals and by compactions.
    memory: bytes as shards/memory_account.py reports them: `allocated` and `predicted` by part, `mapped_bytes`, and how
    the whole shard stands under `shard` (level, used, limit, resident). Empty where a shard says nothing of it.
    """

    shard_id: int
    point_count: int
    segment_count: int
    growing_count: int
    bytes: int
    is_building: bool = False
    waits_for: str | None = None
    recall: dict[str, float] | None = None
    written_bytes: dict[str, int] = field(default_factory=dict)
    fields: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Declared payload fields, by path: `schema` (a FieldSchema as JSON), `points` (those that have a value)."""
    memory: Mapping[str, Any] = field(default_factory=dict)


class OrderBy(NamedTuple):
    """Points in the order of a payload field's numbers or dates (RFC 3339), ascending unless `descends`; those before
    `start_from` (a number, or a date as microseconds since 1970) are left out. `field` is a path
    (shards/filters/paths.py).
    """

    field: str
    descends: bool = False
    start_from: float | None = None


class ScrollRequest(NamedTuple):
    """Points in the order of their ids, from `offset` (a key) on, at most `limit`; or in that of `order_by`, without an
    offset. `filter`: an encoded filter (shards/filters/parsing.py), b"" for none. `min_coverage` as of a SearchRequest.
    """

    limit: int
    filter: bytes = b""
    offset: int | None = None
    order_by: OrderBy | None = None
    with_payload: bool = True
    with_vectors: bool = False
    min_coverage: float = 1.0


@dataclass(frozen=True, slots=True)
class ScrollPage:
    """`next_key`: the first point that is not on the page, None where there is none, or with `order_by`. `order_values`:
    what each record was ordered by, where it was: numbers; dates as microseconds. `coverage` and `missing` as of a
    SearchAnswer: points of a missing shard are passed over, also by `next_key`.
    """

    records: list[Record]
    next_key: int | None = None
    order_values: list[float | int] | None = None
    coverage: float = 1.0
    missing: tuple[MissingShard, ...] = ()


class Selection(NamedTuple):
    """Which points a write is about: those with `keys`, or those that match an encoded `filter` (b"": every point) when it
    is their shard's turn to write. One of the two.
    """

    keys: list[int] | None = None
    filter: bytes | None = None


class UpsertCondition(NamedTuple):
    """Which points of an upsert are written. `mode`: "upsert", "insert_only" (ids that are new), "update_only" (ids that
    exist). `filter`: of points that exist only those that match it, as they are before. `guard`: see shards/point_writes.py.
    Both are encoded filters, b"" for none.
    """

    mode: str = "upsert"
    filter: bytes = b""
    guard: bytes = b""

    @property
    def is_met_by_all(self) -> bool:
        """Whether every point is written, if the guard allows any."""
        return self.mode == "upsert" and not self.filter


ANY_POINT = UpsertCondition()
