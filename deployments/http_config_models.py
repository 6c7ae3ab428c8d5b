"""The parts of a collection's configuration that change no answer here, as pydantic models.

They tell another engine how to run; here they are checked for their form, kept and shown again, because clients set them
and compare what they read. Spellings are the Qdrant REST API's. Null stands for a field that is not given.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from shards.errors import NotSupported

_Count = Annotated[int, Field(ge=1)]
_Natural = Annotated[int, Field(ge=0)]
Memory = Literal["cold", "cached", "pinned"]
"""Where another engine would hold a part of a collection."""


class _Absent(AfterValidator):
    """Describes its field as one that stays empty."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"enum": [None, [], {}], "description": "not supported yet"}


def absent(feature: str) -> AfterValidator:
    """Refuses every value of a field but null and the empty list or object, naming the feature."""

    def refuse(value: Any) -> None:
        if value is not None and value not in ([], {}):
            raise NotSupported(f"{feature} is not supported yet")

    return _Absent(refuse)


def _no_strict_mode(enabled: bool | None) -> bool | None:
    if enabled:
        raise NotSupported("strict mode (`strict_mode_config.enabled`) is not supported")
    return enabled


class ConfigBody(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class PlacementBody(ConfigBody):
    """Of payloads, and of the table of ids."""

    memory: Memory | None = None


class OptimizersBody(ConfigBody):
    """How another engine would merge and index its segments."""

    deleted_threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    vacuum_min_vector_number: _Natural | None = None
    default_segment_number: _Natural | None = None
    max_segment_size: _Natural | None = None
    memmap_threshold: _Natural | None = None
    indexing_threshold: _Natural | None = None
    flush_interval_sec: _Natural | None = None
    max_optimization_threads: _Natural | Literal["auto"] | None = None
    prevent_unoptimized: bool | None = None


class WalBody(ConfigBody):
    wal_capacity_mb: _Count | None = None
    wal_segments_ahead: _Natural | None = None
    wal_retain_closed: _Natural | None = None


class StrictModeBody(ConfigBody):
    """Limits that count where strict mode is enabled, which it can't be here (Shoal's own limits always count)."""

    enabled: Annotated[bool | None, AfterValidator(_no_strict_mode)] = None
    max_query_limit: _Natural | None = None
    max_timeout: _Natural | None = None
    unindexed_filtering_retrieve: bool | None = None
    unindexed_filtering_update: bool | None = None
    search_max_hnsw_ef: _Natural | None = None
    search_allow_exact: bool | None = None
    search_max_oversampling: float | None = None
    upsert_max_batchsize: _Natural | None = None
    search_max_batchsize: _Natural | None = None
    max_collection_vector_size_bytes: _Natural | None = None
    read_rate_limit: _Natural | None = None
    write_rate_limit: _Natural | None = None
    max_collection_payload_size_bytes: _Natural | None = None
    max_points_count: _Natural | None = None
    filter_max_conditions: _Natural | None = None
    condition_max_size: _Natural | None = None
    multivector_config: dict[str, dict[str, _Natural | None]] | None = None
    sparse_config: dict[str, dict[str, _Natural | None]] | None = None
    max_payload_index_count: _Natural | None = None
    max_resident_memory_percent: _Natural | None = None


class ParametersBody(ConfigBody):
    """What a change of a collection may say of its copies and of where its payloads lie."""

    replication_factor: _Count | None = None
    write_consistency_factor: _Count | None = None
    read_fan_out_factor: _Natural | None = None
    read_fan_out_delay_ms: _Natural | None = None
    on_disk_payload: bool | None = None
    payload: PlacementBody | None = None
    id_tracker: PlacementBody | None = None
