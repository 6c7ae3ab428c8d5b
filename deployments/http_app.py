"""The HTTP API as one small application: finds the route, calls its handler, turns errors into replies.

Whole requests come straight from the connection (http_protocol.py); where Serve's own way is taken (no HAProxy in front),
it is an ASGI application. No framework stands in the way: a query costs one split of its path and two dictionary
look-ups before its handler runs. Handlers live in the modules that the tables name.
An alias is resolved before a handler runs, so that a whole request means one collection, even while the alias moves: a
vector prepared for one must not be written to the other.
A cancelled request (its client went away) is not answered: CancelledError passes through.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from time import perf_counter
from typing import Any

from deployments import (
    http_aliases,
    http_changes,
    http_collections,
    http_indexes,
    http_metrics,
    http_payloads,
    http_points,
    http_scroll,
    http_search,
    http_service,
    http_vector_writes,
)
from deployments.cluster_api import ClusterApi
from deployments.http_errors import BodyTooLarge, MissingPoint, UnknownPath, WrongMethod, error_reply
from deployments.http_message import Handler, HttpContext, Reply, Request
from deployments.limits import LimitSettings
from shards.errors import NotFound

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Methods = dict[str, Handler]

ROUTES: dict[str, Methods] = {
    "/": {"GET": http_service.root},
    "/healthz": {"GET": http_service.healthz},
    "/livez": {"GET": http_service.livez},
    "/readyz": {"GET": http_service.readyz},
    "/metrics": {"GET": http_metrics.metrics},
    "/telemetry": {"GET": http_metrics.telemetry},
    "/cluster": {"GET": http_service.get_cluster},
    "/shoal/state": {"GET": http_service.get_state},
    "/collections": {"GET": http_collections.list_collections},
    "/aliases": {"GET": http_aliases.list_aliases},
}
COLLECTION_ROUTES: dict[str, Methods] = {
    "": {
        "GET": http_collections.get_collection,
        "PUT": http_collections.create_collection,
        "PATCH": http_aliases.update_collection,
        "DELETE": http_collections.delete_collection,
    },
    "aliases": {"GET": http_aliases.list_collection_aliases},
    "exists": {"GET": http_collections.collection_exists},
    "cluster": {"GET": http_collections.get_collection_shards},
    "points": {"PUT": http_points.upsert_points, "POST": http_points.retrieve_points},
    "points/delete": {"POST": http_points.delete_points},
    "points/count": {"POST": http_points.count_points},
    "points/scroll": {"POST": http_scroll.scroll_points},
    "points/vectors": {"PUT": http_vector_writes.update_vectors},
    "points/vectors/delete": {"POST": http_vector_writes.delete_vectors},
    "points/payload": {"POST": http_payloads.set_payload, "PUT": http_payloads.overwrite_payload},
    "points/payload/delete": {"POST": http_payloads.delete_payload},
    "points/payload/clear": {"POST": http_payloads.clear_payload},
    "points/batch": {"POST": http_changes.change_points},
    "index": {"PUT": http_indexes.create_index},
    "points/query": {"POST": http_search.query_points},
    "points/query/batch": {"POST": http_search.query_points_batch},
    "points/search": {"POST": http_search.search_points},
}
"""By what follows `/collections/{c}/`."""
ALIASES_ROUTE: Methods = {**COLLECTION_ROUTES[""], "POST": http_aliases.change_aliases}
"""`/collections/aliases`, which is also the path of a collection of that name."""
POINT_ROUTE: Methods = {"GET": http_points.get_point}
"""`/collections/{c}/points/{id}`"""
INDEX_ROUTE: Methods = {"DELETE": http_indexes.delete_index}
"""`/collections/{c}/index/{field}`"""


def _names() -> dict[Handler, str]:
    """Each handler's method and path template; a handler has one route."""
    tables: dict[str, Methods] = {
        **ROUTES,
        **{f"/collections/{{collection}}/{rest}".rstrip("/"): methods for rest, methods in COLLECTION_ROUTES.items()},
        "/collections/aliases": {"POST": http_aliases.change_aliases},
        "/collections/{collection}/points/{id}": POINT_ROUTE,
        "/collections/{collection}/index/{field}": INDEX_ROUTE,
    }
    return {handler: f"{method} {path}" for path, methods in tables.items() for method, handler in methods.items()}


