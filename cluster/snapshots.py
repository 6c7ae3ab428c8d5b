"""Snapshots of collections as one router takes, lists, hands out and deletes them: each shard does its part.

    create     every shard takes its part; the router reads the whole once, for its checksum; every shard keeps the
               description, the lead last
    list       of all shards, those of which the lead has the description
    archive    the snapshot as one file, its pieces read from the shards as they are asked for
    delete     the lead first, then the others

A router that dies in between leaves parts without the lead's description: they are no snapshot, and go when their shard starts
anew, or with the next `delete` of their name. What fails here removes what it began, the lead's part first: a snapshot that
the lead may still show keeps all its parts. Recovering is snapshot_recovery.py's affair.

Shards take their parts at different moments. Where a tenant field says which shard holds a point, one that gets another tenant
moves: it is written on B, then withdrawn on A (upserts.py). B's part from before the first and A's from after the second would
both lack it. So each shard has a mark that changes before a withdrawal reaches its log, and with every life of the shard. The
router asks all shards for theirs, then has the parts taken; each part comes with the mark at its moment. Were a point
in neither, its withdrawal began after the write on B, so after B's part, so after A was asked; and it is in A's part: A's two
marks differ. Then these parts are let go of, and others are taken, under another name, so that none from before is
found taken. The other order, A's part before the withdrawal and B's after the write, leaves a point in both, as an
upsert does that fails between its steps, until its id is upserted again.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from cluster.catalogue_calls import CatalogueCalls
from cluster.fan_out import ShardRequest
from cluster.scope import Named, scope_of
from cluster.shard_calls import target_of
from cluster.snapshot_archive import END, archive_bytes, encode_content, header, padding
from cluster.snapshot_model import (
    SnapshotContent,
    SnapshotDescription,
    content_of,
    entries,
    snapshot_name,
    those_that_count,
)
from cluster.state import ClusterState, CollectionState
from cluster.tenant_guard import check_whole
from shards import messages
from shards.errors import NotFound, ShoalError, Unavailable
from shards.wire import Kind

PIECE_BYTES = 1024 * 1024
"""Of a file, read or sent at once: what a download holds of a snapshot at any time."""
CLEAN_UP_S = 10.0
TAKES_MAX = 5
"""How often parts are taken while points move. Only moves amid their moments count: some ms, however large the parts."""
MOVING_RETRY_S = 5.0

log = logging.getLogger(__name__)


class Shards(NamedTuple):
    """How shards are asked (cluster/shard_calls.py). `on_current_state`: with a collection's state, once more with the newest
    where it was old.
    """

    state: Callable[[], ClusterState]
    ask: Callable[[ShardRequest, float], Awaitable[Mapping[int, Any]]]
    on_current_state: Callable[[Named, Callable[[CollectionState, bytes], Awaitable[Any]]], Awaitable[Any]]


class Snapshots:
    """See the module. `deadline_s` is for each step: a snapshot of a large collection takes minutes."""

    def __init__(self, shards: Shards, catalogue: CatalogueCalls) -> None:
        self._shards = shards
        self._catalogue = catalogue

    async def create(self, about: Named, deadline_s: float) -> SnapshotDescription:
        """Snapshot everything that had been acknowledged when this was called. Raises NotFound, StorageFull, ..., and
        Forbidden for a scope with tenants.
        """
        check_whole(scope_of(about))
        await self._catalogue.refresh()
        created_s = time.time()
        name = snapshot_name(created_s, secrets.token_hex(3))
        begun: list[CollectionState] = []
        is_sealing = False

        async def take(state: CollectionState, _: bytes) -> SnapshotContent:
            nonlocal name
            for _take in range(TAKES_MAX):
                for before in begun:
                    head = {"uid": before.uid, "name": name}
                    await self._clean_up(Kind.SNAPSHOT_DELETE, [before.shard_map.shard_ids], head)
                    name = snapshot_name(created_s, secrets.token_hex(3))
                begun[:] = [state]
                if (parts := await self._take_parts(state, name, deadline_s)) is not None:
                    return content_of(state, name, created_s, parts)
            raise Unavailable(
                f"points of `{state.name}` changed their tenant each of the {TAKES_MAX} times that a snapshot was tried:"
                " try again when fewer do",
                MOVING_RETRY_S,
            )

        try:
            content = await self._shards.on_current_state(about, take)
            description = await self._describe(content, deadline_s)
            is_sealing = True
            await self._seal(description, deadline_s)
        except BaseException:
            for state in begun:
                shard_ids = state.shard_map.shard_ids
                # A lead that does not answer may have kept the description: then the snapshot is there, and stays whole.
                steps = [shard_ids[:1], shard_ids[1:]] if is_sealing else [shard_ids]
                await self._clean_up(Kind.SNAPSHOT_DELETE, steps, {"uid": state.uid, "name": name})
            raise
        return description

    async def list_all(self, deadline_s: float) -> list[SnapshotDescription]:
        """The snapshots of all collections, oldest first, those of collections that were deleted too."""
        ids = [shard.shard_id for shard in self._shards.state().shards]
        found = await self._ask_same(Kind.SNAPSHOT_LIST, ids, {}, deadline_s)
        return those_that_count({shard_id: answer["descriptions"] for shard_id, answer in found.items()})

    async def list_of(self, collection: str, deadline_s: float) -> list[SnapshotDescription]:
        """The snapshots that were taken of collections of this name, oldest first. Raises NotFound where there is neither such
        a collection nor a snapshot of one.
        """
        found = [one for one in await self.list_all(deadline_s) if one.content.collection == collection]
        if not found and collection not in self._shards.state().collections:
            raise NotFound(f"Not found: Collection `{collection}` doesn't exist!")
        return found

    async def find(self, collection: str, name: str, deadline_s: float) -> SnapshotDescription:
        """The snapshot of this name. Raises NotFound."""
        for found in await self.list_of(collection, deadline_s):
            if found.content.name == name:
                return found
        raise NotFound(f"Not found: Snapshot `{name[:200]}` of collection `{collection}` doesn't exist!")

    async def delete(self, collection: str, name: str, deadline_s: float) -> None:
        """Delete a snapshot. Raises NotFound."""
        content = (await self.find(collection, name, deadline_s)).content
        head = {"uid": content.uid, "name": content.name}
        others = [shard_id for shard_id in content.shard_map.shard_ids if shard_id != content.lead]
        for shard_ids in ([content.lead], others):
            if shard_ids:
                await self._ask_same(Kind.SNAPSHOT_DELETE, shard_ids, head, deadline_s)

    async def archive(self, content: SnapshotContent, deadline_s: float) -> AsyncIterator[bytes]:
        """The snapshot as one file, in pieces of PIECE_BYTES at most. Raises where a shard fails amid it."""
        yield encode_content(content)
        for entry in entries(content):
            yield header(entry.name, entry.byte_count)
            for offset in range(0, entry.byte_count, PIECE_BYTES):
                head = {
                    "uid": content.uid,
                    "name": content.name,
                    "path": entry.path,
                    "offset": offset,
                    "byte_count": min(PIECE_BYTES, entry.byte_count - offset),
                }
                body = messages.encode_json(head)
                request = ShardRequest(Kind.SNAPSHOT_READ, {entry.shard_id: body}, bytes)
                yield (await self._shards.ask(request, deadline_s))[entry.shard_id]
            if fill := padding(entry.byte_count):
                yield fill
        yield END

    async def _take_parts(
        self, state: CollectionState, name: str, deadline_s: float
    ) -> Mapping[int, Mapping[str, Any]] | None:
        """What each shard says of its part; None where points moved meanwhile (see the module)."""
        marks: Mapping[int, Any] = {}
        if state.tenant_field is not None:
            marks = await self._ask_all(Kind.SNAPSHOT_MARK, state, [], deadline_s)
        parts = await self._ask_all(Kind.SNAPSHOT_TAKE, state, messages.encode_json({"name": name}), deadline_s)
        is_still = all(parts[shard_id]["mark"] == answer["mark"] for shard_id, answer in marks.items())
        return parts if is_still else None

    async def _ask_all(
        self, kind: Kind, state: CollectionState, rest: list[Any], deadline_s: float
    ) -> Mapping[int, Mapping[str, Any]]:
        """Ask all shards of a collection the same about it; their answers are JSON."""
        body = [target_of(state).encode(), *rest]
        request = ShardRequest(kind, dict.fromkeys(state.shard_map.shard_ids, body), messages.decode_json)
        return await self._shards.ask(request, deadline_s)

    async def _describe(self, content: SnapshotContent, deadline_s: float) -> SnapshotDescription:
        checksum = hashlib.sha256()
        async for piece in self.archive(content, deadline_s):
            await asyncio.to_thread(
                checksum.update, piece
            )  # a millisecond a piece, in which the loop would answer nobody
        return SnapshotDescription(content=content, byte_count=archive_bytes(content), sha256=checksum.hexdigest())

    async def _seal(self, description: SnapshotDescription, deadline_s: float) -> None:
        content = description.content
        head = {"uid": content.uid, "name": content.name, "description": description.model_dump(mode="json")}
        others = [shard_id for shard_id in content.shard_map.shard_ids if shard_id != content.lead]
        for shard_ids in (others, [content.lead]):
            if shard_ids:
                await self._ask_same(Kind.SNAPSHOT_SEAL, shard_ids, head, deadline_s)

    async def _ask_same(
        self, kind: Kind, shard_ids: Any, head: Mapping[str, Any], deadline_s: float
    ) -> Mapping[int, Any]:
        """Ask shards the same; their answers are JSON where the kind's are, else whatever was written."""
        decode = messages.decode_json if kind in _ANSWERED_IN_JSON else messages.decode_written
        request = ShardRequest(kind, dict.fromkeys(shard_ids, messages.encode_json(head)), decode)
        return await self._shards.ask(request, deadline_s)

    async def _clean_up(self, kind: Kind, steps: Sequence[Sequence[int]], head: Mapping[str, Any]) -> None:
        """Remove what was begun, as far as shards can be reached; also where whoever waits has gone. `steps`: shard ids, each
        step only when all of the one before have answered.
        """
        with suppress(asyncio.CancelledError):
            await asyncio.shield(self._try(kind, steps, head))

    async def _try(self, kind: Kind, steps: Sequence[Sequence[int]], head: Mapping[str, Any]) -> None:
        try:
            for shard_ids in steps:
                if shard_ids:
                    await self._ask_same(kind, shard_ids, head, CLEAN_UP_S)
        except ShoalError as error:
            log.warning("a part of a snapshot is left until its shard starts anew: %s", error.message)


_ANSWERED_IN_JSON = frozenset({Kind.SNAPSHOT_LIST, Kind.SNAPSHOT_RESTORE})
