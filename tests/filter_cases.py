"""Payloads and filters at random, from a seed: what the filter language is compared with its oracle on.

Values are few and fields are mixed on purpose, so that filters hit: each field mostly holds its own kind, alone or in
arrays, and now and then anything. Spelled as a client sends them.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import orjson

from shards.filters.indexes import FieldKind
from shards.point_ids import KeyArray, key_array, key_list

Json = Any

INTEGERS = [0, 1, 2, 3, 5, 7, -1, -4, 2**53, 2**53 + 1, 2**63 - 1, 2**63 + 5, -(2**63), 2**64 - 1]
FLOATS = [0.0, -0.0, 1.0, 1.5, 2.0, -3.25, 1e300, 9007199254740992.0, 9.3e18]
KEYWORDS = ["red", "green", "blue", "Red", "re", "", "redder", "grün", "\U0001f431", "a.b", "0", "true"]
TEXTS = [
    "the quick brown fox",
    "Quick, quick: the FOX",
    "brown_fox quick",
    "fox",
    "ÜBER größe",
    "",
    "...",
    "the fox quick",
]
WORDS = ["the", "quick", "brown", "fox", "QUICK", "größe", "über", "absent", "--"]
UUIDS = [f"550e8400-e29b-41d4-a716-44665544000{digit}" for digit in range(4)] + [
    "550E8400-E29B-41D4-A716-446655440001"
]
DATES = [
    *("2024-05-17T12:30:00Z", "2024-05-17T12:30:00.000001Z", "2024-05-17T14:30:00+02:00", "2024-05-17 12:30:00"),
    *("2024-05-17", "2024-05-17T12:30", "2023-12-31T23:59:59.999999999Z", "2024-05-17T12:30:00-0130"),
    *(
        "2024-05-17T12:30:00+05",
        "2024-05-17T12:30:00 UTC",
        "1969-01-01T00:00:00z",
        "0001-01-01",
        "9999-12-31T23:59:59Z",
    ),
]
NO_DATES = ["2024-02-31", "2024-05-17T25:00:00Z", "17.05.2024", "2024-05-17T12", "2024-05-17T12:30+01:00", "2024"]
BOUND_DATES = [
    "2024-05-17T12:30:00Z",
    "2024-05-17T14:30:00+02:00",
    "2024-05-17",
    "2023-12-31T23:59:59",
    "1970-01-01T00:00:00Z",
]
LATITUDES = [-90, -45.5, -1, 0, 0.0, 1, 10, 20, 45.5, 52.5, 90]
LONGITUDES = [-180, -179.5, -100, -1, 0, 1, 10, 13.5, 20, 100, 179.5, 180]
"""Binary fractions: with others the oracle's rounding puts points of a polygon's edge inside of it."""
GEO_ODDITIES = [
    {"lat": 1},
    {"lat": True, "lon": 1},
    {"lat": "1", "lon": 1},
    {"lat": 95, "lon": 10},
    {"lat": 10, "lon": 200.5},
]

KINDS: dict[str, FieldKind] = {
    "k": FieldKind.KEYWORD,
    "i": FieldKind.INTEGER,
    "f": FieldKind.FLOAT,
    "b": FieldKind.BOOL,
    "d": FieldKind.DATETIME,
    "u": FieldKind.UUID,
    "t": FieldKind.TEXT,
    "g": FieldKind.GEO,
}
"""The fields of a payload, and of the objects inside it, each named for what it mostly holds."""

PREFIXES = ["", "", "", "o.", "l[].", "l[0].", "o.l[].", '"q.r".', "m[][]."]
SUFFIXES = ["", "", "", "", "[]", "[0]", "[1]"]


def random_documents(random: Random, count: int) -> list[dict[str, Json]]:
    """Payloads, some empty."""
    return [{} if random.random() < 0.05 else _document(random, depth=2) for _ in range(count)]


def random_keys(random: Random, count: int) -> list[int]:
    """Keys of points, integers and UUIDs; different ones."""
    pool = [
        *range(count),
        2**63,
        2**64 - 1,
        *((1 << 128) + number * 0x1234567890ABCDEF1234567 for number in range(count)),
    ]
    return random.sample(pool, count)


def random_fields(random: Random) -> dict[str, FieldKind]:
    """Which fields are indexed: none to many, sometimes as what they are not."""
    fields: dict[str, FieldKind] = {}
    for _ in range(random.choice([0, 3, 8, 16])):
        path = random_path(random)
        fields[path] = kind_of(path) if random.random() < 0.8 else random.choice(list(FieldKind))
    return fields


def kind_of(path: str) -> FieldKind:
    """What the values at a path mostly are."""
    return KINDS[path.rstrip("[]01")[-1]]


def random_path(random: Random) -> str:
    return random.choice(PREFIXES) + random.choice([*KINDS]) + random.choice(SUFFIXES)


@dataclass(frozen=True)
class FilterWriter:
    """Writes filters at random over such payloads. ids: the points'; paths: the indexed ones, which it prefers."""

    random: Random
    ids: list[int | str]
    paths: list[str]

    def filter(self, depth: int = 2) -> dict[str, Json]:
        """A filter with others inside it up to `depth`."""
        random = self.random
        filter_: dict[str, Json] = {}
        for clause in random.sample(["must", "should", "must_not"], random.choice([1, 1, 1, 2, 3])):
            conditions = [self._condition(depth) for _ in range(random.choice([0, 1, 1, 2, 3]))]
            filter_[clause] = conditions[0] if len(conditions) == 1 and random.random() < 0.3 else conditions
        if random.random() < 0.15:
            conditions = [self._condition(depth) for _ in range(random.randint(0, 4))]
            filter_["min_should"] = {"conditions": conditions, "min_count": random.randint(1, 3)}
        return filter_

    def _condition(self, depth: int) -> dict[str, Json]:
        random = self.random
        chance = random.random()
        if chance < 0.72:
            return self._field_condition()
        if depth and chance < 0.80:
            array = random.choice(["l", "l", "l[]", "o.l", "m[]", "o", "m"])
            inside = array.removesuffix("[]") + "[]."
            paths = [path.removeprefix(inside) for path in self.paths if path.startswith(inside)]
            writer = FilterWriter(random, self.ids, paths)
            return {"nested": {"key": array, "filter": writer.filter(depth - 1)}}
        if depth and chance < 0.88:
            return self.filter(depth - 1)
        if chance < 0.92:
            return {"has_id": random.sample(self.ids, min(len(self.ids), random.randint(0, 6)))}
        if chance < 0.95:
            return {"has_vector": random.choice(["", "image", "absent"])}
        if chance < 0.98:
            total = random.randint(1, 4)
            return {"slice": {"total": total, "index": random.randrange(total)}}
        return {random.choice(["is_empty", "is_null"]): {"key": self._path()}}

    def _field_condition(self) -> dict[str, Json]:
        random, path = self.random, self._path()
        chance = random.random()
        if chance < 0.08:
            return {"key": path, random.choice(["is_empty", "is_null"]): random.random() < 0.5}
        if chance < 0.15:
            return {"key": path, "values_count": _bounds(random, [0, 1, 2, 3])}
        kind = kind_of(path) if random.random() < 0.9 else random.choice(list(FieldKind))
        return {"key": path, **_test_of(random, kind)}

    def _path(self) -> str:
        return (
            self.random.choice(self.paths) if self.paths and self.random.random() < 0.7 else random_path(self.random)
        )


