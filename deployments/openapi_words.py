"""What the API's description says of each route: a sentence, and of each body an example.

The examples are one story: `articles` with two named vectors, in the order in which they can be sent to a new cluster
(tests/unit/deployments/test_openapi_words.py sends them). A route that is not here is told by its handler's docstring.
"""

from __future__ import annotations

from typing import Any

SUMMARIES: dict[str, str] = {
    "GET /": "Name and version",
    "GET /healthz": "Whether this router answers",
    "GET /livez": "Whether this router answers",
    "GET /readyz": "Whether this router can search every shard",
    "GET /metrics": "Metrics for Prometheus: this router's and the shards'",
    "GET /telemetry": "Name, version and counts, as clients know them",
    "GET /openapi.json": "This document",
    "GET /docs": "The page that shows this document",
    "GET /cluster": "The shards: addresses, problems, collections",
    "GET /shoal/state": "What a bulk load needs to reach the shards itself",
    "POST /shoal/cache/clear": "Forget kept answers to queries",
    "GET /shoal/keys": "List the API keys",
    "POST /shoal/keys": "Make an API key",
    "DELETE /shoal/keys": "Forget all API keys: the cluster is open",
    "POST /shoal/keys/revoke": "Revoke an API key",
    "GET /collections": "List the collections",
    "GET /aliases": "List all aliases",
    "POST /collections/aliases": "Create, move, rename and delete aliases",
    "GET /collections/{collection}": "Describe a collection: settings, counts, payload indexes",
    "PUT /collections/{collection}": "Create a collection",
    "PATCH /collections/{collection}": "Change a collection's settings",
    "DELETE /collections/{collection}": "Delete a collection with all its points",
    "GET /collections/{collection}/aliases": "List a collection's aliases",
    "GET /collections/{collection}/exists": "Whether a collection exists",
    "GET /collections/{collection}/cluster": "Which shards hold a collection",
    "PUT /collections/{collection}/index": "Declare a payload index",
    "DELETE /collections/{collection}/index/{field}": "Withdraw a payload index",
    "PUT /collections/{collection}/points": "Upsert points",
    "POST /collections/{collection}/points": "Retrieve points by id",
    "GET /collections/{collection}/points/{id}": "Retrieve one point",
    "POST /collections/{collection}/points/delete": "Delete points by id or by filter",
    "POST /collections/{collection}/points/batch": "Several writes, one after the other",
    "PUT /collections/{collection}/points/vectors": "Replace vectors of points",
    "POST /collections/{collection}/points/vectors/delete": "Remove named vectors from points",
    "POST /collections/{collection}/points/payload": "Set payload fields, keep the others",
    "PUT /collections/{collection}/points/payload": "Replace whole payloads",
    "POST /collections/{collection}/points/payload/delete": "Remove payload fields",
    "POST /collections/{collection}/points/payload/clear": "Remove whole payloads",
    "POST /collections/{collection}/points/scroll": "Page through points, by id or by a field's value",
    "POST /collections/{collection}/points/count": "Count points",
    "POST /collections/{collection}/points/query": "Find the nearest points",
    "POST /collections/{collection}/points/query/batch": "Many queries in one request",
    "POST /collections/{collection}/points/search": "Find the nearest points, in the older form",
    "GET /collections/{collection}/snapshots": "List a collection's snapshots",
    "POST /collections/{collection}/snapshots": "Take a snapshot",
    "GET /collections/{collection}/snapshots/{name}": "Download a snapshot",
    "DELETE /collections/{collection}/snapshots/{name}": "Delete a snapshot",
    "PUT /collections/{collection}/snapshots/recover": "Make a collection of a snapshot, in place of the one there is",
}
"""By method and path template."""

_QUERY = [0.1, 0.8, 0.3, 0.4]
_OF_ANNA = {"must": [{"key": "author", "match": {"value": "anna"}}]}

EXAMPLES: dict[str, Any] = {
    "PUT /collections/{collection}": {
        "vectors": {"text": {"size": 4, "distance": "Cosine"}, "image": {"size": 2, "distance": "Euclid"}}
    },
    "PATCH /collections/{collection}": {"metadata": {"model": "text-embedder-2"}},
    "PUT /collections/{collection}/index": {"field_name": "author", "field_schema": "keyword"},
    "PUT /collections/{collection}/points": {
        "points": [
            {
                "id": 1,
                "vector": {"text": [0.1, 0.9, 0.2, 0.4], "image": [0.5, 2.0]},
                "payload": {"author": "anna", "title": "On shoals", "year": 2023},
            },
            {
                "id": "f9168c5e-ceb2-4faa-b6bf-329bf39fa1e4",
                "vector": {"text": [0.7, 0.1, 0.6, 0.2]},
                "payload": {"author": "ben", "title": "On rays", "year": 2024},
            },
        ]
    },
    "POST /collections/{collection}/points": {"ids": [1], "with_payload": True, "with_vector": True},
    "POST /collections/{collection}/points/query": {
        "query": _QUERY,
        "using": "text",
        "filter": _OF_ANNA,
        "params": {"hnsw_ef": 128},
        "score_threshold": 0.5,
        "limit": 3,
        "with_payload": True,
    },
    "POST /collections/{collection}/points/query/batch": {
        "searches": [
            {"query": _QUERY, "using": "text", "limit": 3},
            {"query": [0.4, 1.5], "using": "image", "limit": 1, "with_payload": ["title"]},
        ]
    },
    "POST /collections/{collection}/points/search": {"vector": {"name": "text", "vector": _QUERY}, "limit": 3},
    "POST /collections/{collection}/points/scroll": {"filter": _OF_ANNA, "limit": 10, "with_payload": True},
    "POST /collections/{collection}/points/count": {"filter": {"must": [{"key": "year", "range": {"gte": 2020}}]}},
    "PUT /collections/{collection}/points/vectors": {"points": [{"id": 1, "vector": {"image": [0.6, 1.9]}}]},
    "POST /collections/{collection}/points/vectors/delete": {"points": [1], "vector": ["image"]},
    "POST /collections/{collection}/points/payload": {"payload": {"read": True}, "filter": _OF_ANNA},
    "PUT /collections/{collection}/points/payload": {"payload": {"title": "On shoals, revised"}, "points": [1]},
    "POST /collections/{collection}/points/payload/delete": {"keys": ["read"], "points": [1]},
    "POST /collections/{collection}/points/payload/clear": {"points": [1]},
    "POST /collections/{collection}/points/batch": {
        "operations": [
            {"upsert": {"points": [{"id": 2, "vector": {"text": _QUERY}, "payload": {"author": "anna"}}]}},
            {"set_payload": {"payload": {"read": False}, "points": [2]}},
        ]
    },
    "POST /collections/{collection}/points/delete": {"filter": _OF_ANNA},
    "PUT /collections/{collection}/snapshots/recover": {"location": "snapshot-2026-11-28-09-30-00-a1b2c3"},
    "POST /collections/aliases": {
        "actions": [{"create_alias": {"alias_name": "newest-articles", "collection_name": "articles"}}]
    },
    "POST /shoal/cache/clear": {"collection": "articles"},
    "POST /shoal/keys": {"grants": [{"role": "read", "collection": "articles"}], "label": "search page"},
    "POST /shoal/keys/revoke": {"id": "2f7c0d0f1a5e"},
}
"""By method and path template."""
