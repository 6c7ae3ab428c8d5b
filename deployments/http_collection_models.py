"""The bodies of what changes a collection that exists, or its aliases. What holds for `http_models.py` holds here."""

from __future__ import annotations

from typing import Annotated, Any

from deployments.http_config_models import ConfigBody, Memory, OptimizersBody, ParametersBody, StrictModeBody, absent
from deployments.http_models import HnswBody, JsonObject


class VectorChangeBody(ConfigBody):
    hnsw_config: HnswBody | None = None
    quantization_config: Annotated[Any, absent("quantization")] = None
    on_disk: bool | None = None
    memory: Memory | None = None


class UpdateCollectionBody(ConfigBody):
    """What changes no answer. Graph parameters may be repeated, not changed (`http_collection_config.py` sees to it)."""

    vectors: dict[str, VectorChangeBody] | None = None
    optimizers_config: OptimizersBody | None = None
    params: ParametersBody | None = None
    hnsw_config: HnswBody | None = None
    quantization_config: Annotated[Any, absent("quantization")] = None
    sparse_vectors: Annotated[Any, absent("a sparse vector (`sparse_vectors`)")] = None
    strict_mode_config: StrictModeBody | None = None
    metadata: JsonObject | None = None


class CreateAliasBody(ConfigBody):
    collection_name: str
    alias_name: str


class DeleteAliasBody(ConfigBody):
    alias_name: str


class RenameAliasBody(ConfigBody):
    old_alias_name: str
    new_alias_name: str


class AliasActionBody(ConfigBody):
    """Exactly one of them."""

    create_alias: CreateAliasBody | None = None
    delete_alias: DeleteAliasBody | None = None
    rename_alias: RenameAliasBody | None = None


class ChangeAliasesBody(ConfigBody):
    actions: list[AliasActionBody]
