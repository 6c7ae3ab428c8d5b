"""What a collection's makers said of it that changes no answer: kept in the catalogue as one JSON text, and shown again.

Settings are an object of sections (`optimizer_config`, `metadata`, ...), each an object itself; what they mean is the
API's affair (deployments/http_collection_config.py), and shards never see them. Decided here: how a change joins what
stands, and what the catalogue takes in: text that is small, that every parser reads (some stop at 200 levels), and that
keeps each number as it was. Text, because values won't do: Python takes `1` and `true` for equal, and a change from one
to the other for none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Set
from typing import Any

from shards.errors import InvalidRequest, LimitExceeded

NO_SETTINGS = "{}"
METADATA = "metadata"
"""The section that is the user's own."""
VECTORS = "vectors"
"""The section that has an object for each vector that something was given for, by its name."""
SETTINGS_BYTES_MAX = 64 * 1024
"""Of one collection."""
SETTINGS_DEPTH_MAX = 32
"""Objects and arrays inside each other, the settings themselves included."""
_INTEGER_MIN, _INTEGER_MAX = -(2**63), 2**64 - 1


def encode_settings(settings: Mapping[str, Any]) -> str:
    """The text to keep. Raises LimitExceeded with the limit's name, or InvalidRequest for what it can't keep exactly."""
    if problem := _problem(settings, SETTINGS_DEPTH_MAX):
        raise InvalidRequest(f"a collection's configuration and metadata {problem}")
    text = json.dumps(settings, ensure_ascii=False, separators=(",", ":"))
    if (size := len(text.encode())) > SETTINGS_BYTES_MAX:
        raise LimitExceeded(
            f"a collection's configuration and metadata are {size} bytes of JSON; the limit SETTINGS_BYTES_MAX is"
            f" {SETTINGS_BYTES_MAX}"
        )
    return text


def decode_settings(text: str, vector_names: Set[str]) -> dict[str, Any]:
    """The settings in a text that comes from elsewhere, of a collection with these vectors. Raises as `encode_settings` for
    what that would not have made.
    """
    if (size := len(text)) > SETTINGS_BYTES_MAX:
        raise LimitExceeded(
            f"settings: {size} characters are more than the limit SETTINGS_BYTES_MAX, {SETTINGS_BYTES_MAX}"
        )
    try:
        settings = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"settings: they are no JSON that can be read: {str(error)[:200]}") from None
    if not _are_sections(settings) or not _are_sections(settings.get(VECTORS, {})):
        raise InvalidRequest("settings: they are no object of sections, each an object itself")
    if unknown := settings.get(VECTORS, {}).keys() - vector_names:
        raise InvalidRequest(f"settings: they are for a vector {min(unknown)[:80]!r}, which is not there")
    encode_settings(settings)
    return settings


def _are_sections(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(section, dict) for section in value.values())


def merge_settings(text: str, changes: Mapping[str, Any]) -> str:
    """The settings after a change: objects are merged, anything else is replaced. In metadata that stands already a null
    removes its key, and values are replaced whole. Errors as of `encode_settings`.
    """
    settings: dict[str, Any] = json.loads(text)
    merged = _merged(settings, {name: change for name, change in changes.items() if name != METADATA})
    if METADATA in changes:
        change = changes[METADATA]
        stands = settings.get(METADATA)
        merged[METADATA] = change if stands is None else _without_nulls_of(change, stands)
    return encode_settings(merged)


def _merged(stands: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(stands)
    for key, value in change.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _without_nulls_of(change: Mapping[str, Any], stands: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**stands, **change}
    return {key: value for key, value in merged.items() if key not in change or value is not None}


def _problem(value: Any, depth_left: int) -> str | None:
    match value:
        case float():
            return None if math.isfinite(value) else "hold a number that is NaN or beyond the range of a 64-bit float"
        case int():
            return None if _INTEGER_MIN <= value <= _INTEGER_MAX else "hold an integer beyond 64 bits"
        case str():
            return None if _is_unicode(value) else "hold text that is no Unicode"
        case dict() | list() if depth_left == 0:
            return f"are nested deeper than the limit SETTINGS_DEPTH_MAX of {SETTINGS_DEPTH_MAX}"
        case dict():
            parts = [*value, *value.values()]
        case list():
            parts = value
        case _:
            return None
    return next((problem for part in parts if (problem := _problem(part, depth_left - 1))), None)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
