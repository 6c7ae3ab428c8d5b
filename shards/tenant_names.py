"""Whose a point is, by its payload: the texts that a field of it holds. Pure. What follows from that is told in
cluster/tenants.py and cluster/tenant_guard.py.
"""

from __future__ import annotations

import orjson

from shards.filters.paths import JsonPath, select, unwrap


def names_in(payload: bytes, field: JsonPath) -> frozenset[str]:
    """The texts that a payload (JSON bytes, b"" for none) has in the field, alone or in an array."""
    if not payload:
        return frozenset()
    return frozenset(value for value in unwrap(select(orjson.loads(payload), field)) if isinstance(value, str))
