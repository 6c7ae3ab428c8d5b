"""Calls of the public client at random, from a seed: writes and reads of points, as a program would make them.

A call is a method of `QdrantClient` and its arguments, so that it can be made of any implementation. Ids are few, so that
writes meet each other; payloads and filters are those of tests/filter_cases.py. What the client's own in-process mode does
in a way of its own is not generated: tests/point_story.py lists it.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

from qdrant_client import models

from tests.filter_cases import BOUND_DATES, FLOATS, INTEGERS, FilterWriter, random_documents, random_path

IDS: list[int | str] = [
    *(*range(8), 2**32, 2**63, 2**64 - 1),
    *(f"00000000-0000-4000-8000-{number:012x}" for number in (0, 1, 2**32)),
    *("936da01f-9abd-4d9d-80c7-02af85c822a8", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
]
PLAIN = {"": models.VectorParams(size=3, distance=models.Distance.EUCLID)}
NAMED = {
    "image": models.VectorParams(size=3, distance=models.Distance.COSINE),
    "text": models.VectorParams(size=2, distance=models.Distance.DOT),
    "": models.VectorParams(size=1, distance=models.Distance.MANHATTAN),
}

WIDE = {
    "image": models.VectorParams(size=256, distance=models.Distance.COSINE),
    "text": models.VectorParams(size=2, distance=models.Distance.EUCLID),
}
"""64 points of these are what a shard seals at the soonest; an overwrite is a point more."""


class Call(NamedTuple):
    """A method of the client and its arguments, beside the collection's name."""

    method: str
    arguments: dict[str, Any]


