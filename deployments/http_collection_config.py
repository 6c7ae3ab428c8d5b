"""A collection's configuration between the API's bodies, the settings in the catalogue, and what GET shows.

What shapes the collection is its CollectionSpec; everything else that was given becomes settings
(cluster/collection_settings.py), in the sections of the shown `config`: `params`, `vectors` (by name), `hnsw_config`,
`optimizer_config`, `wal_config`, `strict_mode_config`, `metadata`. A section is there if something of it was given.

Graphs that exist keep their `m` and `ef_construct`: a change of these is refused, their repetition is accepted. (Taking
them for later graphs alone would leave a collection of two kinds of graph, and nobody could tell which.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from pydantic import BaseModel

from deployments.http_collection_models import UpdateCollectionBody, VectorChangeBody
from deployments.http_models import CreateCollectionBody, HnswBody, VectorBody
from shards.errors import InvalidRequest, NotSupported
from shards.schema import CollectionSpec, HnswSpec
from shards.vector_layout import UNNAMED

_PARAMETERS = {"replication_factor", "write_consistency_factor", "on_disk_payload", "payload", "id_tracker"}
_OF_A_VECTOR = {"on_disk", "memory", "datatype", "hnsw_config"}
_OF_THE_SPEC = {"m", "ef_construct"}


def settings_of_creation(body: CreateCollectionBody) -> dict[str, Any]:
    """What a new collection keeps of its body besides its spec."""
    vectors = body.vectors or {}
    return _present({
        "params": _given(body, include=_PARAMETERS),
        "vectors": _vector_settings({UNNAMED: vectors} if isinstance(vectors, VectorBody) else vectors),
        "hnsw_config": _given(body.hnsw_config, exclude=_OF_THE_SPEC),
        "optimizer_config": _given(body.optimizers_config),
        "wal_config": _given(body.wal_config),
        "strict_mode_config": _given(body.strict_mode_config),
        "metadata": body.metadata,
    })  # fmt: skip


def settings_of_change(body: UpdateCollectionBody, spec: CollectionSpec) -> dict[str, Any]:
    """The settings that a change replaces. Raises InvalidRequest for a vector that is not there, and NotSupported for a
    change of graphs.
    """
    _check_graphs("hnsw_config", body.hnsw_config, spec.hnsw)
    for name, change in (body.vectors or {}).items():
        if name not in spec.vectors:
            raise InvalidRequest(f"Wrong input: Not existing vector name error: {name[:80]}")
        _check_graphs(f"vectors.{name[:80]}.hnsw_config", change.hnsw_config, _graphs_of(spec, name))
    return _present({
        "params": _given(body.params),
        "vectors": _vector_settings(body.vectors or {}),
        "hnsw_config": _given(body.hnsw_config, exclude=_OF_THE_SPEC),
        "optimizer_config": _given(body.optimizers_config),
        "strict_mode_config": _given(body.strict_mode_config),
        "metadata": body.metadata,
    })  # fmt: skip


def shown_configuration(configuration: dict[str, Any], settings_text: str) -> dict[str, Any]:
    """`configuration`, as the API shows a collection that was given no settings, with those that it has."""
    settings = orjson.loads(settings_text)
    vectors = configuration["params"]["vectors"]
    # One unnamed vector is shown without its name. A vector that is called "size" would be an object.
    by_name = {UNNAMED: vectors} if isinstance(vectors.get("size"), int) else vectors
    for name, given in settings.pop("vectors", {}).items():
        by_name[name].update(given)
    for section, given in settings.items():
        if section == "metadata":
            configuration[section] = given
        else:
            configuration[section] = {**(configuration.get(section) or {}), **given}
    return configuration


def _vector_settings(vectors: Mapping[str, VectorBody | VectorChangeBody]) -> dict[str, Any]:
    return {name: given for name, vector in vectors.items() if (given := _given(vector, include=_OF_A_VECTOR))}


def _given(body: BaseModel | None, **which: set[str]) -> dict[str, Any]:
    return {} if body is None else body.model_dump(exclude_none=True, **which)  # type: ignore[arg-type]


def _present(sections: dict[str, Any]) -> dict[str, Any]:
    """Without what was not given. Empty metadata is given."""
    return {name: given for name, given in sections.items() if given or (name == "metadata" and given is not None)}


def _graphs_of(spec: CollectionSpec, name: str) -> HnswSpec:
    return spec.vectors[name].hnsw or spec.hnsw


def _check_graphs(place: str, asked: HnswBody | None, has: HnswSpec) -> None:
    if asked is None:
        return
    for key, value, current in (("m", asked.m, has.m), ("ef_construct", asked.ef_construct, has.ef_construction)):
        if value is not None and value != current:
            raise NotSupported(
                f"`{place}.{key}` can't be changed, it is {current}: changing the graphs of a collection that exists is not"
                " supported; load its points into a new one and move an alias there"
            )
