"""What a write other than an upsert changes about a point: its payload, or some of its vectors. Pure.

A change names no points; who is changed stands beside it. It travels and is logged as JSON (`encode`), because it is small
and read once for many points. What `set` does at a path: the object there takes the new keys in, null removes a key, and
what is in the way (a value that is no object, a name that is not there) is replaced by an object on the way to the last
step; an array is never made longer.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shards.errors import Corrupt
from shards.filters.paths import JsonPath, Step, parse_path

JsonObject = dict[str, Any]


class ChangeKind(StrEnum):
    """`set` merges `payload` into the payload, or into what `path` leads to; `overwrite` replaces the payload by it;
    `delete` removes what `paths` lead to; `clear` removes everything; `drop_vectors` those with the `numbers`.
    """

    SET = "set"
    OVERWRITE = "overwrite"
    DELETE = "delete"
    CLEAR = "clear"
    DROP_VECTORS = "drop_vectors"


class PointChange(BaseModel):
    """See ChangeKind: which fields count follows from the kind. Paths are those of shards/filters/paths.py. `keeps` leads to
    what no point's payload may get other texts in: where one would, the whole write is refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: ChangeKind
    payload: JsonObject = {}
    path: str | None = None
    paths: tuple[str, ...] = ()
    keeps: str | None = None
    numbers: Annotated[tuple[int, ...], Field(max_length=256)] = ()

    def encode(self) -> bytes:
        """JSON that `decode_change` reads."""
        return orjson.dumps(self.model_dump(mode="json", exclude_defaults=True))


def decode_change(encoded: bytes | memoryview) -> PointChange:
    """The change. Raises Corrupt where the bytes are none."""
    try:
        change = PointChange.model_validate(orjson.loads(encoded))
        for text in (*change.paths, change.path, change.keeps):
            if text is not None:
                parse_path(text)
    except (ValidationError, ValueError) as error:
        raise Corrupt(f"a change of points can't be read: {error}") from None
    return change


def changed_payload(stored: bytes, change: PointChange) -> bytes:
    """The payload after the change, as it is stored: JSON bytes, b"" for an empty one."""
    if change.kind is ChangeKind.DROP_VECTORS:
        return stored
    document: JsonObject = {}
    if change.kind in (ChangeKind.SET, ChangeKind.DELETE) and stored:
        document = orjson.loads(stored)
    if change.kind is ChangeKind.OVERWRITE:
        document = change.payload
    elif change.kind is ChangeKind.DELETE:
        for text in change.paths:
            _remove(document, parse_path(text).steps)
    elif change.kind is ChangeKind.SET and change.path is None:
        _merge(document, change.payload)
    elif change.kind is ChangeKind.SET:
        assert change.path is not None
        _set(document, parse_path(change.path), change.payload)
    return orjson.dumps(document) if document else b""


def _merge(target: JsonObject, given: JsonObject) -> JsonObject:
    for name, value in given.items():
        if value is None:
            target.pop(name, None)
        else:
            target[name] = value
    return target


def _set(document: JsonObject, path: JsonPath, given: JsonObject) -> None:
    """Merge `given` into every place that the path leads to; see the module for what is in the way."""
    holder: JsonObject = {"": document}
    _set_in(holder, "", path.steps, given)


def _set_in(holder: Any, place: Any, steps: tuple[Step, ...], given: JsonObject) -> None:
    """`holder[place]` is what the steps start from."""
    value = holder[place]
    if not steps:
        # Each place gets objects of its own, so that a later change of one does not reach the others.
        own = orjson.loads(orjson.dumps(given))
        holder[place] = _merge(value if isinstance(value, dict) else {}, own)
        return
    step, rest = steps[0], steps[1:]
    if isinstance(step, str):
        if not isinstance(value, dict):
            value = holder[place] = {}
        value.setdefault(step, {})
        _set_in(value, step, rest, given)
    elif not isinstance(value, list):
        holder[place] = []
    else:
        for number in range(len(value)) if step is None else [step] if step < len(value) else []:
            _set_in(value, number, rest, given)


def _remove(value: Any, steps: tuple[Step, ...]) -> None:
    """A last step that is a place in an array removes nothing (said twice it would remove two); `[]` empties the array."""
    step, rest = steps[0], steps[1:]
    if not rest:
        if isinstance(step, str) and isinstance(value, dict):
            value.pop(step, None)
        elif step is None and isinstance(value, list):
            value.clear()
        return
    if isinstance(step, str):
        if isinstance(value, dict) and step in value:
            _remove(value[step], rest)
    elif isinstance(value, list):
        for inner in value if step is None else value[step : step + 1]:
            _remove(inner, rest)
