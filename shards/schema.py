"""What a collection is made of: its vectors, its graph parameters, and the limits on both.

Frozen pydantic models: they are stored in the catalogue, sent to shards as JSON, and filled from the HTTP API.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shards.distance import Distance
from shards.vector_layout import UNNAMED, VectorColumn, VectorLayout

DIM_MAX = 65_536
"""Qdrant's own limit for dense vectors."""

ROW_DIM_MAX = 4 * DIM_MAX
"""Components of all vectors of a point together: 1 MiB."""

VECTORS_MAX = 64
"""Named vectors of a collection. The data plane has room for 256."""

VECTOR_NAME_LENGTH_MAX = 255


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HnswSpec(_Frozen):
    """Graph parameters (Malkov & Yashunin, 2018). `m`: links a node on the upper layers, 2m on layer 0."""

    m: Annotated[int, Field(ge=2, le=128)] = 16
    ef_construction: Annotated[int, Field(ge=4, le=4096)] = 200
    ef_search: Annotated[int, Field(ge=1, le=10_000)] = 80


class VectorSpec(_Frozen):
    """One vector of a point. `hnsw` None: its graphs are made as the collection's are."""

    size: Annotated[int, Field(ge=1, le=DIM_MAX)]
    distance: Distance
    hnsw: HnswSpec | None = None


class CollectionSpec(_Frozen):
    """What every shard of a collection has to know. `vectors` by name; the unnamed one is called UNNAMED. Without any, points
    are payloads alone.
    """

    vectors: dict[str, VectorSpec]
    hnsw: HnswSpec = HnswSpec()

    @cached_property
    def layout(self) -> VectorLayout:
        """Where each vector stands in a point's row."""
        ordered = sorted(self.vectors.items())
        return VectorLayout.of([(name, vector.size, vector.distance) for name, vector in ordered])

    def hnsw_of(self, column: VectorColumn) -> HnswSpec:
        """Graph parameters of one vector."""
        return self.vectors[column.name].hnsw or self.hnsw

    @property
    def is_plain(self) -> bool:
        """Whether its points have the unnamed vector and no other."""
        return self.vectors.keys() == {UNNAMED}

    @model_validator(mode="after")
    def _vectors_fit(self) -> Self:
        if len(self.vectors) > VECTORS_MAX:
            raise ValueError(f"a collection has {VECTORS_MAX} vectors at most, not {len(self.vectors)}")
        if (components := sum(vector.size for vector in self.vectors.values())) > ROW_DIM_MAX:
            raise ValueError(f"a point's vectors have {components} components together; {ROW_DIM_MAX} is the limit")
        for name in self.vectors:
            if len(name) > VECTOR_NAME_LENGTH_MAX:
                raise ValueError(f"a vector's name has {len(name)} characters; the limit is {VECTOR_NAME_LENGTH_MAX}")
        return self
