"""The HTTP API as one small application: finds the route, lets in who may take it, calls its handler, turns errors
into replies.

Whole requests come straight from the connection (http_protocol.py); where Serve's own way is taken (no HAProxy in front),
it is an ASGI application. No framework stands in the way: a query costs one split of its path and two dictionary
look-ups before its handler runs. Handlers live in the modules that the tables name; which role each needs stands beside
it here, and http_access.py sees to it.
A name is resolved before a handler runs, an alias too, and a whole request means the collection that was found
(cluster/scope.py), even while the alias moves or the collection is made anew.
A cancelled request (its client went away) is not answered: CancelledError passes through.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from time import perf_counter
from typing import Any

from cluster.api_keys import Role
from cluster.scope import Scope
from deployments import (
    http_aliases,
    http_batch,
    http_cache,
    http_changes,
    http_collections,
    http_docs,
    http_indexes,
    http_keys,
    http_metrics,
    http_payloads,
    http_points,
    http_scroll,
    http_search,
    http_service,
    http_snapshots,
    http_vector_writes,
)
from deployments.admission import Admission
from deployments.cache_metrics import add_cache_metrics
from deployments.cluster_api import ClusterApi
from deployments.cost import READ_COST, WRITE_COST
from deployments.degradation import Degradation
from deployments.gather_metrics import add_gather_metrics
from deployments.http_access import Gate, Route
from deployments.http_errors import BodyTooLarge, MissingPoint, UnknownPath, WrongMethod, error_reply, status_of
from deployments.http_message import Call, Handler, Headers, HttpContext, Reply, Request
from deployments.limit_metrics import show_limits
from deployments.limits import LimitSettings
from deployments.observability import Observed, observe
from deployments.router_log import given_id, with_id
from deployments.router_parts import PLAIN, RouterParts
from shards.errors import NotFound, ShoalError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Methods = dict[str, Route]
READ, WRITE, ADMIN = Role.READ, Role.WRITE, Role.ADMIN
OPEN = None
"""The role that everybody has, without a key."""

ROUTES: dict[str, Methods] = {
    "/": {"GET": Route(http_service.root, OPEN)},
    "/healthz": {"GET": Route(http_service.healthz, OPEN)},
    "/livez": {"GET": Route(http_service.livez, OPEN)},
    "/readyz": {"GET": Route(http_service.readyz, OPEN)},
    "/metrics": {"GET": Route(http_metrics.metrics, READ)},
    "/telemetry": {"GET": Route(http_metrics.telemetry, READ)},
    "/openapi.json": {"GET": Route(http_docs.openapi, READ, own_only=True)},
    "/docs": {"GET": Route(http_docs.docs_page, OPEN)},
    "/cluster": {"GET": Route(http_service.get_cluster, READ)},
    "/shoal/state": {"GET": Route(http_service.get_state, ADMIN)},
    "/shoal/cache/clear": {"POST": Route(http_cache.clear_cache, ADMIN)},
    "/shoal/keys": {
        "GET": Route(http_keys.list_keys, ADMIN, guarded=True),
        "POST": Route(http_keys.create_key, ADMIN, guarded=True),
        "DELETE": Route(http_keys.forget_keys, ADMIN, guarded=True),
    },
    "/shoal/keys/revoke": {"POST": Route(http_keys.revoke_key, ADMIN, guarded=True)},
    "/collections": {"GET": Route(http_collections.list_collections, READ, own_only=True)},
    "/aliases": {"GET": Route(http_aliases.list_aliases, READ, own_only=True)},
}
"""Each with the role that it needs over the whole cluster."""


def _points(handler: Handler, role: Role) -> Route:
    """A route that reads or writes points: what it does can be kept within tenants, and it has its price."""
    return Route(handler, role, within_tenants=True, cost=READ_COST if role is READ else WRITE_COST)


COLLECTION_ROUTES: dict[str, Methods] = {
    "": {
        "GET": Route(http_collections.get_collection, READ, within_tenants=True),
        "PUT": Route(http_collections.create_collection, ADMIN),
        "PATCH": Route(http_aliases.update_collection, ADMIN),
        "DELETE": Route(http_collections.delete_collection, ADMIN),
    },
    "aliases": {"GET": Route(http_aliases.list_collection_aliases, READ)},
    "exists": {"GET": Route(http_collections.collection_exists, READ, within_tenants=True)},
    "cluster": {"GET": Route(http_collections.get_collection_shards, READ)},
    "index": {"PUT": Route(http_indexes.create_index, WRITE)},
    "points": {"PUT": _points(http_points.upsert_points, WRITE), "POST": _points(http_points.retrieve_points, READ)},
    "points/delete": {"POST": _points(http_points.delete_points, WRITE)},
    "points/count": {"POST": _points(http_points.count_points, READ)},
    "points/scroll": {"POST": _points(http_scroll.scroll_points, READ)},
    "points/vectors": {"PUT": _points(http_vector_writes.update_vectors, WRITE)},
    "points/vectors/delete": {"POST": _points(http_vector_writes.delete_vectors, WRITE)},
    "points/payload": {
        "POST": _points(http_payloads.set_payload, WRITE),
        "PUT": _points(http_payloads.overwrite_payload, WRITE),
    },
    "points/payload/delete": {"POST": _points(http_payloads.delete_payload, WRITE)},
    "points/payload/clear": {"POST": _points(http_payloads.clear_payload, WRITE)},
    "points/batch": {"POST": _points(http_changes.change_points, WRITE)},
    "points/query": {"POST": _points(http_search.query_points, READ)},
    "points/query/batch": {"POST": _points(http_batch.query_points_batch, READ)},
    "points/search": {"POST": _points(http_search.search_points, READ)},
    "snapshots": {
        "GET": Route(http_snapshots.list_snapshots, READ),
        "POST": Route(http_snapshots.create_snapshot, ADMIN),
    },
    "snapshots/recover": {"PUT": Route(http_snapshots.recover_snapshot, ADMIN)},
}
"""By what follows `/collections/{c}/`, each with the role that it needs over that collection."""
ALIASES_ROUTE: Methods = {
    **COLLECTION_ROUTES[""],
    "POST": Route(http_aliases.change_aliases, ADMIN, whole_cluster=True),
}
"""`/collections/aliases`, which is also the path of a collection of that name."""
POINT_ROUTE: Methods = {"GET": _points(http_points.get_point, READ)}
"""`/collections/{c}/points/{id}`"""
INDEX_ROUTE: Methods = {"DELETE": Route(http_indexes.delete_index, WRITE)}
"""`/collections/{c}/index/{field}`"""
SNAPSHOT_ROUTE: Methods = {
    "GET": Route(http_snapshots.get_snapshot, READ),
    "DELETE": Route(http_snapshots.delete_snapshot, ADMIN),
}
"""`/collections/{c}/snapshots/{name}`"""


ALL_ROUTES: dict[str, Methods] = {
    **ROUTES,
    **{f"/collections/{{collection}}/{rest}".rstrip("/"): methods for rest, methods in COLLECTION_ROUTES.items()},
    "/collections/aliases": {"POST": ALIASES_ROUTE["POST"]},
    "/collections/{collection}/points/{id}": POINT_ROUTE,
    "/collections/{collection}/index/{field}": INDEX_ROUTE,
    "/collections/{collection}/snapshots/{name}": SNAPSHOT_ROUTE,
}
"""By path template: what requests are counted by, and what the API says of itself."""
_HANDLERS = {
    path: {method: route.handler for method, route in methods.items()} for path, methods in ALL_ROUTES.items()
}
_ROUTE_NAMES = {
    handler: f"{method} {path}" for path, methods in _HANDLERS.items() for method, handler in methods.items()
}
_NO_COLLECTION = Scope("")
_NO_ROUTE = "OTHER other"
"""What a request counts as that has none."""


class ClientGone(Exception):
    """The client closed its connection before its request was whole."""


class HttpApp:
    """ASGI 3. One per router, on its event loop."""

    def __init__(
        self,
        cluster: ClusterApi,
        limits: LimitSettings,
        shoal_version: str,
        own_key: str | None = None,
        parts: RouterParts = PLAIN,
    ) -> None:
        """`own_key`: the data folder's (`cluster.api_keys.local_key`)."""
        observed = observe(cluster, parts.observe, shoal_version)
        self._admission = parts.admission or Admission()
        kept = parts.cache, parts.snapshots, self._admission
        self._context = HttpContext(cluster, limits, shoal_version, observed, _HANDLERS, *kept)
        self._admission.watch(self._on_level)
        show_limits(observed.sources, self._admission, cluster)
        add_gather_metrics(observed.sources, cluster.gather_counts)
        self._gate = Gate(cluster, own_key)
        if parts.cache is not None:
            add_cache_metrics(self.observed.sources, parts.cache.counts)

    @property
    def observed(self) -> Observed:
        """What this router observes of itself; other parts add their sources."""
        return self._context.observed

    @property
    def body_bytes_max(self) -> int:
        """The longest body that a request may have."""
        return self._context.limits.body_bytes_max

    def admit(self, method: str, path: str, query_string: bytes, headers: Headers, started: float) -> Call:
        """Decide, before a request's body is here, whether and by whom it is answered. `started`: a perf_counter value.

        Raises UnknownPath, WrongMethod, Unauthenticated, Forbidden, QueueFull, RateLimited.
        """
        name = _NO_ROUTE
        try:
            route, named, point = self._find(method, path, headers)
            name = _ROUTE_NAMES[route.handler]
            access, tenants = self._gate.admit(route, named, headers)
            ticket = self._admission.check(route.cost, access.key_id, tenants) if route.cost else None
        except ShoalError as error:
            self._context.observed.requests.add(name, status_of(error), perf_counter() - started)
            raise
        request = Request(_NO_COLLECTION, point, b"", query_string, started, named, access, headers, tenants)
        request.ticket = ticket
        return Call(route.handler, request)

    async def answer(self, call: Call, body: bytes) -> Reply:
        """The reply to a request that was let in; an error is a reply too."""
        handler, request = call
        observed = self._context.observed
        request.body = body
        ticket = request.ticket
        try:
            if request.query_string:
                request.parameters()  # what one may be is the same for every route
            if ticket is not None and not ticket.begin():
                request.waited_s = await ticket.wait(request.deadline_s(self._context.limits))
            if not request.named or self._settle(request, request.named):
                reply = await handler(self._context, request)
            else:
                reply = await self._answer_for_alias(handler, request)
        except Exception as error:
            reply = error_reply(error, request.started, observed.log.id_for(request.headers))
        except asyncio.CancelledError:
            if ticket is not None:
                ticket.leave(request.started, succeeded=False)
            raise
        if ticket is not None:
            ticket.leave(request.started, succeeded=reply.status < 400)
        ended, route = perf_counter(), _ROUTE_NAMES[handler]
        observed.requests.add(route, reply.status, ended - request.started)
        reply = observed.log.finish(request, reply, route, ended)
        if observed.tracing is not None:
            observed.tracing.record(request, reply, route, ended)
        return reply

    def _on_level(self, degradation: Degradation) -> None:
        self._context.cluster.allow_extras(degradation.allows_extras)
        if self._context.cache is not None:
            self._context.cache.press(degradation.allows_stale_ms / 1e3, degradation.allows_extras)

    def _find(self, method: str, path: str, headers: Headers) -> tuple[Route, str, str]:
        """The route, its collection and its point. A stranger does not even learn which paths there are."""
        try:
            methods, named, point = find_route(path)
            route = methods.get(method)
            if route is None:
                raise WrongMethod(f"{method} is not possible on {path[:200]}", methods=tuple(methods))
        except ShoalError:
            self._gate.check_known(headers)
            raise
        return route, named, point

    def _settle(self, request: Request, name: str) -> bool:
        """Hold the request to the collection that has this name now. False where there is none."""
        found = self._context.cluster.state.collections.get(name)
        request.collection = Scope(name, "" if found is None else found.uid, request.tenants)
        return found is not None

    async def _answer_for_alias(self, handler: Handler, request: Request) -> Reply:
        """The reply to a request that names no collection known here: an alias, or nothing, or what is to be created."""
        cluster = self._context.cluster
        if cluster.state.find(request.named) is None:
            await cluster.catalogue.refresh()  # another router may have made it just now
        self._settle(request, cluster.state.resolve(request.named))
        try:
            return await handler(self._context, request)
        except MissingPoint:
            raise  # what was there is written, and must not be written elsewhere as well
        except NotFound:
            # What this router took the alias for may be gone because it was moved; looking for the collection has
            # brought the newest state.
            now = cluster.state.resolve(request.named)
            if now == request.collection.name:
                raise
            self._settle(request, now)
            return await handler(self._context, request)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await _answer_other(scope["type"], receive, send)
            return
        started = perf_counter()
        try:
            call = self.admit(scope["method"], scope["path"], scope["query_string"], scope["headers"], started)
            body = await read_body(receive, self.body_bytes_max)
        except ClientGone:
            return
        except Exception as error:
            request_id = given_id(scope["headers"])
            reply = error_reply(error, started, request_id)
            reply = with_id(reply, request_id) if request_id else reply
        else:
            reply = await self.answer(call, body)
        length = (b"content-length", b"%d" % reply.byte_count)
        headers = [(b"content-type", reply.content_type), length, *reply.headers]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        if reply.stream is not None:
            async for piece in reply.stream.pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
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
        if folder == "snapshots" and point and "/" not in point:
            return SNAPSHOT_ROUTE, parts[2], point
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
