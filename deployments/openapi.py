"""The OpenAPI document of the HTTP API, made from its route tables and the models of its bodies.

Nothing is described twice: paths and methods are the tables', a body's form is its model's; sentences and examples are
openapi_words.py's, and what a handler's docstring adds follows. BODIES says which route takes which body; a route that is
not in it takes none, or one that is not described yet. Answers are described by their envelope alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from deployments.http_cache import ClearCacheBody
from deployments.http_collection_models import ChangeAliasesBody, UpdateCollectionBody
from deployments.http_forms import SCHEMAS
from deployments.http_keys import CreateKeyBody, RevokeKeyBody
from deployments.http_message import Handler
from deployments.http_models import (
    CountBody,
    CreateCollectionBody,
    FieldIndexBody,
    LegacySearchBody,
    OperationsBody,
    PayloadBody,
    PayloadKeysBody,
    QueryBatchBody,
    QueryBody,
    RetrieveBody,
    ScrollBody,
    SelectionBody,
    UpsertBody,
    VectorNamesBody,
    VectorsBody,
)
from deployments.http_parameters import CONSISTENCIES, ORDERINGS, TIMEOUT_S_MIN
from deployments.http_snapshots import RecoverSnapshotBody
from deployments.limits import LimitSettings
from deployments.openapi_words import EXAMPLES, SUMMARIES
from shards.filters.grammar import Filter

Routes = Mapping[str, Mapping[str, Handler]]
"""Handlers by path template and method."""

BODIES: dict[str, type[BaseModel]] = {
    "POST /shoal/cache/clear": ClearCacheBody,
    "POST /shoal/keys": CreateKeyBody,
    "POST /shoal/keys/revoke": RevokeKeyBody,
    "PUT /collections/{collection}": CreateCollectionBody,
    "PATCH /collections/{collection}": UpdateCollectionBody,
    "POST /collections/aliases": ChangeAliasesBody,
    "PUT /collections/{collection}/points": UpsertBody,
    "POST /collections/{collection}/points": RetrieveBody,
    "POST /collections/{collection}/points/delete": SelectionBody,
    "POST /collections/{collection}/points/scroll": ScrollBody,
    "PUT /collections/{collection}/points/vectors": VectorsBody,
    "POST /collections/{collection}/points/vectors/delete": VectorNamesBody,
    "POST /collections/{collection}/points/payload": PayloadBody,
    "PUT /collections/{collection}/points/payload": PayloadBody,
    "POST /collections/{collection}/points/payload/delete": PayloadKeysBody,
    "POST /collections/{collection}/points/payload/clear": SelectionBody,
    "POST /collections/{collection}/points/batch": OperationsBody,
    "PUT /collections/{collection}/index": FieldIndexBody,
    "POST /collections/{collection}/points/count": CountBody,
    "POST /collections/{collection}/points/query": QueryBody,
    "POST /collections/{collection}/points/query/batch": QueryBatchBody,
    "POST /collections/{collection}/points/search": LegacySearchBody,
    "PUT /collections/{collection}/snapshots/recover": RecoverSnapshotBody,
}
_TEXT_ROUTES = frozenset({"/healthz", "/livez", "/readyz", "/metrics", "/docs"})
OPEN_ROUTES = frozenset({"/", "/healthz", "/livez", "/readyz", "/docs"})
"""Those that need no key on a cluster that has keys."""
GUARDED_ROUTES = frozenset({"/shoal/keys", "/shoal/keys/revoke"})
"""Those that need a key also where a cluster has none."""
_SECURITY: dict[str, Any] = {
    "key": {"type": "apiKey", "in": "header", "name": "api-key"},
    "bearer": {"type": "http", "scheme": "bearer"},
}
_KEY_NEEDED: list[dict[str, list[str]]] = [{scheme: []} for scheme in _SECURITY]
_READS = frozenset(
    ("POST", f"/points{rest}") for rest in ("", "/count", "/scroll", "/query", "/query/batch", "/search")
)
_SEARCHES = ("/points/query", "/points/search")
TAGS = (
    *("collections", "payload indexes", "writing points", "reading points", "search", "aliases"),
    *("snapshots", "API keys", "service"),
)
"""The groups of routes, in the order in which they are shown."""
_TIMEOUT = {
    "name": "timeout",
    "in": "query",
    "description": "the deadline in seconds, whole ones or with a fraction",
    "schema": {"type": "number", "minimum": TIMEOUT_S_MIN, "maximum": LimitSettings().timeout_s_max},
}
_ORDERING = {
    "name": "ordering",
    "in": "query",
    "description": "how writes are ordered over copies of a shard; there is one, so each value is kept",
    "schema": {"enum": list(ORDERINGS)},
}
_CONSISTENCY = {
    "name": "consistency",
    "in": "query",
    "description": "how many copies of a shard have to agree; there is one, so each value is kept",
    "schema": {"anyOf": [{"enum": list(CONSISTENCIES)}, {"type": "integer", "minimum": 1, "maximum": 999_999_999}]},
}
_MIN_COVERAGE = {
    "name": "shoal-min-coverage",
    "in": "header",
    "description": "the fraction of the shards that is enough: below 1 an answer may be partial, and says what is missing",
    "schema": {"type": "number", "minimum": 0, "maximum": 1, "default": 1},
}
_PARTIAL_READS = frozenset(
    ("/points/count", "/points/scroll", "/points/query", "/points/query/batch", "/points/search")
)
_WAIT = {
    "name": "wait",
    "in": "query",
    "description": "answer when the write is visible to every later read",
    "schema": {"type": "boolean", "default": False},
}
_WAIT_AS_A_RULE = {
    **_WAIT,
    "description": "answer when it is done; false: at once (202), whatever becomes of it",
    "schema": {"type": "boolean", "default": True},
}
_SUCCESS: dict[str, Any] = {
    "type": "object",
    "properties": {"result": {}, "status": {"const": "ok"}, "time": {"type": "number", "description": "seconds"}},
    "required": ["result", "status", "time"],
}
_ERROR: dict[str, Any] = {
    "type": "object",
    "properties": {
        "status": {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]},
        "time": {"type": "number"},
    },
    "required": ["status", "time"],
}


def describe(routes: Routes, version: str, has_keys: bool = False) -> dict[str, Any]:
    """The document (OpenAPI 3.1) as an object. `version`: Shoal's own; `has_keys`: whether the cluster asks for a key."""
    bodies, definitions = _schemas()
    paths = {
        path: {
            method.lower(): _operation(path, method, handler, bodies) | {"security": _security(path, has_keys)}
            for method, handler in methods.items()
        }
        for path, methods in routes.items()
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Shoal",
            "version": version,
            "description": "A vector retrieval cluster. Implements a subset of the Qdrant REST API.",
        },
        "tags": [{"name": tag} for tag in TAGS],
        "paths": paths,
        "components": {
            "schemas": {**definitions, "Success": _SUCCESS, "Error": _ERROR},
            "securitySchemes": _SECURITY,
        },
    }


