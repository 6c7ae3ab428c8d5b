"""The routes on snapshots: take, list, download, delete, and make a collection of one.

A snapshot outlives its collection, so these answer for a collection that was deleted as long as there is a snapshot of it.
Without `wait=false` they answer when all is done, which may take minutes: `timeout` is for each of their steps, and by default
as long as may be. A file from elsewhere has to come whole within it, or within FETCH_BEHIND_S where nobody waits. Who recovers
a snapshot must be allowed to read the collection that it was taken of.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing
from functools import partial
from time import perf_counter
from typing import Annotated, Any, Literal, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field

from cluster.api_keys import Role
from cluster.snapshot_model import SnapshotDescription
from cluster.snapshot_recovery import Recovery
from deployments.http_collections import check_name
from deployments.http_errors import status_of
from deployments.http_json import parse_body
from deployments.http_message import HttpContext, Reply, Request, Stream, success
from deployments.snapshot_sources import NamedSource, Source, source_of, within
from shards.errors import Conflict, Forbidden, ShoalError

ACCEPTED = 202
TAR = b"application/x-tar"
RECOVERIES_MAX = 2
"""At once, of one router: each takes disk, memory and threads of every shard."""
FETCH_BEHIND_S = 6 * 3600.0
"""For a file to come that nobody waits for: 1 TB at 50 MB/s."""
_LOCATION_LENGTH_MAX = 4096

_log = logging.getLogger(__name__)
T = TypeVar("T")


class RecoverSnapshotBody(BaseModel):
    """`location`: a snapshot's name, `file://` or `http(s)://` (snapshot_sources.py). `priority` says nothing here: there is
    one copy of each shard. `checksum`: SHA-256 in hex; `api_key`: for the server that `location` names.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    location: Annotated[str, Field(min_length=1, max_length=_LOCATION_LENGTH_MAX)]
    priority: Literal["no_sync", "snapshot", "replica"] | None = None
    checksum: Annotated[str, Field(pattern="^[0-9a-fA-F]{64}$")] | None = None
    api_key: Annotated[str, Field(max_length=_LOCATION_LENGTH_MAX)] | None = None


async def create_snapshot(context: HttpContext, request: Request) -> Reply:
    """POST /collections/{c}/snapshots: everything that was acknowledged before is in it"""
    deadline_s = _deadline_s(context, request)
    context.cluster.collection(request.collection)
    taking = partial(context.cluster.snapshots.create, request.collection, deadline_s)
    return await _do(context, request, taking, lambda taken: orjson.dumps(_shown(taken)))


async def list_snapshots(context: HttpContext, request: Request) -> Reply:
    """GET /collections/{c}/snapshots: oldest first"""
    deadline_s = request.deadline_s(context.limits)
    found = await context.cluster.snapshots.list_of(request.collection.name, deadline_s)
    return success(request, orjson.dumps([_shown(one) for one in found]))


async def get_snapshot(context: HttpContext, request: Request) -> Reply:
    """GET /collections/{c}/snapshots/{name}: the whole as one file, an uncompressed tar"""
    deadline_s = _deadline_s(context, request)
    found = await context.cluster.snapshots.find(request.collection.name, request.point, deadline_s)
    disposition = f'attachment; filename="{found.content.name}.snapshot"'.encode()
    pieces = context.cluster.snapshots.archive(found.content, deadline_s)
    stream = Stream(found.byte_count, pieces)
    return Reply(b"", content_type=TAR, headers=((b"content-disposition", disposition),), stream=stream)


async def delete_snapshot(context: HttpContext, request: Request) -> Reply:
    """DELETE /collections/{c}/snapshots/{name}"""
    deadline_s = _deadline_s(context, request)
    deleting = partial(context.cluster.snapshots.delete, request.collection.name, request.point, deadline_s)
    return await _do(context, request, deleting, lambda _: b"true")


async def recover_snapshot(context: HttpContext, request: Request) -> Reply:
    """PUT /collections/{c}/snapshots/recover: in place of the collection where there is one; all or nothing"""
    check_name(request.named, context.limits)
    body = parse_body(RecoverSnapshotBody, request.body)
    source = source_of(body.location, body.api_key, context.snapshots)
    recovery = Recovery(request.named, partial(_check_readable, request), body.checksum)
    deadline_s = _deadline_s(context, request)
    fetch_s = deadline_s if request.wait(default=True) else FETCH_BEHIND_S
    _check_room(context)
    recovering = partial(_recover, context, recovery, source, (deadline_s, fetch_s))
    return await _do(context, request, recovering, lambda _: b"true")


async def _recover(context: HttpContext, recovery: Recovery, source: Source, times_s: tuple[float, float]) -> None:
    """`times_s`: for each step, and for all of a file from elsewhere to come."""
    _check_room(context)  # again: what was accepted may have to wait until it begins
    place = object()
    context.recoveries.add(place)
    deadline_s, fetch_s = times_s
    snapshots = context.cluster.snapshots
    try:
        if isinstance(source, NamedSource):
            await snapshots.recover(recovery, source.name, deadline_s)
        else:
            async with aclosing(within(source.chunks(), fetch_s)) as chunks:
                await snapshots.recover_archive(recovery, chunks, deadline_s)
    finally:
        context.recoveries.discard(place)


def _check_room(context: HttpContext) -> None:
    if len(context.recoveries) >= RECOVERIES_MAX:
        raise Conflict(
            f"this router recovers {len(context.recoveries)} snapshots already, which is the limit RECOVERIES_MAX; repeat it"
            " when one of them is done"
        )


def _check_readable(request: Request, collection: str) -> None:
    if not request.access.allows(Role.READ, collection):
        raise Forbidden(
            f"Forbidden: the key has no read access to collection `{collection}`, of which the snapshot is"
        )


async def _do(
    context: HttpContext,
    request: Request,
    begin: partial[Coroutine[Any, Any, T]],
    show: Callable[[T], bytes],
) -> Reply:
    """Do it and show the result; with `wait=false` say that it was accepted, and do it behind."""
    if request.wait(default=True):
        return success(request, show(await begin()))
    task = asyncio.get_running_loop().create_task(_logged(begin(), f"{request.named}: {begin.func.__name__}"))
    context.background.add(task)
    task.add_done_callback(context.background.discard)
    elapsed_s = perf_counter() - request.started
    return Reply(b'{"result":null,"status":"accepted","time":%.6f}' % elapsed_s, ACCEPTED)


async def _logged(work: Awaitable[Any], what: str) -> None:
    """Nobody waits for it: what becomes of it is told in the log."""
    try:
        await work
    except ShoalError as error:
        _log.error("%s failed (%d): %s", what, status_of(error), error.message)
    except Exception:
        _log.exception("%s failed", what)


def _deadline_s(context: HttpContext, request: Request) -> float:
    """`timeout`, or the longest that a request may name."""
    named = "timeout" in request.parameters()
    return request.deadline_s(context.limits) if named else context.limits.timeout_s_max


def _shown(snapshot: SnapshotDescription) -> dict[str, Any]:
    """As the API has it; `size` and `checksum` are those of the download."""
    return {
        "name": snapshot.content.name,
        "creation_time": snapshot.created_at,
        "size": snapshot.byte_count,
        "checksum": snapshot.sha256,
    }