_ROUTE_NAMES = _names()
_NO_ROUTE = "OTHER other"
"""What a request counts as that has none."""


class ClientGone(Exception):
    """The client closed its connection before its request was whole."""


class HttpApp:
    """ASGI 3. One per router, on its event loop."""

    def __init__(self, cluster: ClusterApi, limits: LimitSettings, shoal_version: str) -> None:
        self._context = HttpContext(cluster, limits, shoal_version)

    @property
    def body_bytes_max(self) -> int:
        """The longest body that a request may have."""
        return self._context.limits.body_bytes_max

    async def answer(self, method: str, path: str, query_string: bytes, body: bytes, started: float) -> Reply:
        """The reply to a request; an error is a reply too. `started`: a perf_counter value."""
        route = _NO_ROUTE
        try:
            methods, named, point = find_route(path)
            handler = methods.get(method)
            if handler is None:
                raise WrongMethod(f"{method} is not possible on {path[:200]}", methods=tuple(methods))
            route = _ROUTE_NAMES[handler]
            request = Request(named, point, body, query_string, started, named)
            if not named or named in self._context.cluster.state.collections:
                reply = await handler(self._context, request)
            else:
                reply = await self._answer_for_alias(handler, request)
        except Exception as error:
            reply = error_reply(error, started)
        self._context.requests.add(route, reply.status, perf_counter() - started)
        return reply

    async def _answer_for_alias(self, handler: Handler, request: Request) -> Reply:
        """The reply to a request that names no collection known here: an alias, or nothing, or what is to be created."""
        cluster = self._context.cluster
        if cluster.state.find(request.named) is None:
            await cluster.catalogue.refresh()  # another router may have made it just now
        request.collection = cluster.state.resolve(request.named)
        try:
            return await handler(self._context, request)
        except MissingPoint:
            raise  # what was there is written, and must not be written elsewhere as well
        except NotFound:
            # What this router took the alias for may be gone because it was moved; looking for the collection has
            # brought the newest state.
            now = cluster.state.resolve(request.named)
            if now == request.collection:
                raise
            request.collection = now
            return await handler(self._context, request)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await _answer_other(scope["type"], receive, send)
            return
        started = perf_counter()
        try:
            body = await read_body(receive, self.body_bytes_max)
        except ClientGone:
            return
        except BodyTooLarge as error:
            reply = error_reply(error, started)
        else:
            reply = await self.answer(scope["method"], scope["path"], scope["query_string"], body, started)
        length = (b"content-length", b"%d" % len(reply.body))
        headers = [(b"content-type", reply.content_type), length, *reply.headers]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})


def find_route(path: str) -> tuple[Methods, str, str]:
    """The methods of a path, its collection and its point or field ("" where it has none). Raises UnknownPath."""
    parts = path.split("/", 3)
    if len(parts) < 3 or parts[1] != "collections":
        methods = ROUTES.get(path)
        if methods is not None:
            return methods, "", ""
    elif parts[2]:
        if path == "/collections/aliases":
            return ALIASES_ROUTE, parts[2], ""
        rest = parts[3] if len(parts) == 4 else ""
        methods = COLLECTION_ROUTES.get(rest)
        if methods is not None:
            return methods, parts[2], ""
        folder, _, point = rest.partition("/")
        if folder == "points" and point and "/" not in point:
            return POINT_ROUTE, parts[2], point
        if folder == "index" and point:
            return INDEX_ROUTE, parts[2], point
    raise UnknownPath(f"Not found: there is no path {path[:200]}")


async def read_body(receive: Receive, bytes_max: int) -> bytes:
    """The whole body. Raises BodyTooLarge as soon as the limit is passed, ClientGone if it never arrives whole."""
    message = await receive()
    chunks: list[bytes] = []
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > bytes_max:
            raise BodyTooLarge(f"the body is larger than the limit body_bytes_max of {bytes_max} bytes")
        if not message.get("more_body", False):
            return chunk if not chunks else b"".join([*chunks, chunk])
        chunks.append(chunk)
        message = await receive()


async def _answer_other(kind: str, receive: Receive, send: Send) -> None:
    """What servers send besides requests: the start and end of the application, and websockets, which are refused."""
    if kind == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
        return
    while kind == "lifespan":
        event = (await receive())["type"]
        await send({"type": f"{event}.complete"})
        if event == "lifespan.shutdown":
            return