@cache
def _schemas() -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """How each route refers to its body, and what is referred to. Made once: it takes 30 ms, on the loop that answers
    searches.
    """
    models: list[type[BaseModel]] = list(dict.fromkeys([*BODIES.values(), Filter]))
    names, definitions = models_json_schema(
        [(model, "validation") for model in models], ref_template=SCHEMAS + "{model}"
    )
    return {route: names[model, "validation"] for route, model in BODIES.items()}, definitions["$defs"]


def _operation(path: str, method: str, handler: Handler, bodies: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    route, said = f"{method} {path}", _remark(handler)
    described: dict[str, Any] = {
        "operationId": getattr(handler, "__name__", path),
        "tags": [_tag(method, path)],
        "summary": SUMMARIES.get(route) or said or route,
        "responses": {
            "200": _answer(method, path),
            "default": _json("what is wrong, and what to do", {"$ref": SCHEMAS + "Error"}),
        },
    }
    if said and route in SUMMARIES:
        described["description"] = said
    if parameters := _parameters(path, method):
        described["parameters"] = parameters
    if (body := bodies.get(route)) is not None:
        example = {"example": EXAMPLES[route]} if route in EXAMPLES else {}
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": body, **example}}}
    return described


def _tag(method: str, path: str) -> str:
    """The group that a route is shown in."""
    below = path.removeprefix("/collections/{collection}")
    if path.endswith("/aliases"):
        return "aliases"
    if below.startswith("/snapshots"):
        return "snapshots"
    if below.startswith("/index"):
        return "payload indexes"
    if below.startswith("/points"):
        if below.startswith(_SEARCHES):
            return "search"
        return "reading points" if method == "GET" or (method, below) in _READS else "writing points"
    if path.startswith("/collections"):
        return "collections"
    return "API keys" if path.startswith("/shoal/keys") else "service"


def _security(path: str, has_keys: bool) -> list[dict[str, list[str]]]:
    return _KEY_NEEDED if path in GUARDED_ROUTES or (has_keys and path not in OPEN_ROUTES) else []


def _parameters(path: str, method: str) -> list[dict[str, Any]]:
    """The path's, and those of the query and of the headers that its handler heeds."""
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", path)
    ]
    below = path.removeprefix("/collections/{collection}")
    if path == "/collections/aliases":
        return [_TIMEOUT]
    if below == path or below in ("/exists", "/aliases", "/cluster"):
        return found
    if below.startswith("/snapshots"):
        return [*found, _TIMEOUT, *([] if method == "GET" else [_WAIT_AS_A_RULE])]
    if not below.startswith(("/points", "/index")):
        return [*found, _TIMEOUT]
    if below in _PARTIAL_READS:
        return [*found, _TIMEOUT, _CONSISTENCY, _MIN_COVERAGE]
    is_read = (method, below) in _READS or method == "GET"
    return [*found, _TIMEOUT, *([_CONSISTENCY] if is_read else [_WAIT, _ORDERING])]


def _remark(handler: Handler) -> str:
    """What a handler's docstring says behind the route itself; "" where it says nothing."""
    _, _, rest = " ".join((handler.__doc__ or "").split()).partition(" ")
    return rest.partition(" ")[2]


def _answer(method: str, path: str) -> dict[str, Any]:
    if path.endswith("/snapshots/{name}") and method == "GET":
        return {"description": "a tar", "content": {"application/x-tar": {"schema": {"type": "string"}}}}
    if path in _TEXT_ROUTES:
        kind = "text/html" if path == "/docs" else "text/plain"
        return {"description": "text", "content": {kind: {"schema": {"type": "string"}}}}
    if path in ("/", "/openapi.json"):
        return _json("an object without the envelope", {"type": "object"})
    return _json("the envelope of a success", {"$ref": SCHEMAS + "Success"})


def _json(description: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