class ListedRows:
    """A segment for tests: rows with keys and payloads, none dead."""

    def __init__(self, keys: list[int], documents: list[dict[str, Json]]) -> None:
        self.payloads = [orjson.dumps(document) if document else b"" for document in documents]
        self.read_count = 0
        self._keys = keys
        self._row_of_key = {key: row for row, key in enumerate(keys)}

    @property
    def row_count(self) -> int:
        return len(self._keys)

    def payload(self, row: int) -> bytes:
        self.read_count += 1
        return self.payloads[row]

    def find(self, keys: KeyArray) -> np.ndarray[Any, Any]:
        return np.array([self._row_of_key.get(key, -1) for key in key_list(keys)], np.int64)

    def keys_of(self, rows: np.ndarray[Any, Any]) -> KeyArray:
        return key_array([self._keys[row] for row in rows.tolist()])


def _document(random: Random, depth: int) -> dict[str, Json]:
    document: dict[str, Json] = {}
    for name, kind in KINDS.items():
        if random.random() < 0.6:
            document[name] = _field_value(random, kind)
    if depth:
        for name in ("o", "q.r"):
            if random.random() < 0.4:
                document[name] = (
                    _document(random, depth - 1) if random.random() < 0.9 else _scalar(random, FieldKind.INTEGER)
                )
        if random.random() < 0.6:
            document["l"] = _objects(random, depth - 1)
        if random.random() < 0.2:
            document["m"] = [_objects(random, depth - 1) for _ in range(random.randint(0, 2))]
    return document


