"""The request bodies that the HTTP API accepts, as pydantic models that are filled straight from the body's bytes.

Unknown fields are refused; null stands for a field's default everywhere. Fields that can take many forms (vectors,
queries, selectors) are typed for their common form and fall through to `Unusual` or `Any`: the modules that read them
say what is wrong in the caller's words, and name the feature where Shoal doesn't have it. Spellings are the
Qdrant REST API's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from cluster.slots import SLOT_COUNT
from deployments.http_config_models import Memory, OptimizersBody, PlacementBody, StrictModeBody, WalBody, absent
from deployments.http_forms import (
    DistanceName,
    FieldForm,
    FilterForm,
    Id,
    OptionalId,
    PayloadForm,
    Size,
    StartForm,
    VectorForm,
)


@dataclass(frozen=True, slots=True)
class Unusual:
    """A value that has not the common form of its field: what it is, if anything, is still to be found out.

    The wrapper lets readers tell a list that pydantic has proved to hold finite floats from one that it has not.
    """

    value: Any


_Fallback = Annotated[Any, AfterValidator(Unusual)]
# The first alternative that fits is taken, so that a plain list of numbers costs one pass and no retry.
VectorValue = Annotated[list[float] | _Fallback, Field(union_mode="left_to_right")]
VectorRows = Annotated[list[list[float]] | _Fallback, Field(union_mode="left_to_right")]
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
JsonObject = dict[str, Any]


_NoShardKey = Annotated[Any, absent("`shard_key`")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class HnswBody(_Body):
    """`m` and `ef_construct` shape the graph; the rest tells another engine how to run and changes no answer here."""

    m: int | None = None
    ef_construct: int | None = None
    full_scan_threshold: int | None = None
    max_indexing_threads: int | None = None
    on_disk: bool | None = None
    memory: Memory | None = None
    payload_m: int | None = None
    inline_storage: bool | None = None


class VectorBody(_Body):
    """What a collection's vectors are. `on_disk` and `memory` are where another engine would hold them."""

    size: Size
    distance: DistanceName
    hnsw_config: HnswBody | None = None
    quantization_config: Annotated[Any, absent("quantization")] = None
    on_disk: bool | None = None
    memory: Memory | None = None
    datatype: str | None = None
    multivector_config: Annotated[Any, absent("a multivector (`multivector_config`)")] = None


class CreateCollectionBody(_Body):
    """`vectors`, `hnsw_config` and `shard_number` count; the rest changes no answer, or is refused by name."""

    vectors: VectorBody | dict[str, VectorBody] | None = None
    shard_number: Annotated[int, Field(ge=1, le=SLOT_COUNT)] | None = None
    sharding_method: str | None = None
    replication_factor: Count | None = None
    write_consistency_factor: Count | None = None
    on_disk_payload: bool | None = None
    payload: PlacementBody | None = None
    id_tracker: PlacementBody | None = None
    hnsw_config: HnswBody | None = None
    wal_config: WalBody | None = None
    optimizers_config: OptimizersBody | None = None
    quantization_config: Annotated[Any, absent("quantization")] = None
    sparse_vectors: Annotated[Any, absent("a sparse vector (`sparse_vectors`)")] = None
    strict_mode_config: StrictModeBody | None = None
    metadata: JsonObject | None = None


class PointBody(_Body):
    id: Id
    vector: VectorValue
    payload: JsonObject | None = None


class BatchBody(_Body):
    ids: list[Id]
    vectors: VectorRows
    payloads: list[JsonObject | None] | None = None


class UpsertBody(_Body):
    """`points` or `batch`, exactly one."""

    points: Annotated[list[PointBody] | None, Field(fail_fast=True)] = None
    batch: BatchBody | None = None
    shard_key: _NoShardKey = None
    update_filter: FilterForm = None
    update_mode: Literal["upsert", "insert_only", "update_only"] | None = None


class _Showing(_Body):
    """What an answer shows of points. `with_vectors` is another spelling of `with_vector`."""

    with_payload: PayloadForm = None
    with_vector: VectorForm = None
    with_vectors: VectorForm = None

    @property
    def vectors_shown(self) -> Any:
        """What either spelling asks for."""
        return self.with_vector if self.with_vectors is None else self.with_vectors


