"""What the suites are run against: the server at SUITES_URL, or else the client's own in-process mode.

The suites run in an environment of their own, without Shoal's packages; nothing here imports them.
"""

from __future__ import annotations

import os

from qdrant_client import QdrantClient

URL = os.environ.get("SUITES_URL")
LOCATION = URL or ":memory:"


def new_client() -> QdrantClient:
    """A client over REST, or one with a memory of its own."""
    return QdrantClient(LOCATION)


def empty_client(collection: str) -> QdrantClient:
    """The same, where `collection` does not exist: a server remembers what an earlier test left."""
    client = new_client()
    client.delete_collection(collection)
    return client