def _objects(random: Random, depth: int) -> Json:
    objects: list[Json] = [_document(random, depth) for _ in range(random.choice([0, 1, 2, 3]))]
    if random.random() < 0.1:
        objects.append(_scalar(random, FieldKind.KEYWORD))
    return objects if random.random() < 0.9 else _document(random, depth)


def _field_value(random: Random, kind: FieldKind) -> Json:
    chance = random.random()
    if chance < 0.6:
        return _scalar(random, kind)
    if chance < 0.85:
        return [_scalar(random, kind) for _ in range(random.choice([0, 1, 2, 2, 3]))]
    if chance < 0.9:
        return None
    if chance < 0.93:
        return [[_scalar(random, kind)], None, _scalar(random, kind)]
    return _scalar(random, random.choice(list(FieldKind)))


def _scalar(random: Random, kind: FieldKind) -> Json:
    if random.random() < 0.04:
        return random.choice([None, {}, {"x": 1}, [], "2024-05-17", 1, 1.0, True])
    if kind is FieldKind.GEO:
        if random.random() < 0.1:
            return random.choice(GEO_ODDITIES)
        return {"lat": random.choice(LATITUDES), "lon": random.choice(LONGITUDES)}
    pools: dict[FieldKind, list[Json]] = {
        FieldKind.KEYWORD: KEYWORDS,
        FieldKind.INTEGER: INTEGERS,
        FieldKind.FLOAT: FLOATS,
        FieldKind.BOOL: [True, False],
        FieldKind.DATETIME: DATES + NO_DATES[: random.choice([0, len(NO_DATES)])],
        FieldKind.UUID: UUIDS,
        FieldKind.TEXT: TEXTS,
    }
    return random.choice(pools[kind])


def _test_of(random: Random, kind: FieldKind) -> dict[str, Json]:
    """A test that values of the kind may pass."""
    if kind is FieldKind.GEO:
        return _area(random)
    if kind is FieldKind.DATETIME and random.random() < 0.8:
        return {"range": _bounds(random, BOUND_DATES)}
    if kind in (FieldKind.INTEGER, FieldKind.FLOAT) and random.random() < 0.6:
        return {"range": _bounds(random, [*FLOATS, *INTEGERS])}
    if kind is FieldKind.TEXT:
        phrase = " ".join(random.choice(WORDS) for _ in range(random.choice([0, 1, 2, 2, 3])))
        return {"match": {random.choice(["text", "text_any", "phrase"]): phrase}}
    if kind is FieldKind.BOOL:
        return {"match": {"value": random.random() < 0.5}}
    if kind in (FieldKind.INTEGER, FieldKind.FLOAT):
        pool: list[Json] = INTEGERS
    else:
        pool = {FieldKind.KEYWORD: KEYWORDS, FieldKind.UUID: UUIDS}.get(kind, DATES)
        if random.random() < 0.15:
            return {"match": {"prefix": random.choice(["", "r", "red", "gr", "550e", "\U0001f431"])}}
    if random.random() < 0.4:
        return {"match": {"value": random.choice(pool)}}
    return {"match": {random.choice(["any", "except"]): random.sample(pool, random.randint(0, 4))}}


def _bounds(random: Random, pool: list[Json]) -> dict[str, Json]:
    names = random.sample(["lt", "lte", "gt", "gte"], random.choice([1, 1, 2, 2, 3]))
    return {name: random.choice(pool) for name in names} if random.random() < 0.97 else {}


def _area(random: Random) -> dict[str, Json]:
    def corner() -> dict[str, float]:
        return {"lat": random.choice(LATITUDES), "lon": random.choice(LONGITUDES)}

    chance = random.random()
    if chance < 0.4:
        return {"geo_bounding_box": {"top_left": corner(), "bottom_right": corner()}}
    if chance < 0.7:
        radius = random.choice([0, 1, 1000.0, 500_000, 2_000_000.5, 9_000_000, 20_015_000, 30_000_000])
        return {"geo_radius": {"center": corner(), "radius": radius}}

    def ring() -> dict[str, Json]:
        points = [corner() for _ in range(random.randint(3, 5))]
        return {"points": [*points, points[0]]}

    polygon: dict[str, Json] = {"exterior": ring()}
    if random.random() < 0.4:
        polygon["interiors"] = [ring()]
    return {"geo_polygon": polygon}