class RetrieveBody(_Showing):
    ids: list[Id]
    shard_key: _NoShardKey = None


class SelectionBody(_Body):
    """Which points: `points`, a list of ids, or `filter`; an empty filter means every point."""

    points: list[Id] | None = None
    filter: FilterForm = None
    shard_key: _NoShardKey = None


class PayloadBody(SelectionBody):
    """What is set, or becomes the payload. `key`: a path in the payload below which it is set."""

    payload: JsonObject
    key: str | None = None


class PayloadKeysBody(SelectionBody):
    """The paths that are removed from payloads."""

    keys: list[str]


class PointVectorsBody(_Body):
    id: Id
    vector: VectorValue


class VectorsBody(_Body):
    """Vectors that points get in place of those of the same name."""

    points: Annotated[list[PointVectorsBody], Field(min_length=1, fail_fast=True)]
    shard_key: _NoShardKey = None
    update_filter: FilterForm = None


class VectorNamesBody(SelectionBody):
    """The names of the vectors that points lose."""

    vector: Annotated[list[str], Field(min_length=1)]


class OperationBody(_Body):
    """One operation of a batch: exactly one of these."""

    upsert: UpsertBody | None = None
    delete: SelectionBody | None = None
    set_payload: PayloadBody | None = None
    overwrite_payload: PayloadBody | None = None
    delete_payload: PayloadKeysBody | None = None
    clear_payload: SelectionBody | None = None
    update_vectors: VectorsBody | None = None
    delete_vectors: VectorNamesBody | None = None


class OperationsBody(_Body):
    operations: Annotated[list[OperationBody], Field(fail_fast=True)]


class FieldIndexBody(_Body):
    """`field_schema`: a kind's name, or an object with it as `type`, and options beside it."""

    # Without a default it would be missing in pydantic's words; http_indexes.py names the kinds that there are.
    model_config = ConfigDict(json_schema_extra={"required": ["field_name", "field_schema"]})

    field_name: str
    field_schema: FieldForm = Field(default_factory=lambda: None)


class OrderByBody(_Body):
    """`start_from`: a number, or a date as text."""

    key: str
    direction: Literal["asc", "desc"] | None = None
    start_from: StartForm = None


class ScrollBody(_Showing):
    """One page of points. `order_by`: a path alone, or an object."""

    offset: OptionalId = None
    limit: Count | None = None
    filter: FilterForm = None
    order_by: OrderByBody | str | None = None
    shard_key: _NoShardKey = None


class CountBody(_Body):
    filter: FilterForm = None
    exact: bool | None = None
    shard_key: _NoShardKey = None


class SearchParameters(_Body):
    """`hnsw_ef` and `exact` count; without the rest an answer is never worse."""

    hnsw_ef: Count | None = None
    exact: bool | None = None
    quantization: Any = None
    indexed_only: bool | None = None
    acorn: Any = None
    idf: Any = None


class _Search(_Showing):
    """What every form of search has."""

    filter: FilterForm = None
    params: SearchParameters | None = None
    score_threshold: float | None = None
    offset: Natural | None = None
    shard_key: _NoShardKey = None


class NearestBody(_Body):
    """The form that `qdrant-client` gives a plain vector."""

    nearest: list[float]


def _unusual_query(value: Any) -> Unusual | None:
    return None if value is None else Unusual(value)


_QueryFallback = Annotated[Any, AfterValidator(_unusual_query)]
QueryValue = Annotated[list[float] | NearestBody | _QueryFallback, Field(union_mode="left_to_right")]


class QueryBody(_Search):
    query: QueryValue = None
    using: str | None = None
    limit: Count | None = None
    prefetch: Annotated[Any, absent("`prefetch`")] = None
    lookup_from: Annotated[Any, absent("`lookup_from`")] = None


class QueryBatchBody(_Body):
    searches: Annotated[list[QueryBody], Field(fail_fast=True)]


class LegacySearchBody(_Search):
    """The form of `points/search`, older than `points/query`."""

    vector: VectorValue
    limit: Count