class Caller:
    """Draws calls for a collection with these vectors. `crowd`: how many points more it has from the beginning."""

    def __init__(self, seed: int, vectors: dict[str, models.VectorParams], crowd: int = 0) -> None:
        self._random = Random(seed)
        self._pool = [*IDS, *range(1000, 1000 + crowd)]
        self._indexed: list[str] = []
        self._writer = FilterWriter(self._random, self._pool, self._indexed)
        self._vectors = vectors
        self._is_plain = vectors.keys() == {""}
        self._may_name_none = True
        self._is_first = True

    def draw(self) -> Call:
        """The next call: many points at first, then a write as often as a read."""
        if self._is_first:
            self._is_first = False
            return Call("upsert", {"points": self._points(self._random.sample(self._pool, len(self._pool) - 4))})
        drawn: Callable[[], Call] = self._random.choice(self._writes() if self._chance(0.5) else self._reads())
        return drawn()

    def _writes(self) -> list[Callable[[], Call]]:
        return [
            *(self._upsert, self._upsert, self._upsert_batch, self._delete, self._set_payload, self._set_payload),
            *(self._overwrite_payload, self._delete_payload, self._clear_payload, self._update_vectors),
            *(self._delete_vectors, self._operations, self._operations, self._index),
        ]

    def _reads(self) -> list[Callable[[], Call]]:
        return [self._retrieve, self._scroll, self._scroll_in_order, self._count, self._query, self._queries]

    def _upsert(self) -> Call:
        condition = self._condition()
        # Of an id that occurs twice under a condition each implementation makes something else.
        ids = self._ids(repeated=not condition, at_most=8)
        return Call("upsert", {"points": self._points(ids), **condition})

    def _points(self, ids: list[int | str]) -> list[models.PointStruct]:
        return [models.PointStruct(id=one, vector=self._point_vector(), payload=self._payload()) for one in ids]

    def _upsert_batch(self) -> Call:
        condition = self._condition()
        ids = self._ids(repeated=not condition)
        rows = {name: [self._vector(name) for _ in ids] for name in self._some_names()}
        vectors: Any = rows[""] if self._is_plain and self._chance(0.7) else rows
        payloads = None if self._chance(0.2) else random_documents(self._random, len(ids))
        return Call("upsert", {"points": models.Batch(ids=ids, vectors=vectors, payloads=payloads), **condition})

    def _condition(self) -> dict[str, Any]:
        condition: dict[str, Any] = {}
        if self._chance(0.3):
            condition["update_mode"] = self._random.choice(list(models.UpdateMode))
        if self._chance(0.3):
            condition["update_filter"] = self._filter()
        return condition

    def _delete(self) -> Call:
        few = self._selector() if self._chance(0.1) else models.PointIdsList(points=self._ids(at_most=2))
        return Call("delete", {"points_selector": few})

    def _set_payload(self) -> Call:
        key = random_path(self._random) if self._chance(0.4) else None
        return Call("set_payload", {"payload": self._payload() or {}, "points": self._selector(), "key": key})

    def _overwrite_payload(self) -> Call:
        return Call("overwrite_payload", {"payload": self._payload() or {}, "points": self._selector()})

    def _delete_payload(self) -> Call:
        return Call("delete_payload", {"keys": self._paths(), "points": self._selector()})

    def _clear_payload(self) -> Call:
        return Call("clear_payload", {"points_selector": models.PointIdsList(points=self._ids(at_most=2))})

    def _update_vectors(self) -> Call:
        points = [models.PointVectors(id=one, vector=self._point_vector()) for one in self._ids(repeated=True)]
        update_filter = self._filter() if self._chance(0.3) else None
        return Call("update_vectors", {"points": points, "update_filter": update_filter})

    def _delete_vectors(self) -> Call:
        return Call("delete_vectors", {"vectors": self._some_names(), "points": self._selector()})

    def _operations(self) -> Call:
        # Each implementation refuses an operation on no ids at another moment.
        self._may_name_none = False
        drawn = [self._operation() for _ in range(self._random.randint(0, 4))]
        self._may_name_none = True
        return Call("batch_update_points", {"update_operations": drawn})

    def _operation(self) -> Any:
        """One of the calls above, as an operation of a batch."""
        writes = [one for one in self._writes() if one not in (self._operations, self._index)]
        method, given = self._random.choice(writes)()
        selector = given.get("points_selector", given.get("points"))
        chosen = {"points": None, "filter": None}
        if isinstance(selector, models.PointIdsList):
            chosen["points"] = selector.points
        elif isinstance(selector, models.FilterSelector):
            chosen["filter"] = selector.filter
        if method == "upsert":
            condition = {name: value for name, value in given.items() if name != "points"}
            if isinstance(selector, models.Batch):
                return models.UpsertOperation(upsert=models.PointsBatch(batch=selector, **condition))
            return models.UpsertOperation(upsert=models.PointsList(points=selector, **condition))
        if method == "update_vectors":
            return models.UpdateVectorsOperation(update_vectors=models.UpdateVectors(**given))
        if method == "delete_vectors":
            return models.DeleteVectorsOperation(
                delete_vectors=models.DeleteVectors(vector=given["vectors"], **chosen)
            )
        if method == "delete_payload":
            return models.DeletePayloadOperation(delete_payload=models.DeletePayload(keys=given["keys"], **chosen))
        if method == "set_payload":
            change = models.SetPayload(payload=given["payload"], key=given["key"], **chosen)
            return models.SetPayloadOperation(set_payload=change)
        if method == "overwrite_payload":
            return models.OverwritePayloadOperation(
                overwrite_payload=models.SetPayload(payload=given["payload"], **chosen)
            )
        if method == "clear_payload":
            return models.ClearPayloadOperation(clear_payload=selector)
        return models.DeleteOperation(delete=selector)

    def _index(self) -> Call:
        path = random_path(self._random)
        if self._chance(0.4):
            return Call("delete_payload_index", {"field_name": path})
        self._indexed.append(path)
        return Call(
            "create_payload_index",
            {"field_name": path, "field_schema": self._random.choice(list(models.PayloadSchemaType))},
        )

    def _retrieve(self) -> Call:
        return Call("retrieve", {"ids": self._ids(repeated=True), **self._shown()})

    def _scroll(self) -> Call:
        offset = self._random.choice(self._pool) if self._chance(0.5) else None
        limit = self._random.choice([1, 2, 5, 10, 100])
        return Call(
            "scroll", {"scroll_filter": self._maybe_filter(), "limit": limit, "offset": offset, **self._shown()}
        )

    def _scroll_in_order(self) -> Call:
        path = random_path(self._random)
        start: Any = None
        if self._chance(0.4):
            start = self._random.choice([*INTEGERS[:8], *FLOATS[:6], *BOUND_DATES])
        order_by = models.OrderBy.model_validate(
            {"key": path, "direction": self._random.choice(["asc", "desc", None]), "start_from": start}
        )
        given: Any = path if self._chance(0.2) else order_by
        limit = self._random.choice([1, 2, 5, 100])
        return Call(
            "scroll", {"scroll_filter": self._maybe_filter(), "limit": limit, "order_by": given, **self._shown()}
        )

    def _count(self) -> Call:
        return Call("count", {"count_filter": self._maybe_filter(), "exact": True})

    def _query(self) -> Call:
        name = self._random.choice(list(self._vectors))
        arguments = {
            "query": self._vector(name),
            "using": name if name or self._chance(0.3) else None,
            "query_filter": self._maybe_filter(),
            "limit": self._random.choice([1, 3, 10, 100]),
            "offset": self._random.choice([None, None, 1, 4]),
            "score_threshold": self._random.uniform(-2, 3) if self._chance(0.3) else None,
            **self._shown(),
        }
        return Call("query_points", arguments)

    def _queries(self) -> Call:
        renamed = {"query_filter": "filter", "with_vectors": "with_vector"}
        requests = []
        for _ in range(self._random.randint(1, 3)):
            arguments = self._query().arguments
            requests.append(models.QueryRequest(**{renamed.get(name, name): it for name, it in arguments.items()}))
        return Call("query_batch_points", {"requests": requests})

    def _shown(self) -> dict[str, Any]:
        paths = self._paths()
        payload = self._random.choice(
            [
                True,
                True,
                False,
                paths,
                models.PayloadSelectorInclude(include=paths),
                models.PayloadSelectorExclude(exclude=paths),
            ]
        )
        return {"with_payload": payload, "with_vectors": self._random.choice([True, False, self._some_names()])}

    def _selector(self) -> models.PointIdsList | models.FilterSelector:
        if self._chance(0.5):
            return models.FilterSelector(filter=self._filter())
        return models.PointIdsList(points=self._ids(repeated=True, at_most=8))

    def _maybe_filter(self) -> models.Filter | None:
        return self._filter() if self._chance(0.6) else None

    def _filter(self) -> models.Filter:
        return models.Filter.model_validate(self._writer.filter())

    def _ids(self, repeated: bool = False, at_most: int = 5) -> list[int | str]:
        """Ids, hardly ever none."""
        count = 0 if self._may_name_none and self._chance(0.02) else self._random.randint(1, at_most)
        ids = self._random.choices(self._pool, k=count) if repeated else self._random.sample(self._pool, count)
        return [one.upper() if isinstance(one, str) and self._chance(0.1) else one for one in ids]

    def _payload(self) -> dict[str, Any] | None:
        return None if self._chance(0.1) else random_documents(self._random, 1)[0]

    def _paths(self) -> list[str]:
        return [random_path(self._random) for _ in range(self._random.randint(0, 3))]

    def _some_names(self) -> list[str]:
        return self._random.sample(list(self._vectors), self._random.randint(1, len(self._vectors)))

    def _point_vector(self) -> Any:
        """All or some of a point's vectors, seldom none."""
        if self._is_plain and self._chance(0.8):
            return self._vector("")
        return {} if self._chance(0.1) else {name: self._vector(name) for name in self._some_names()}

    def _vector(self, name: str) -> list[float]:
        return [self._random.gauss(0, 1) for _ in range(self._vectors[name].size)]

    def _chance(self, chance: float) -> bool:
        return self._random.random() < chance
