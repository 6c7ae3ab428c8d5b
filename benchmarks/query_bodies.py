"""The requests that are measured, as the bytes that a client sends, and the ids in their answers. Pure.

Numbers are written as the shortest text that gives the same float32 back, as a client does that holds float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

Floats = npt.NDArray[np.float32]
MISSING = np.uint64(2**64 - 1)
"""Stands where an answer has fewer points than were asked for: no point of the benchmarks has this id."""


@dataclass(frozen=True)
class Ask:
    """What every query of a run has in common."""

    k: int
    ef: int
    with_payload: bool


def query_bodies(queries: Floats, ask: Ask) -> list[bytes]:
    """One body for `points/query` for each query."""
    return [orjson.dumps(_query(query, ask), option=orjson.OPT_SERIALIZE_NUMPY) for query in queries]


def batch_bodies(queries: Floats, ask: Ask, batch_size: int) -> list[bytes]:
    """Bodies for `points/query/batch`; a rest that fills no batch is left out."""
    return in_batches(query_bodies(queries, ask), batch_size)


def in_batches(bodies: Sequence[bytes], batch_size: int) -> list[bytes]:
    """Bodies of single queries as bodies for `points/query/batch`; a rest that fills no batch is left out."""
    starts = range(0, len(bodies) - batch_size + 1, batch_size)
    return [b'{"searches":[%b]}' % b",".join(bodies[start : start + batch_size]) for start in starts]


def found_ids(answer: bytes, k: int) -> npt.NDArray[np.uint64]:
    """The ids of an answer of either route, (queries, k)."""
    result = orjson.loads(answer)["result"]
    results: Sequence[Any] = result if isinstance(result, list) else [result]
    ids = np.full((len(results), k), MISSING, np.uint64)
    for row, one in enumerate(results):
        points = [point["id"] for point in one["points"][:k]]
        ids[row, : len(points)] = points
    return ids


def _query(query: Floats, ask: Ask) -> dict[str, Any]:
    asked: dict[str, Any] = {"query": query, "limit": ask.k, "params": {"hnsw_ef": ask.ef}}
    return {**asked, "with_payload": True} if ask.with_payload else asked
