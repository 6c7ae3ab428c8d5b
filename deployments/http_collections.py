"""The routes on collections: list, create, describe, delete, exists, and where a collection's shards are.

Configuration that belongs to another engine (optimizers, its own log, where payloads lie) has no effect, and is kept and
shown (`http_collection_config.py`). What would change answers and is missing here is refused by name (`http_models.py`).
"""

from __future__ import annotations

from typing import Any

import orjson
from pydantic import ValidationError

from cluster.requests import CollectionStatistics
from deployments.http_access import sees
from deployments.http_collection_config import settings_of_creation, shown_configuration
from deployments.http_errors import ValidationFailed
from deployments.http_indexes import payload_schema
from deployments.http_json import described, parse_body
from deployments.http_message import HttpContext, Reply, Request, success
from deployments.http_models import CreateCollectionBody, HnswBody, VectorBody
from deployments.limits import LimitSettings
from shards.errors import InvalidRequest, LimitExceeded, NotFound, NotSupported, Unavailable
from shards.schema import CollectionSpec, HnswSpec, VectorSpec
from shards.vector_layout import UNNAMED

_NAME_FORBIDS = frozenset('<>:"/\\|?*\ufffd')
"""Qdrant's list, and what stands in for bytes of a path that are no UTF-8."""
_FULL_SCAN_THRESHOLD_KIB = 10_000
_FLUSH_INTERVAL_S = 5


async def list_collections(context: HttpContext, request: Request) -> Reply:
    """GET /collections: those that the caller may see"""
    held = context.cluster.state.collections.items()
    named = [{"name": name} for name, state in sorted(held) if sees(request.access, name, state)]
    return success(request, orjson.dumps({"collections": named}))


async def collection_exists(context: HttpContext, request: Request) -> Reply:
    """GET /collections/{c}/exists"""
    try:
        context.cluster.collection(request.collection)
    except NotFound:
        return success(request, b'{"exists":false}')
    return success(request, b'{"exists":true}')


async def create_collection(context: HttpContext, request: Request) -> Reply:
    """PUT /collections/{c}"""
    check_name(request.named, context.limits)
    body = parse_body(CreateCollectionBody, request.body)
    spec = collection_spec(body)
    settings, deadline_s = settings_of_creation(body), request.deadline_s(context.limits)
    await context.cluster.create_collection(request.named, spec, body.shard_number, deadline_s, settings)
    return success(request, b"true")


async def delete_collection(context: HttpContext, request: Request) -> Reply:
    """DELETE /collections/{c}: true if there was one; an alias is none"""
    deleted = await context.cluster.delete_collection(request.named, request.deadline_s(context.limits))
    return success(request, b"true" if deleted else b"false")


async def get_collection(context: HttpContext, request: Request) -> Reply:
    """GET /collections/{c}; yellow, as the API has it, while graphs are built or merged in the background. A key for some
    tenants is told the number of their points; other counts, which are everybody's, are left out or 0
    """
    collection = context.cluster.collection(request.collection)
    deadline_s, is_partial = request.deadline_s(context.limits), bool(request.tenants)
    own_count = (await context.cluster.count(request.collection, deadline_s)).count if is_partial else 0
    statistics = await context.cluster.statistics(request.collection._replace(tenants=()), deadline_s)
    point_count = sum(shard.point_count for shard in statistics)
    indexed_count = point_count - sum(shard.growing_count for shard in statistics)
    schema = payload_schema(statistics)
    configuration = _configuration(collection.spec, len(collection.shard_map.shard_ids))
    result = {
        "status": "yellow" if not is_partial and any(shard.is_building for shard in statistics) else "green",
        "optimizer_status": "ok",
        "points_count": own_count if is_partial else point_count,
        "indexed_vectors_count": None if is_partial else indexed_count,
        "segments_count": 0 if is_partial else sum(shard.segment_count for shard in statistics),
        "config": shown_configuration(configuration, collection.settings),
        "payload_schema": {field: about | {"points": 0} for field, about in schema.items()} if is_partial else schema,
    }
    return success(request, orjson.dumps(result))


