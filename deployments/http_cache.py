"""POST /shoal/cache/clear: let go of kept answers, of all or of one collection or tenant. For operators: an answer is
checked before it is given, so nothing has to be cleared for freshness' sake.

One router clears its own memory, and for every router what is shared in Redis. Behind several routers the others keep
theirs; `Cache-Control: no-cache` replaces one answer wherever it arrives.
"""

from __future__ import annotations

from typing import Annotated

import orjson
from pydantic import BaseModel, ConfigDict, Field

from deployments.http_json import parse_body
from deployments.http_message import HttpContext, Reply, Request, success
from shards.errors import InvalidRequest

TENANT_LENGTH_MAX = 65_536


class ClearCacheBody(BaseModel):
    """Which answers: all where neither is given; of a tenant only within a collection that has a tenant field."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    collection: str | None = None
    tenant: Annotated[str, Field(min_length=1, max_length=TENANT_LENGTH_MAX)] | None = None


async def clear_cache(context: HttpContext, request: Request) -> Reply:
    """POST /shoal/cache/clear"""
    body = parse_body(ClearCacheBody, request.body or b"{}")
    if body.tenant is not None and body.collection is None:
        raise InvalidRequest("Wrong input: `tenant` needs the `collection` that it is a tenant of")
    state = None if body.collection is None else context.cluster.collection(body.collection)
    if body.tenant is not None and state is not None and state.tenant_field is None:
        raise InvalidRequest(f"Wrong input: collection `{body.collection}` has no tenant field")
    if context.cache is None:
        return success(request, orjson.dumps({"cleared": 0, "shared": None}))
    cleared, shared = await context.cache.clear(state, body.tenant)
    return success(request, orjson.dumps({"cleared": cleared, "shared": shared}))
