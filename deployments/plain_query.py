"""The usual body of a query, read without pydantic: a vector, a limit, a width, and what is shown.

Of a body of 50 numbers pydantic takes four times as long, which is a tenth of a router's work for a search. What has anything
besides these, or anything wrong, is None here, and read by the models (http_models.py), which have the words for it: what
this reads, they read equally.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from deployments.http_models import QueryBatchBody, QueryBody, SearchParameters

_NUMBERS = frozenset({float, int})
_FIELDS = {"limit": int, "offset": int, "params": dict, "with_payload": bool, "with_vector": bool, "using": str}
_PARAMETERS = {"hnsw_ef": int, "exact": bool}


class PlainParameters(NamedTuple):
    """As of SearchParameters."""

    hnsw_ef: int | None = None
    exact: bool | None = None


class PlainQuery(NamedTuple):
    """The fields of a QueryBody that are read of one."""

    query: list[float]
    limit: int | None = None
    offset: int | None = None
    params: PlainParameters | None = None
    with_payload: bool | None = None
    vectors_shown: bool | None = None
    using: str | None = None
    score_threshold: float | None = None
    filter: None = None


AnyQuery = QueryBody | PlainQuery


def plain_query(body: bytes) -> PlainQuery | None:
    """A query, if it is a plain one."""
    try:
        return _plain(orjson.loads(body))
    except orjson.JSONDecodeError:
        return None


def plain_batch(body: bytes) -> list[PlainQuery] | None:
    """The queries of a batch, if they all are plain ones."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if type(document) is not dict or document.keys() != QueryBatchBody.model_fields.keys():
        return None
    searches = document["searches"]
    if type(searches) is not list:
        return None
    found = []
    for one in searches:
        query = _plain(one)
        if query is None:
            return None
        found.append(query)
    return found


def _plain(document: Any) -> PlainQuery | None:
    if type(document) is not dict:
        return None
    query = document.pop("query", None)
    if type(query) is dict and len(query) == 1:
        query = query.get("nearest")  # what qdrant-client makes of a list
    if type(query) is not list or not query or not _NUMBERS.issuperset(map(type, query)):
        return None
    for name, value in document.items():
        if type(value) is not _FIELDS.get(name) and (value is not None or name not in QueryBody.model_fields):
            return None
    limit, offset = document.get("limit"), document.get("offset")
    if (limit is not None and limit < 1) or (offset is not None and offset < 0):
        return None
    given, parameters = document.get("params"), None
    if given is not None and (parameters := _parameters(given)) is None:
        return None
    shown = document.get("with_payload"), document.get("with_vector")
    return PlainQuery(query, limit, offset, parameters, *shown, document.get("using"))


def _parameters(document: dict[str, Any]) -> PlainParameters | None:
    for name, value in document.items():
        if type(value) is not _PARAMETERS.get(name) and (
            value is not None or name not in SearchParameters.model_fields
        ):
            return None
    ef = document.get("hnsw_ef")
    return None if ef is not None and ef < 1 else PlainParameters(ef, document.get("exact"))
