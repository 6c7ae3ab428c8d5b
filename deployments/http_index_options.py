"""What may be said of a payload index beside its kind, for each kind.

Options that say how another engine stores and builds its index (`on_disk`, `lookup`, `is_principal`, ...) change no answer
here; they are kept and shown. What would change which points a filter finds, and is missing here, is refused by name.
Two of those are let through all the same, because nearly every text index is declared with them: `min_token_len` and
`max_token_len`. Words of every length are found here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from deployments.http_config_models import Memory
from shards.errors import NotSupported
from shards.filters.indexes import FieldKind

_Length = Annotated[int, Field(ge=0)]


def _only(feature: str, *allowed: Any) -> AfterValidator:
    """Refuses every value but those allowed, and null, naming the feature."""

    def check(value: Any) -> Any:
        if value is not None and not any(value is one or value == one for one in allowed):
            raise NotSupported(f"{feature} is not supported: {value!r:.60}")
        return value

    return AfterValidator(check)


class IndexOptions(BaseModel):
    """Options of every kind."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: str
    on_disk: bool | None = None
    memory: Memory | None = None
    enable_hnsw: bool | None = None
    nested: Annotated[Any, _only("`nested` of an index")] = None


class KeywordOptions(IndexOptions):
    is_tenant: bool | None = None
    prefix: bool | None = None


class UuidOptions(IndexOptions):
    is_tenant: bool | None = None


class RangeOptions(IndexOptions):
    is_principal: bool | None = None


class IntegerOptions(RangeOptions):
    lookup: bool | None = None
    range: bool | None = None


class TextOptions(IndexOptions):
    """Words are what shards/filters/words.py takes for them."""

    tokenizer: Annotated[str | None, _only("this `tokenizer` of a text index", "word")] = None
    min_token_len: _Length | None = None
    max_token_len: _Length | None = None
    lowercase: Annotated[bool | None, _only("`lowercase` of a text index", True)] = None
    ascii_folding: Annotated[bool | None, _only("`ascii_folding` of a text index", False)] = None
    phrase_matching: bool | None = None
    stopwords: Annotated[Any, _only("`stopwords` of a text index")] = None
    stemmer: Annotated[Any, _only("`stemmer` of a text index")] = None
    scoring: Annotated[Any, _only("`scoring` of a text index", False)] = None


OPTIONS: Mapping[FieldKind, type[IndexOptions]] = {
    FieldKind.KEYWORD: KeywordOptions,
    FieldKind.INTEGER: IntegerOptions,
    FieldKind.FLOAT: RangeOptions,
    FieldKind.BOOL: IndexOptions,
    FieldKind.DATETIME: RangeOptions,
    FieldKind.UUID: UuidOptions,
    FieldKind.TEXT: TextOptions,
    FieldKind.GEO: IndexOptions,
}
