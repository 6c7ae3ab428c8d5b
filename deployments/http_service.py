"""The routes about the service itself: who it is, whether it lives and can answer, and of what it consists."""

from __future__ import annotations

from typing import Any

import orjson

from cluster.breaker import BreakerStatus
from deployments.http_message import JSON, TEXT, HttpContext, Reply, Request, success
from deployments.readiness import RETRY_AFTER_S

API_LEVEL = "1.19.0"
"""The level of the Qdrant REST API whose subset this is; clients compare their own version with it."""


async def root(context: HttpContext, request: Request) -> Reply:
    """GET /"""
    about = {"title": "shoal", "version": API_LEVEL, "shoal_version": context.shoal_version}
    return Reply(orjson.dumps(about))


async def healthz(context: HttpContext, request: Request) -> Reply:
    """GET /healthz"""
    return Reply(b"healthz check passed", content_type=TEXT)


async def livez(context: HttpContext, request: Request) -> Reply:
    """GET /livez"""
    return Reply(b"livez check passed", content_type=TEXT)


async def readyz(context: HttpContext, request: Request) -> Reply:
    """GET /readyz: proved by real searches on every shard; as text, or as JSON where `accept` asks for it"""
    readiness = context.observed.readiness
    verdict = await readiness.check()
    status, headers = (200, ()) if verdict.is_ready else (503, ((b"retry-after", b"%d" % RETRY_AFTER_S),))
    if JSON in request.header(b"accept"):
        return Reply(orjson.dumps(readiness.describe(verdict)), status, JSON, headers)
    text = "all shards are ready" if verdict.is_ready else f"not ready: {'; '.join(verdict.reasons)}"
    return Reply(text.encode(), status, TEXT, headers)


async def get_cluster(context: HttpContext, request: Request) -> Reply:
    """GET /cluster: what clients expect of a server without consensus of theirs, and our shards under `shoal`"""
    state = context.cluster.state
    breakers = context.cluster.breakers()
    shards: list[dict[str, Any]] = [
        {
            "id": shard.shard_id,
            "address": shard.address and f"{shard.address.host}:{shard.address.port}",
            "problem": shard.problem,
            "breaker": breaker_in_json(breakers.get(shard.shard_id)),
            "collections": sorted(
                name for name, held in state.collections.items() if shard.shard_id in held.shard_map.shard_ids
            ),
        }
        for shard in state.shards
    ]
    shoal = {
        "cluster_id": state.cluster_id,
        "version": state.version,
        "shards": shards,
        "router": {"name": context.observed.requests.router, "admission": context.admission.in_json()},
    }
    return success(request, orjson.dumps({"status": "disabled", "shoal": shoal}))


def breaker_in_json(status: BreakerStatus | None) -> dict[str, Any] | None:
    """A breaker's part of an answer; None of a shard that this router does not know yet."""
    return status and {**status._asdict(), "failed_fraction": round(status.failed_fraction, 4)}


async def get_state(context: HttpContext, request: Request) -> Reply:
    """GET /shoal/state: the ClusterState, for a bulk load, which speaks to the shards itself and needs no keys' hashes"""
    return success(request, context.cluster.state.model_dump_json(exclude={"keys"}).encode())
