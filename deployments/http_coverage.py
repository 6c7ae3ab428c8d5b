"""How much of a collection an answer is about: how little a caller says is enough, and how an answer says what it is. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from cluster.requests import MissingShard
from shards.errors import InvalidRequest

MIN_COVERAGE_HEADER = b"shoal-min-coverage"
FULL_COVERAGE = b'{"coverage":1.0}'
LESS_WIDTH = ("ef",)
"""What a search did without that a router short of time made (deployments/degradation.py)."""


def coverage_json(coverage: float, missing: Sequence[MissingShard] = ()) -> bytes:
    """What `shoal` says of an answer that was searched just now: which fraction of the shards is in it, and which are not."""
    if not missing:
        return FULL_COVERAGE
    named = [{"shard": one.shard_id, "reason": one.reason} for one in missing]
    return b'{"coverage":%.4f,"missing":%b}' % (coverage, orjson.dumps(named))


def degraded_json(said: bytes, degraded: Sequence[str]) -> bytes:
    """`said`, a JSON object, with what the answer did without, if anything."""
    return said if not degraded else b'%b,"degraded":%b}' % (said[:-1], orjson.dumps(degraded))


def kept_json(said: bytes, kept_count: int, stale_s: float | None) -> bytes:
    """`said`, a JSON object, with how many of a batch's answers were kept ones, if any; `stale_s`: of the oldest for which the
    shards were not asked, None where there is none.
    """
    if not kept_count:
        return said
    stale = b"" if stale_s is None else b',"stale_ms":%d' % max(0, round(stale_s * 1000))
    return b'%b,"cached_queries":%d%b}' % (said[:-1], kept_count, stale)


def fraction_of(text: bytes) -> float:
    """The header's value. Raises InvalidRequest where it is no number from 0 to 1."""
    try:
        fraction = float(text)
    except ValueError:
        fraction = -1.0
    if not 0.0 <= fraction <= 1.0:
        shown = text[:40].decode("latin-1")
        raise InvalidRequest(f"the header shoal-min-coverage is {shown!r}; it has to be a number from 0 to 1")
    return fraction
