"""Requests that nobody means well, made from a seed: the same seed gives the same requests.

Each family of them attacks one thing: numbers that are none, dimensions and limits, bodies that grow or nest when they are
read, paths that leave their folder, addresses that a server must not call, bytes that run when they are unpickled,
headers, and the framing of HTTP itself. What may never be granted says so (`refused`).
"""

from __future__ import annotations

import gzip
import json
import pickle
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

COLLECTION = "words"
DIM = 4
_POINTS = f"/collections/{COLLECTION}/points"


@dataclass(frozen=True, slots=True)
class Case:
    """One request. `body` is sent as it is; `refused`: an answer below 400 is a failure."""

    family: str
    method: str
    path: str
    body: bytes = b""
    refused: bool = True
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Traps:
    """What must stay untouched: a file that a pickle would make, an address that nobody may call. `folder`: where snapshots
    may be recovered from; it holds links that lead out of it.
    """

    file: Path
    url: str
    folder: Path = Path("/nowhere")


def cases(seed: int, count: int, traps: Traps) -> Iterator[Case]:
    """`count` requests, the families in turn."""
    chance = random.Random(seed)
    for number in range(count):
        yield FAMILIES[number % len(FAMILIES)](chance, traps)


def _json(family: str, method: str, path: str, body: Any, refused: bool = True) -> Case:
    return Case(family, method, path, json.dumps(body).encode(), refused)


def _number(chance: random.Random, traps: Traps) -> Case:
    """Components, thresholds and bounds that no float holds, or that are no numbers."""
    text = chance.choice(
        [
            "NaN",
            "Infinity",
            "-Infinity",
            "1e39",
            "-1e39",
            "1e400",
            "1" * 400,
            "1" * 5000,
            "true",
            '"1"',
            "null",
            "[]",
            "{}",
        ]
    )
    components = ["0.5"] * DIM
    components[chance.randrange(DIM)] = text
    vector = f"[{','.join(components)}]"
    method, path, body = chance.choice(
        [
            ("PUT", "", f'{{"points":[{{"id":1,"vector":{vector}}}]}}'),
            ("PUT", "", f'{{"batch":{{"ids":[1],"vectors":[{vector}]}}}}'),
            ("POST", "/query", f'{{"query":{vector}}}'),
            ("POST", "/query", f'{{"query":{{"nearest":{vector}}}}}'),
            ("POST", "/query/batch", f'{{"searches":[{{"query":{vector}}}]}}'),
            ("POST", "/search", f'{{"vector":{vector},"limit":1}}'),
            ("PUT", "/vectors", f'{{"points":[{{"id":1,"vector":{vector}}}]}}'),
        ]
    )
    return Case("number", method, _POINTS + path, body.encode())


def _huge_scalar(chance: random.Random, traps: Traps) -> Case:
    """Scalars beyond 64 bits wherever one may stand; some places take what they can."""
    scalar = chance.choice(["1" * 25, "-" + "9" * 30, "1" * 400, "1" * 4200, "1e308", "-0.0", "1e400", "NaN"])
    method, path, body = chance.choice(
        [
            ("POST", "/scroll", '{"order_by":{"key":"n","start_from":%s}}'),
            ("POST", "/scroll", '{"offset":%s}'),
            ("POST", "/scroll", '{"limit":%s}'),
            ("POST", "/query", '{"query":[1,2,3,4],"score_threshold":%s}'),
            ("POST", "/query", '{"query":[1,2,3,4],"offset":%s}'),
            ("POST", "/query", '{"query":[1,2,3,4],"params":{"hnsw_ef":%s}}'),
            ("POST", "/count", '{"filter":{"must":{"key":"n","range":{"gt":%s}}}}'),
            ("POST", "/count", '{"filter":{"must":{"key":"n","match":{"value":%s}}}}'),
            ("POST", "/count", '{"filter":{"must":{"key":"n","values_count":{"gt":%s}}}}'),
            ("POST", "/count", '{"filter":{"min_should":{"conditions":[],"min_count":%s}}}'),
            ("POST", "/count", '{"filter":{"must":{"slice":{"total":%s,"index":0}}}}'),
            ("POST", "/count", '{"filter":{"must":{"has_id":[%s]}}}'),
            ("POST", "/delete", '{"points":[%s]}'),
            ("POST", "/payload", '{"payload":{"n":%s},"points":[1]}'),
        ]
    )
    return Case("huge scalar", method, _POINTS + path, (body % scalar).encode(), refused=False)


