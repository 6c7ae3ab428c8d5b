"""A declared payload field: what it holds, and what a caller said of it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from shards.filters.indexes import FieldKind


class FieldSchema(BaseModel):
    """`kind` counts, and `is_tenant` of a keyword field; `options` are echoed (tokenizer, lookup, on_disk, ...)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: FieldKind
    is_tenant: bool = False
    options: dict[str, Any] = {}
