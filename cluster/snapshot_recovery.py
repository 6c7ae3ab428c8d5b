"""From a snapshot to a collection that is served: parts are restored beside what is there, then the name changes hands.

    1. Every shard gets its part: it has it already (a snapshot of this cluster), or it is sent the pieces of a file.
    2. Every shard proves its part whole and restores it as a new collection, under a uid that nobody serves.
    3. The catalogue gives the name to that collection, when every shard serves it, and drops the one before, in one change.

Until 3 nobody sees anything, and what fails leaves the collection that was there as it was: what was restored is removed,
by this router, else by the shards when they start anew, else (within 3) by the supervisor. Writes that the old collection
takes meanwhile are lost with it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, NamedTuple
from uuid import uuid4

from cluster.fan_out import ShardRequest
from cluster.snapshot_archive import ArchiveReader, Piece
from cluster.snapshot_model import SnapshotContent, check_fits, recovered
from cluster.snapshots import PIECE_BYTES, Snapshots
from shards import messages
from shards.errors import DamagedSnapshot, NotFound
from shards.schema import CollectionSpec
from shards.wire import Kind


class Recovery(NamedTuple):
    """What is to be recovered: a collection's name, and the SHA-256 in hex that the file must have (None: any).

    `check_source`: raises where the caller may not see the collection whose name it is given, of which the snapshot is.
    """

    collection: str
    check_source: Callable[[str], None]
    sha256: str | None = None


class SnapshotRecovery(Snapshots):
    """See the module."""

    async def recover(self, recovery: Recovery, name: str, deadline_s: float) -> None:
        """Recover a snapshot of this cluster, by its name. Raises NotFound, InvalidRequest, DamagedSnapshot, ..."""
        for found in await self.list_all(deadline_s):
            if found.content.name == name:
                break
        else:
            raise NotFound(f"Not found: Snapshot `{name[:200]}` doesn't exist!")
        recovery.check_source(found.content.collection)
        check_fits(found.content, self._shard_ids())
        _check_sum(recovery, found.sha256)
        source = {"uid": found.content.uid, "name": name}
        uid = uuid4().hex
        try:
            await self._switch(recovery, found.content, (uid, source), deadline_s)
        except BaseException:
            await self._discard(found.content, uid)
            raise

    async def recover_archive(self, recovery: Recovery, chunks: AsyncIterator[bytes], deadline_s: float) -> None:
        """Recover a snapshot that is one file, of its bytes. Errors as of `recover`; those of `chunks` pass through."""
        reader, checksum, uid = ArchiveReader(), hashlib.sha256(), uuid4().hex
        content: SnapshotContent | None = None
        try:
            async for chunk in chunks:
                for start in range(0, len(chunk), PIECE_BYTES):
                    part = chunk[start : start + PIECE_BYTES]
                    await asyncio.to_thread(checksum.update, part)
                    pieces = reader.feed(part)
                    if content is None and reader.content is not None:
                        recovery.check_source(reader.content.collection)
                        check_fits(reader.content, self._shard_ids())
                        content = reader.content
                    for piece in pieces:
                        await self._send(uid, piece, deadline_s)
            reader.finish()
            assert content is not None, "a file that is whole has a content"
            _check_sum(recovery, checksum.hexdigest())
            await self._switch(recovery, content, (uid, None), deadline_s)
        except BaseException:
            if content is not None:
                await self._discard(content, uid)
            raise

    async def _send(self, uid: str, piece: Piece, deadline_s: float) -> None:
        head = {"uid": uid, "path": piece.entry.path, "offset": piece.offset}
        body = messages.encode_piece(head, piece.content)
        shard_id = piece.entry.shard_id
        await self._shards.ask(
            ShardRequest(Kind.SNAPSHOT_RECEIVE, {shard_id: body}, messages.decode_written), deadline_s
        )

    async def _switch(
        self, recovery: Recovery, content: SnapshotContent, source: tuple[str, Any], deadline_s: float
    ) -> None:
        """Steps 2 and 3. `source`: the new uid, and which part of each shard it is restored of (None: what came in)."""
        uid, part = source
        head = {"uid": uid, "source": part}
        shard_ids = content.shard_map.shard_ids
        _check_restored(content, await self._ask_same(Kind.SNAPSHOT_RESTORE, shard_ids, head, deadline_s))
        item = recovered(content, recovery.collection, uid)
        await self._catalogue.recover_collection(item, deadline_s)

    async def _discard(self, content: SnapshotContent, uid: str) -> None:
        await self._clean_up(Kind.SNAPSHOT_DISCARD, [content.shard_map.shard_ids], {"uid": uid})

    def _shard_ids(self) -> list[int]:
        return [shard.shard_id for shard in self._shards.state().shards]


def _check_sum(recovery: Recovery, found: str) -> None:
    if recovery.sha256 is not None and recovery.sha256.lower() != found:
        raise DamagedSnapshot(f"the snapshot's SHA-256 is {found}, not the {recovery.sha256[:80]} that was given")


def _check_restored(content: SnapshotContent, restored: Mapping[int, Any]) -> None:
    """Raises DamagedSnapshot where a shard's part is not the one that the description is of: another shard's, another
    collection's, or taken at another time.
    """
    for part in content.parts:
        found = restored[part.shard_id]
        differ = [
            *(name for name in ("uid", "name") if found[name] != getattr(content, name)),
            *(["shard id"] if found["shard_id"] not in (None, part.shard_id) else []),
            *(["last LSN"] if found["last_lsn"] != part.last_lsn else []),
            *(["spec"] if CollectionSpec.model_validate(found["spec"]) != content.spec else []),
        ]
        if differ:
            raise DamagedSnapshot(
                f"the part of shard {part.shard_id} is not the one that the snapshot describes: it has another"
                f" {', '.join(differ)}"
            )
