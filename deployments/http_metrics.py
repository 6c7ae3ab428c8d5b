"""GET /metrics and GET /telemetry: what this router counted, and what the shards say of themselves.

Every number is at hand: nothing is measured for it. A scrape asks the shards of every collection, a few collections at
once, within DEADLINE_S as a whole; what did not answer in time is left out and counted in
`shoal_collections_unreported`. Requests are one router's own (deployments/request_counts.py) and carry its name, since
behind HAProxy each scrape may reach another one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import perf_counter
from typing import Any

import orjson

from cluster.requests import CollectionStatistics
from cluster.state import ClusterState
from deployments.http_message import HttpContext, Reply, Request, success
from deployments.http_service import API_LEVEL
from deployments.limit_metrics import admission_metrics, breaker_metric
from deployments.prometheus_text import CONTENT_TYPE, Metric, render
from deployments.request_counts import RequestCounts
from shards.errors import ShoalError

DEADLINE_S = 5.0
COLLECTIONS_AT_ONCE = 16
_MEMORY_LEVELS = ("normal", "throttle", "refuse")


async def metrics(context: HttpContext, request: Request) -> Reply:
    """GET /metrics, in Prometheus' text format"""
    state = context.cluster.state
    statistics = await _ask_collections(context)
    about = Metric("shoal_info", "gauge", "Which Shoal this is; always 1.")
    about.add(1, {"version": context.shoal_version, "api_level": API_LEVEL, "cluster": state.cluster_id})
    found = [
        about,
        *_of_requests(context.requests),
        *_of_collections(state, statistics),
        *_of_shards(state, statistics),
        breaker_metric(context.requests.router, context.cluster.breakers()),
        *admission_metrics(context.requests.router, context.admission),
    ]
    return Reply(render(found), content_type=CONTENT_TYPE)


async def telemetry(context: HttpContext, request: Request) -> Reply:
    """GET /telemetry: this router's part of what clients know of it"""
    requests = context.requests
    responses: dict[str, dict[str, Any]] = {}
    for route, status, count, seconds in requests:
        responses.setdefault(route, {})[str(status)] = {
            "count": count,
            "fail_count": count if status >= 500 else 0,
            "avg_duration_micros": seconds / count * 1e6,
            "total_duration_micros": int(seconds * 1e6),
        }
    state = context.cluster.state
    result = {
        "id": requests.router,
        "app": {"name": "shoal", "version": API_LEVEL, "startup": requests.started.isoformat()},
        "collections": {"number_of_collections": len(state.collections)},
        "cluster": {"enabled": False},
        "requests": {"rest": {"responses": responses}, "grpc": {"responses": {}}},
        "shoal": {"version": context.shoal_version, "cluster_id": state.cluster_id, "aliases": len(state.aliases)},
    }
    return success(request, orjson.dumps(result))


async def _ask_collections(context: HttpContext) -> dict[str, list[CollectionStatistics]]:
    """What the shards say, by collection; without those that did not answer in time."""
    give_up_at = perf_counter() + DEADLINE_S
    turns = asyncio.Semaphore(COLLECTIONS_AT_ONCE)

    async def ask(name: str) -> list[CollectionStatistics] | None:
        async with turns:
            left_s = give_up_at - perf_counter()
            if left_s <= 0:
                return None
            try:
                return await context.cluster.statistics(name, left_s)
            except ShoalError:
                return None

    names = sorted(context.cluster.state.collections)
    answers = await asyncio.gather(*(ask(name) for name in names))
    return {name: answer for name, answer in zip(names, answers, strict=True) if answer is not None}


def _of_requests(requests: RequestCounts) -> list[Metric]:
    count = Metric("shoal_http_requests_total", "counter", "Requests that a router answered.")
    spent = Metric(
        "shoal_http_request_seconds_total", "counter", "Seconds from a request's arrival to its reply, summed."
    )
    for one in requests:
        method, _, path = one.route.partition(" ")
        labels = {"router": requests.router, "method": method, "route": path, "status": one.status}
        count.add(one.requests, labels)
        spent.add(round(one.seconds, 6), labels)
    return [count, spent]


def _of_collections(state: ClusterState, statistics: Mapping[str, list[CollectionStatistics]]) -> list[Metric]:
    held = Metric("shoal_collections", "gauge", "Collections.")
    held.add(len(state.collections))
    aliases = Metric("shoal_aliases", "gauge", "Aliases.")
    aliases.add(len(state.aliases))
    silent = Metric(
        "shoal_collections_unreported", "gauge", "Collections of which a shard did not answer this scrape."
    )
    silent.add(len(state.collections) - len(statistics))
    points = Metric("shoal_collection_points", "gauge", "Points of a collection, on all shards.")
    growing = Metric("shoal_collection_growing_points", "gauge", "Points that are in no graph yet.")
    segments = Metric("shoal_collection_segments", "gauge", "Segments of a collection, on all shards.")
    for name, shards in statistics.items():
        labels = {"collection": name}
        points.add(sum(shard.point_count for shard in shards), labels)
        growing.add(sum(shard.growing_count for shard in shards), labels)
        segments.add(sum(shard.segment_count for shard in shards), labels)
    return [held, aliases, silent, points, growing, segments]


def _of_shards(state: ClusterState, statistics: Mapping[str, list[CollectionStatistics]]) -> list[Metric]:
    """A shard tells its memory with each of its collections; the last one counts. One without collections is silent."""
    up = Metric("shoal_shard_up", "gauge", "1 where a shard serves, 0 where it is starting or has a problem.")
    for shard in state.shards:
        up.add(int(shard.address is not None and shard.problem is None), {"shard": shard.shard_id})
    memory = {
        one.shard_id: one.memory["shard"] for shards in statistics.values() for one in shards if "shard" in one.memory
    }
    used = Metric(
        "shoal_shard_memory_used_bytes", "gauge", "Heap bytes of a shard's collections, as its model has them."
    )
    limit = Metric("shoal_shard_memory_limit_bytes", "gauge", "What these may be; absent without a limit.")
    level = Metric("shoal_shard_memory_level", "gauge", "1 for the level that a shard's memory is at.")
    for shard_id, standing in sorted(memory.items()):
        labels = {"shard": shard_id}
        used.add(standing["used_bytes"], labels)
        if standing.get("limit_bytes") is not None:
            limit.add(standing["limit_bytes"], labels)
        for name in _MEMORY_LEVELS:
            level.add(int(standing.get("level") == name), {**labels, "level": name})
    return [up, used, limit, level]
