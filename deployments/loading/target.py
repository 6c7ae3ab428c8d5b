"""The collection that a load goes into: one made like the source's vectors, or one that exists and that they have to fit.

Pure. A vector of the collection that the source does not have is no misfit: the points are loaded without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from cluster.state import ClusterState
from deployments.loading.schema import called
from deployments.loading.source import SourceVector
from shards.distance import Distance
from shards.errors import DimensionMismatch, InvalidRequest, NotFound
from shards.schema import CollectionSpec, HnswSpec


@dataclass(frozen=True, slots=True)
class NewCollection:
    """What a collection that is made for a load is like; its vectors' names and sizes come from the source."""

    distance: Distance = Distance.COSINE
    hnsw: HnswSpec = field(default_factory=HnswSpec)


def existing_spec(collection: str, state: ClusterState) -> CollectionSpec:
    """What a collection that is there, perhaps under an alias, is like. Raises NotFound."""
    found = state.find(collection)
    if found is None:
        raise NotFound(f"there is no collection `{collection}`; add --create to make it from the file's columns")
    return found.spec


def new_spec(new: NewCollection, vectors: Sequence[SourceVector]) -> CollectionSpec:
    """A collection of these vectors. Raises InvalidRequest where there can't be one."""
    wanted = {vector.name: {"size": vector.size, "distance": new.distance} for vector in vectors}
    try:
        return CollectionSpec.model_validate({"vectors": wanted, "hnsw": new.hnsw})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InvalidRequest(
            f"no collection can have such vectors: {place}: {first['msg']}; nothing was sent"
        ) from None


def check_fits(vectors: Sequence[SourceVector], collection: str, spec: CollectionSpec) -> None:
    """Raises InvalidRequest where the collection has not one of the vectors, DimensionMismatch where it has another size."""
    for vector in vectors:
        held = spec.vectors.get(vector.name)
        if held is None:
            names = ", ".join(f"{called(name)} of {one.size}" for name, one in sorted(spec.vectors.items()))
            raise InvalidRequest(
                f"the collection `{collection}` has no {called(vector.name)} for column `{vector.column}`, it has {names};"
                " nothing was sent"
            )
        if vector.size and vector.size != held.size:
            which = f" as {called(vector.name)}" if vector.name else ""
            raise DimensionMismatch(
                f"the vectors in column `{vector.column}` have {vector.size} components, those of collection"
                f" `{collection}`{which} {held.size}; nothing was sent"
            )
