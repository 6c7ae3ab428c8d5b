"""A pytest plugin for somebody else's tests: every client that they make speaks REST, also where they ask for gRPC.

It is loaded before the checkout is on the path, so the client that is tested is the installed one.
"""

from __future__ import annotations

from typing import Any

from qdrant_client import QdrantClient

_make = QdrantClient.__init__


def _over_rest(self: QdrantClient, *arguments: Any, **options: Any) -> None:
    _make(self, *arguments, **{**options, "prefer_grpc": False})


QdrantClient.__init__ = _over_rest  # type: ignore[method-assign]
