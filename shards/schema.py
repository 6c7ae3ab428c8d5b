"""What a collection is made of: its vectors, its graph parameters, and the limits on both.

Frozen pydantic models: they are stored in the catalogue, sent to shards as JSON, and filled from the HTTP API.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from shards.distance import Distance

DIM_MAX = 65_536
"""Qdrant's own limit for dense vectors."""

UNNAMED = ""
"""The name of a collection's unnamed vector."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class VectorSpec(_Frozen):
    """One vector of a point."""

    size: Annotated[int, Field(ge=1, le=DIM_MAX)]
    distance: Distance


class HnswSpec(_Frozen):
    """Graph parameters (Malkov & Yashunin, 2018). `m`: links a node on the upper layers, 2m on layer 0."""

    m: Annotated[int, Field(ge=2, le=128)] = 16
    ef_construction: Annotated[int, Field(ge=4, le=4096)] = 200
    ef_search: Annotated[int, Field(ge=1, le=10_000)] = 80


class CollectionSpec(_Frozen):
    """What every shard of a collection has to know. Today `vectors` holds the unnamed vector alone."""

    vectors: dict[str, VectorSpec]
    hnsw: HnswSpec = HnswSpec()

    @property
    def vector(self) -> VectorSpec:
        return self.vectors[UNNAMED]
