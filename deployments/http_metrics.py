"""GET /metrics and GET /telemetry: what this router counted, and what the shards say of themselves.

Every number is at hand: nothing is measured for it. What the shards say is at most about a second old, however often
somebody scrapes (deployments/shard_statistics.py); collections of which a shard did not answer are left out and counted
in `shoal_collections_unreported`. Requests, phases and other counters are one router's own and carry its name, since behind
HAProxy each scrape may reach another one. Collections have labels of their own up to COLLECTIONS_MAX, the largest first;
the sums by shard are over all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from time import perf_counter
from typing import Any

import orjson

from cluster.requests import CollectionStatistics
from cluster.state import ClusterState
from deployments.http_message import HttpContext, Reply, Request, success
from deployments.http_service import API_LEVEL
from deployments.observability import Observed
from deployments.prometheus_text import CONTENT_TYPE, Metric, render
from deployments.shard_statistics import ShardStanding, standings

COLLECTIONS_MAX = 100
_MEMORY_LEVELS = ("normal", "throttle", "refuse")
Statistics = Mapping[str, Sequence[CollectionStatistics]]


async def metrics(context: HttpContext, request: Request) -> Reply:
    """GET /metrics, in Prometheus' text format"""
    state, observed = context.cluster.state, context.observed
    statistics = await observed.statistics.by_collection()
    about = Metric("shoal_info", "gauge", "Which Shoal this is; always 1.")
    about.add(1, {"version": context.shoal_version, "api_level": API_LEVEL, "cluster": state.cluster_id})
    found = [
        about,
        *_of_requests(observed),
        *_of_searches(observed),
        *observed.sources.metrics(),
        *_of_collections(state, statistics),
        *_of_shards(state, standings(statistics)),
    ]
    return Reply(render(found), content_type=CONTENT_TYPE)


async def telemetry(context: HttpContext, request: Request) -> Reply:
    """GET /telemetry: this router's part of what clients know of it"""
    requests = context.observed.requests
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


def _of_requests(observed: Observed) -> Iterator[Metric]:
    requests = observed.requests
    uptime = Metric("shoal_router_uptime_seconds", "gauge", "Seconds since this router began to count.")
    uptime.add(round(perf_counter() - requests.began, 3), {"router": requests.router})
    yield uptime
    count = Metric("shoal_http_requests_total", "counter", "Requests that a router answered.")
    for one in requests:
        count.add(one.requests, {"router": requests.router, **_of_route(one.route), "status": one.status})
    yield count
    latency = Metric("shoal_http_request_seconds", "histogram", "From a request's arrival to its reply.")
    for route, held in requests.latencies():
        latency.add_histogram(held, {"router": requests.router, **_of_route(route)})
    yield latency


def _of_route(route: str) -> dict[str, str]:
    method, _, path = route.partition(" ")
    return {"method": method, "route": path}


def _of_searches(observed: Observed) -> Iterator[Metric]:
    router = observed.requests.router
    phases = Metric("shoal_search_phase_seconds", "histogram", "Parts of a search, which add up to the whole.")
    for phase, held in observed.phases.phases():
        phases.add_histogram(held, {"router": router, "phase": phase})
    yield phases
    shards = Metric("shoal_shard_search_seconds", "histogram", "From a search's leaving to a shard's answer.")
    for shard, held in observed.phases.shards():
        shards.add_histogram(held, {"router": router, "shard": shard})
    yield shards


def _of_collections(state: ClusterState, statistics: Statistics) -> Iterator[Metric]:
    held = Metric("shoal_collections", "gauge", "Collections.")
    held.add(len(state.collections))
    yield held
    aliases = Metric("shoal_aliases", "gauge", "Aliases.")
    aliases.add(len(state.aliases))
    yield aliases
    silent = Metric("shoal_collections_unreported", "gauge", "Collections of which a shard did not answer.")
    silent.add(len(state.collections) - len(statistics))
    yield silent
    points = Metric("shoal_collection_points", "gauge", "Points of a collection, on all shards.")
    growing = Metric("shoal_collection_growing_points", "gauge", "Points that are in no graph yet.")
    segments = Metric("shoal_collection_segments", "gauge", "Segments of a collection, on all shards.")
    largest = sorted(statistics, key=lambda name: (-sum(one.point_count for one in statistics[name]), name))
    for name in largest[:COLLECTIONS_MAX]:
        shards, labels = statistics[name], {"collection": name}
        points.add(sum(shard.point_count for shard in shards), labels)
        growing.add(sum(shard.growing_count for shard in shards), labels)
        segments.add(sum(shard.segment_count for shard in shards), labels)
    yield from (points, growing, segments)


def _of_shards(state: ClusterState, standing: Mapping[int, ShardStanding]) -> Iterator[Metric]:
    """A shard without collections tells nothing but that it is there."""
    up = Metric("shoal_shard_up", "gauge", "1 where a shard serves, 0 where it is starting or has a problem.")
    for shard in state.shards:
        up.add(int(shard.address is not None and shard.problem is None), {"shard": shard.shard_id})
    yield up
    points = Metric("shoal_shard_points", "gauge", "Points on a shard, of all collections.")
    growing = Metric("shoal_shard_growing_points", "gauge", "Points on a shard that are in no graph yet.")
    segments = Metric("shoal_shard_segments", "gauge", "Segments on a shard.")
    files = Metric("shoal_shard_file_bytes", "gauge", "Bytes of its sealed segments' files.")
    building = Metric("shoal_shard_building", "gauge", "1 while a shard builds or merges a graph.")
    recall = Metric("shoal_shard_recall", "gauge", "Recall@10 by the shard's own probes; absent where none was made.")
    written = Metric("shoal_shard_written_bytes_total", "counter", "Bytes written, by what for.")
    for shard_id, one in standing.items():
        labels = {"shard": shard_id}
        points.add(one.points, labels)
        growing.add(one.growing_points, labels)
        segments.add(one.segments, labels)
        files.add(one.file_bytes, labels)
        building.add(int(one.is_building), labels)
        if one.recall is not None:
            recall.add(one.recall, labels)
        for what, count in one.written_bytes.items():
            written.add(count, {**labels, "by": what})
    yield from (points, growing, segments, files, building, recall, written)
    yield from _of_memory(standing)


def _of_memory(standing: Mapping[int, ShardStanding]) -> Iterator[Metric]:
    used = Metric(
        "shoal_shard_memory_used_bytes", "gauge", "Heap bytes of a shard's collections, as its model has them."
    )
    limit = Metric("shoal_shard_memory_limit_bytes", "gauge", "What these may be; absent without a limit.")
    level = Metric("shoal_shard_memory_level", "gauge", "1 for the level that a shard's memory is at.")
    for shard_id, one in standing.items():
        labels, memory = {"shard": shard_id}, one.memory
        if memory is None:
            continue
        used.add(memory["used_bytes"], labels)
        if memory.get("limit_bytes") is not None:
            limit.add(memory["limit_bytes"], labels)
        for name in _MEMORY_LEVELS:
            level.add(int(memory.get("level") == name), {**labels, "level": name})
    yield from (used, limit, level)