async def get_collection_shards(context: HttpContext, request: Request) -> Reply:
    """GET /collections/{c}/cluster; answers also while shards are down, for that is when one asks"""
    collection = context.cluster.collection(request.collection)
    by_shard: dict[int, CollectionStatistics] = {}
    problem = None
    try:
        found = await context.cluster.statistics(request.collection, request.deadline_s(context.limits))
        by_shard = {shard.shard_id: shard for shard in found}
    except Unavailable as error:
        problem = error.message
    states = {shard.shard_id: shard for shard in context.cluster.state.shards}
    shards: list[dict[str, Any]] = []
    details: list[dict[str, Any]] = []
    for shard_id in collection.shard_map.shard_ids:
        state, numbers = states.get(shard_id), by_shard.get(shard_id)
        alive = state is not None and state.address is not None and state.problem is None
        shards.append({
            "shard_id": shard_id,
            "points_count": 0 if numbers is None else numbers.point_count,
            "state": "Active" if alive else "Dead",
        })  # fmt: skip
        details.append({
            "id": shard_id,
            "address": state and state.address and f"{state.address.host}:{state.address.port}",
            "problem": state.problem if state else "the cluster doesn't know this shard",
            "growing_count": numbers and numbers.growing_count,
            "segment_count": numbers and numbers.segment_count,
            "bytes": numbers and numbers.bytes,
            "recall": numbers and numbers.recall,
            "waits_for": numbers and numbers.waits_for,
            "is_building": numbers and numbers.is_building,
            "written_bytes": numbers and numbers.written_bytes,
            "memory": numbers and dict(numbers.memory),
        })  # fmt: skip
    result = {
        "peer_id": 0,
        "shard_count": len(shards),
        "local_shards": shards,
        "remote_shards": [],
        "shard_transfers": [],
        "shoal": {
            "epoch": collection.shard_map.epoch,
            "tenant_field": collection.owner_field,
            "is_spread_by_tenant": collection.tenant_field is not None,
            "problem": problem,
            "shards": details,
        },
    }
    return success(request, orjson.dumps(result))


def check_name(name: str, limits: LimitSettings) -> None:
    """Raises InvalidRequest or LimitExceeded where a new collection can't have this name."""
    if len(name) > limits.name_length_max:
        raise LimitExceeded(
            f"a collection's name has {len(name)} characters; the limit name_length_max is {limits.name_length_max}"
        )
    bad = next((character for character in name if character in _NAME_FORBIDS or not character.isprintable()), None)
    if bad is not None:
        raise InvalidRequest(f"collection name cannot contain {bad!r}: {name[:80]!r}")
    if name in ("", ".", ".."):
        raise InvalidRequest(f"{name!r} can't be the name of a collection")


def collection_spec(body: CreateCollectionBody) -> CollectionSpec:
    """What the body asks for. Raises NotSupported or an InvalidRequest."""
    if body.sharding_method not in (None, "auto"):
        raise NotSupported(f"`sharding_method` {body.sharding_method[:40]!r} is not supported; leave it out")
    vectors = {UNNAMED: body.vectors} if isinstance(body.vectors, VectorBody) else body.vectors
    try:
        return CollectionSpec(
            vectors={name: _vector_spec(name, vector, body.hnsw_config) for name, vector in (vectors or {}).items()},
            hnsw=_hnsw(body.hnsw_config),
        )
    except ValidationError as error:
        raise ValidationFailed(described(error, "JSON body").message) from None


def _vector_spec(name: str, vector: VectorBody, hnsw: HnswBody | None) -> VectorSpec:
    """One vector. Its own graph parameters come before the collection's."""
    place = f"vectors.{name[:80]}" if name else "vectors"
    if vector.datatype not in (None, "float32"):
        raise NotSupported(f"{place}.datatype {vector.datatype[:40]!r} is not supported; vectors are float32")
    own = None if vector.hnsw_config is None else _hnsw(hnsw, vector.hnsw_config)
    return VectorSpec.model_validate({"size": vector.size, "distance": vector.distance, "hnsw": own})


def _hnsw(*given: HnswBody | None) -> HnswSpec:
    """Graph parameters: later settings come before earlier ones."""
    chosen: dict[str, int] = {}
    for config in given:
        if config is not None and config.m is not None:
            chosen["m"] = config.m
        if config is not None and config.ef_construct is not None:
            chosen["ef_construction"] = config.ef_construct
    return HnswSpec.model_validate(chosen)


def _configuration(spec: CollectionSpec, shard_count: int) -> dict[str, Any]:
    """`config` as clients expect it, with what another engine would have at rest where Shoal has no such thing."""
    return {
        "params": {
            "vectors": _vector_parameters(spec),
            "shard_number": shard_count,
            "replication_factor": 1,
            "write_consistency_factor": 1,
            "on_disk_payload": True,
        },
        "hnsw_config": {
            "m": spec.hnsw.m,
            "ef_construct": spec.hnsw.ef_construction,
            "full_scan_threshold": _FULL_SCAN_THRESHOLD_KIB,
            "max_indexing_threads": 0,
            "on_disk": False,
        },
        "optimizer_config": {"default_segment_number": 0, "flush_interval_sec": _FLUSH_INTERVAL_S},
        "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0},
        "quantization_config": None,
    }


def _vector_parameters(spec: CollectionSpec) -> dict[str, Any]:
    """A collection's vectors as clients give them: by name, but for the unnamed one where it is alone."""
    shown: dict[str, dict[str, Any]] = {}
    for name, vector in spec.vectors.items():
        shown[name] = {"size": vector.size, "distance": vector.distance.value}
        if vector.hnsw is not None:
            shown[name]["hnsw_config"] = {"m": vector.hnsw.m, "ef_construct": vector.hnsw.ef_construction}
    return shown[UNNAMED] if spec.is_plain else shown