def _limit(chance: random.Random, traps: Traps) -> Case:
    """Dimensions, k, ef, batches, names and timeouts beyond what is allowed."""
    length = chance.choice([0, DIM - 1, DIM + 1, 1000, 70_000])
    above = chance.choice([10_001, 2**31, 2**63, 2**64])
    vector = [0.5] * DIM
    name = "n" * chance.choice([256, 5000])
    method, path, body = chance.choice(
        [
            ("PUT", _POINTS, {"points": [{"id": 1, "vector": [0.5] * length}]}),
            ("POST", f"{_POINTS}/query", {"query": [0.5] * length}),
            ("POST", f"{_POINTS}/query", {"query": vector, "limit": above}),
            ("POST", f"{_POINTS}/query", {"query": vector, "limit": 1, "offset": above}),
            ("POST", f"{_POINTS}/query", {"query": vector, "params": {"hnsw_ef": above}}),
            ("POST", f"{_POINTS}/query/batch", {"searches": [{"query": vector}] * 1001}),
            ("POST", f"{_POINTS}/scroll", {"limit": above * 10}),
            (
                "POST",
                f"{_POINTS}/query?timeout={chance.choice(['nan', '-1', '1e999', 'x', '0', '%00'])}",
                {"query": vector},
            ),
            ("POST", f"{_POINTS}/count", {"filter": {"must": [{"key": "a", "match": {"value": 1}}] * 1025}}),
            ("PUT", f"/collections/{name}", {"vectors": {"size": 4, "distance": "Dot"}}),
            (
                "PUT",
                "/collections/new",
                {"vectors": {"size": chance.choice([0, -1, 65_537, 2**70]), "distance": "Dot"}},
            ),
            (
                "PUT",
                "/collections/new",
                {"vectors": {f"v{n}": {"size": 65_536, "distance": "Dot"} for n in range(5)}},
            ),
            ("PUT", "/collections/new", {"vectors": {"size": 4, "distance": "Dot"}, "shard_number": above}),
            ("PUT", "/collections/new", {"vectors": {"size": 4, "distance": "Dot"}, "hnsw_config": {"m": above}}),
            ("PUT", f"/collections/{COLLECTION}/index", {"field_name": name, "field_schema": "keyword"}),
        ]
    )
    return _json("limit", method, path, body)


def _bomb(chance: random.Random, traps: Traps) -> Case:
    """Bodies that are small and become large, or that nest."""
    depth = chance.choice([70, 500, 20_000])
    deep = '{"a":' * depth + "1" + "}" * depth
    listed = "[" * depth + "]" * depth
    inner = '{"must":' * depth + '{"has_id":[1]}' + "}" * depth
    nested = '{"must":{"nested":{"key":"a","filter":' * depth + "{}" + "}}}" * depth
    packed = gzip.compress(b'{"points":[' + b" " * 5_000_000 + b"]}")
    path, method, body = chance.choice(
        [
            (_POINTS, "PUT", f'{{"points":[{{"id":1,"vector":[1,2,3,4],"payload":{deep}}}]}}'),
            (f"{_POINTS}/payload", "POST", f'{{"points":[1],"payload":{{"a":{listed}}}}}'),
            (f"{_POINTS}/query", "POST", f'{{"query":{listed}}}'),
            (f"{_POINTS}/query", "POST", f'{{"query":[1,2,3,4],"with_payload":{listed}}}'),
            (f"{_POINTS}/count", "POST", f'{{"filter":{inner}}}'),
            (f"{_POINTS}/count", "POST", f'{{"filter":{nested}}}'),
            (f"{_POINTS}/scroll", "POST", f'{{"order_by":{deep}}}'),
            (f"/collections/{COLLECTION}", "PATCH", f'{{"metadata":{deep}}}' if depth > 200 else '{"metadata":1}'),
            (f"{_POINTS}/payload", "POST", '{"points":[1],"payload":{"x":1},"key":"%s"}' % ("a[0]." * depth + "[")),
        ]
    )
    if chance.random() < 0.2:
        return Case("bomb", "PUT", _POINTS, packed, headers={"content-encoding": "gzip"})
    return Case("bomb", method, path, body.encode())


