"""Fields of bodies that take many forms: how the API's description shows them.

They stay `Any` to pydantic, because the modules that read them say better what is wrong. What is said here describes, and
checks nothing; a form that stands here is one that those modules take.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import WithJsonSchema

from shards.distance import Distance
from shards.filters.grammar import Filter
from shards.filters.indexes import FieldKind
from shards.point_ids import INTEGER_MAX
from shards.schema import DIM_MAX

SCHEMAS = "#/components/schemas/"
"""Where the description has the models that its parts refer to."""

_NULL = {"type": "null"}
_TEXTS = {"type": "array", "items": {"type": "string"}}
_ID = {"anyOf": [{"type": "integer", "minimum": 0, "maximum": INTEGER_MAX}, {"type": "string", "format": "uuid"}]}
_PART = {"type": "object", "additionalProperties": False}
_PARTS = [{**_PART, "properties": {kind: _TEXTS}, "required": [kind]} for kind in ("include", "exclude")]
_KIND = {"enum": [kind.value for kind in FieldKind]}

Id = Annotated[Any, WithJsonSchema(_ID)]
OptionalId = Annotated[Any, WithJsonSchema({"anyOf": [*_ID["anyOf"], _NULL]})]
FilterForm = Annotated[Any, WithJsonSchema({"anyOf": [{"$ref": SCHEMAS + Filter.__name__}, _NULL]})]
PayloadForm = Annotated[Any, WithJsonSchema({"anyOf": [{"type": "boolean"}, _TEXTS, *_PARTS, _NULL]})]
"""`with_payload`"""
VectorForm = Annotated[Any, WithJsonSchema({"anyOf": [{"type": "boolean"}, _TEXTS, _NULL]})]
"""`with_vector`"""
StartForm = Annotated[
    Any, WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string", "format": "date-time"}, _NULL]})
]
"""Where an order by a field's values starts."""
FieldForm = Annotated[
    Any, WithJsonSchema({"anyOf": [_KIND, {"type": "object", "properties": {"type": _KIND}, "required": ["type"]}]})
]
"""`field_schema`"""
Size = Annotated[int, WithJsonSchema({"type": "integer", "minimum": 1, "maximum": DIM_MAX})]
DistanceName = Annotated[str, WithJsonSchema({"enum": [distance.value for distance in Distance]})]