def _traversal(chance: random.Random, traps: Traps) -> Case:
    """Names that would lead out of a folder, as they are and encoded; some are names like any other."""
    name = chance.choice(
        [
            *(
                "..",
                ".",
                "../../etc/passwd",
                "....//....//x",
                "..\\..\\x",
                "/etc/passwd",
                "~root",
                "a\0b",
                "con",
                "$(id)",
            ),
            *("%2e%2e", "..%00", "file:///etc/passwd", "a\nb", "\u202eabc", "\ud7ff\u0000", "x" * 300, "%", "*"),
        ]
    )
    spelled = chance.choice([quote(name, safe=""), quote(quote(name, safe=""), safe="")])
    new = {"vectors": {"size": 4, "distance": "Dot"}}
    alias = {"actions": [{"create_alias": {"collection_name": COLLECTION, "alias_name": name}}]}
    method, path, body = chance.choice(
        [
            ("PUT", f"/collections/{spelled}", new),
            ("GET", f"/collections/{spelled}", None),
            ("DELETE", f"/collections/{spelled}", None),
            ("POST", "/collections/aliases", alias),
            ("PUT", f"/collections/{COLLECTION}/index", {"field_name": name, "field_schema": "keyword"}),
            ("DELETE", f"/collections/{COLLECTION}/index/{spelled}", None),
            ("PUT", "/collections/vectors-of-names", {"vectors": {name: new["vectors"]}}),
            ("GET", f"{_POINTS}/{spelled}", None),
            ("GET", f"/{spelled}", None),
            ("GET", f"/collections/{COLLECTION}/snapshots/{spelled}", None),
            ("DELETE", f"/collections/{COLLECTION}/snapshots/{spelled}", None),
            ("PUT", f"/collections/{COLLECTION}/snapshots/recover", {"location": name}),
            ("PUT", f"/collections/{spelled}/snapshots/recover", {"location": f"file://{traps.folder}/{name}"}),
            ("POST", f"{_POINTS}/payload", {"points": [1], "payload": {"k": 1}, "key": name}),
        ]
    )
    text = b"" if body is None else json.dumps(body).encode()
    return Case("traversal", method, path, text, refused=False)


def _address(chance: random.Random, traps: Traps) -> Case:
    """Sources that a server would fetch: none is fetched, whatever the route."""
    inside = [
        f"file://{traps.folder}/{path}" for path in ("leak", "up/0/shard.json", "none.snapshot", "../0/lock", "")
    ]
    source = chance.choice([traps.url, f"{traps.url}/x.snapshot", "file:///etc/passwd", "s3://bucket/key", *inside])
    method, path, body = chance.choice(
        [
            ("PUT", f"/collections/{COLLECTION}/snapshots/recover", {"location": source}),
            (
                "PUT",
                f"/collections/{COLLECTION}/snapshots/recover?wait=true",
                {"location": source, "priority": "snapshot"},
            ),
            ("POST", f"/collections/{COLLECTION}/snapshots/upload", {"location": source}),
            ("PUT", "/collections/from-elsewhere", {"init_from": {"collection": source}}),
            ("POST", f"{_POINTS}/query", {"query": {"nearest": {"image": source, "model": "m"}}}),
            ("PUT", _POINTS, {"points": [{"id": 1, "vector": {"text": source, "model": source}}]}),
            ("POST", f"{_POINTS}/query", {"query": [1, 2, 3, 4], "lookup_from": {"collection": source}}),
        ]
    )
    return _json("address", method, path, body)


class _Runs:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self._file,)


def _pickled(chance: random.Random, traps: Traps) -> Case:
    """A pickle as a body, whole or inside JSON text."""
    data = pickle.dumps(_Runs(traps.file), protocol=chance.choice([0, 2, 5]))
    method, path = chance.choice(
        [("PUT", _POINTS), ("POST", f"{_POINTS}/query"), ("PUT", "/collections/new"), ("POST", f"{_POINTS}/scroll")]
    )
    kind = chance.choice(["application/json", "application/octet-stream", "application/x-pickle"])
    return Case("pickle", method, path, data, headers={"content-type": kind})


def _mangled(chance: random.Random, traps: Traps) -> Case:
    """A good body with some of its bytes changed: it may still be good."""
    good = json.dumps(
        {
            "query": [0.1, 0.2, 0.3, 0.4],
            "limit": 5,
            "filter": {"must": [{"key": "a.b", "match": {"any": ["x"]}}, {"key": "n", "range": {"gt": 1}}]},
            "with_payload": {"include": ["a[].b"]},
            "params": {"exact": True},
        }
    )
    body = bytearray(good.encode())
    for _ in range(chance.randint(1, 2)):
        place = chance.randrange(len(body))
        match chance.randrange(3):
            case 0:
                body[place] = chance.choice(b'09ea[]{}",:.-\x00\xff')
            case 1:
                del body[place : place + chance.randint(1, 20)]
            case _:
                body[place:place] = chance.choice(
                    [b"\0", b"\xff\xfe", b"{", b"[", b'"', b"\\ud800", b"null", b"-", b"9e9"]
                )
    return Case("mangled", "POST", f"{_POINTS}/query", bytes(body), refused=False)


def _wrong_types(chance: random.Random, traps: Traps) -> Case:
    """Values of the wrong kind in fields that exist."""
    value = chance.choice([None, True, -1, 0.5, "x", "", [], [[]], [None], {}, {"a": {}}, ["a", 1], {"": ""}])
    fields: dict[str, list[str]] = {
        "/query": [
            "query",
            "filter",
            "limit",
            "offset",
            "params",
            "using",
            "with_payload",
            "with_vector",
            "prefetch",
        ],
        "/scroll": ["filter", "limit", "offset", "order_by", "with_payload", "with_vectors", "shard_key"],
        "/count": ["filter", "exact", "shard_key"],
        "/delete": ["points", "filter"],
        "/payload/delete": ["points", "filter", "keys"],
        "/vectors/delete": ["points", "vector"],
        "/batch": ["operations"],
    }
    path = chance.choice(list(fields))
    if path == "/delete" and value == {}:
        value = []  # an empty filter means every point, and the story of the good ones is told elsewhere
    body = {
        name: value if chance.random() < 0.5 else [value]
        for name in chance.sample(fields[path], min(2, len(fields[path])))
    }
    if body.get("filter") in ({}, {"": ""}):
        del body["filter"]
    return _json("wrong types", "POST", _POINTS + path, body, refused=False)


def _request(chance: random.Random, traps: Traps) -> Case:
    """Methods, paths and headers that are not those of the API."""
    path = chance.choice(
        ["/", "/collections", _POINTS, "/nothing", "/collections//points", "//collections", "/shoal/keys"]
    )
    method = chance.choice(["TRACE", "OPTIONS", "PATCH", "DELETE", "HEAD", "PURGE"])
    if path == "/shoal/keys" or (path == "/" and method == "HEAD"):
        method = "TRACE"
    key = chance.choice(["a" * 8000, "shoal_x_y", "_", "\xff\xfe", "Bearer", "' or 1=1 --"])
    headers = {"api-key": key} if chance.random() < 0.5 else {"authorization": f"Bearer {key}"}
    return Case("request", method, path, b"{}", headers=headers)


FAMILIES: tuple[Callable[[random.Random, Traps], Case], ...] = (
    *(_number, _huge_scalar, _limit, _bomb, _traversal, _address, _pickled, _mangled, _wrong_types, _request),
)
