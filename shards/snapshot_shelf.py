"""Where a shard keeps its parts of collections' snapshots, and what happens to them there. On any thread.

    <shard>/snapshots/<collection uid>/<name>/   a part (shards/snapshot.py); it counts once it holds DESCRIPTION_FILE
    <shard>/snapshots/incoming/<uid>/            a part that is being received from elsewhere, to become collection `uid`
    <shard>/snapshots/restored/<uid>/            collection `uid`, restored and not yet served

The description is the whole snapshot's, over all shards (cluster/snapshot_model.py); to a shard it is JSON that it keeps.
Parts outlive their collection. What no description vouches for, and whatever is incoming or restored, belongs to a
request that is under way: a shard that starts removes it, for no request outlives that.
Names come from callers, so each is checked before it becomes a path, and no symbolic link is followed.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from shards.disk import fsync_folder, make_folder, write_durably
from shards.errors import Conflict, Corrupt, DamagedSnapshot, InvalidRequest, NotFound, ShoalError, StorageFull
from shards.segment_files import SEALED_JSON_BYTES_MAX, seal_json, unseal_json
from shards.snapshot import DELETED_SUFFIX, NAME, SNAPSHOT_FILE, Snapshot, check_name, delete, read_snapshot
from shards.snapshot_restore import RESTORING_SUFFIX, check_path, check_plain, restore

SNAPSHOTS_FOLDER = "snapshots"
INCOMING, RESTORED = "incoming", "restored"
DESCRIPTION_FILE = "description.json"
PIECE_BYTES_MAX = 4 * 1024 * 1024
"""Of a file, in one message."""

_UID = re.compile(r"[0-9a-f]{32}")

log = logging.getLogger(__name__)


class PartName(NamedTuple):
    """A part of a snapshot on this shard: the uid of the collection that it was taken of, and the snapshot's name."""

    uid: str
    name: str


class SnapshotShelf:
    """One shard's. `folder`: the shard's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / SNAPSHOTS_FOLDER

    def clean_up(self) -> None:
        """Remove what requests left that a restart has ended. Before anything else is asked. Raises nothing: what can't be
        removed is logged, and no reason not to serve.
        """
        try:
            self._clean_up()
        except OSError as error:
            log.error("%s can't be tidied: %s", self.folder, error)

    def _clean_up(self) -> None:
        for leftover in (INCOMING, RESTORED):
            shutil.rmtree(self.folder / leftover, ignore_errors=True)
        for taken in self._folders_of_collections():
            for part in sorted(taken.iterdir()):
                if part.is_symlink() or not part.is_dir():
                    log.warning("%s is no snapshot; it is left alone", part)
                elif not NAME.fullmatch(part.name) or not (part / DESCRIPTION_FILE).exists():
                    log.info("%s was never finished, and is removed", part)
                    shutil.rmtree(part, ignore_errors=True)

    def _place_of(self, uid: str) -> Path:
        """The folder for a collection's parts. Raises InvalidRequest for what is no uid."""
        if not _UID.fullmatch(uid):
            raise InvalidRequest(f"{uid[:80]!r} is no collection's uid")
        return self.folder / uid

    def part_at(self, part: PartName) -> Path:
        """A part's folder. Raises InvalidRequest for a bad name, NotFound where it is not there (a link is not)."""
        check_name(part.name)
        folder = self._place_of(part.uid) / part.name
        if folder.is_symlink() or folder.parent.is_symlink() or not folder.is_dir():
            raise NotFound(f"this shard has no part of the snapshot {part.name}")
        return folder

    def seal(self, part: PartName, description: dict[str, Any]) -> None:
        """Have a part count. Harmless to repeat."""
        with _full_disk_told(self.folder):
            write_durably(self.part_at(part) / DESCRIPTION_FILE, seal_json(description))

    def parts(self) -> Iterator[Path]:
        """The folders of parts that count."""
        for taken in self._folders_of_collections():
            for part in sorted(taken.iterdir()):
                is_named = NAME.fullmatch(part.name) is not None and not part.is_symlink()
                if is_named and (part / DESCRIPTION_FILE).exists():
                    yield part

    def descriptions(self) -> list[dict[str, Any]]:
        """Of every part that counts. One that can't be read is logged, and left out."""
        found = []
        for part in self.parts():
            try:
                check_plain(part, DESCRIPTION_FILE)
                found.append(unseal_json(part / DESCRIPTION_FILE))
            except Corrupt as error:
                log.error("a snapshot can't be shown: %s", error.message)
        return found

    def files_of(self, part: PartName) -> tuple[Snapshot, dict[str, int]]:
        """What a part says of itself, and the length of each of its files, by path."""
        folder = self.part_at(part)
        snapshot = read_snapshot(folder)
        lengths = {path: seal.byte_count for path, seal in snapshot.files.items()}
        return snapshot, {**lengths, SNAPSHOT_FILE: (folder / SNAPSHOT_FILE).stat().st_size}

    def read(self, part: PartName, path: str, offset: int, byte_count: int) -> bytes:
        """A piece of a file. Raises NotFound, InvalidRequest for a path that no part has, Corrupt where it is shorter."""
        folder = self.part_at(part)
        check_path(path)
        check_plain(folder, path)
        count = min(byte_count, PIECE_BYTES_MAX)
        with open(folder / path, "rb") as file:
            file.seek(offset)
            piece = file.read(count)
        if len(piece) != count:
            raise Corrupt(f"{folder / path} ends within the {count} bytes at offset {offset}")
        return piece

    def delete(self, part: PartName) -> bool:
        """Remove a part; False where there is none."""
        try:
            self.part_at(part)
        except NotFound:
            return False
        delete(self._place_of(part.uid), part.name)
        return True

    def receive(self, uid: str, path: str, offset: int, piece: bytes | memoryview) -> int:
        """Put a piece of a file into the part that comes in for collection `uid`; returns the file's length so far. The pieces
        of a file come in their order; one that comes twice is written twice. Raises DamagedSnapshot for JSON that is too long.
        """
        check_path(path)
        self._place_of(uid)
        if path.endswith(".json") and offset + len(piece) > SEALED_JSON_BYTES_MAX:
            raise DamagedSnapshot(
                f"{path} is longer than the limit SEALED_JSON_BYTES_MAX, {SEALED_JSON_BYTES_MAX}: it is no snapshot's"
            )
        target = self.folder / INCOMING / uid / path
        with _full_disk_told(self.folder):
            if offset == 0:
                make_folder(target.parent)
            elif not target.exists():
                raise NotFound(
                    f"{path}, offset {offset}: the shard was restarted since its first piece; send all again"
                )
            with open(target, "r+b" if offset else "wb") as file:
                if file.seek(0, os.SEEK_END) < offset:
                    raise Conflict(f"{path}: a piece for offset {offset}, but there are {file.tell()} bytes so far")
                file.seek(offset)
                file.truncate()
                file.write(piece)
                return file.tell()

    def restore(self, part: PartName | None, uid: str) -> Snapshot:
        """Make collection `uid` of a part, or of what came in for it (None), durably; see shards/snapshot_restore.py.

        Harmless to repeat. Raises NotFound, and DamagedSnapshot with the file's name where anything is wrong.
        """
        self._place_of(uid)
        source = self.folder / INCOMING / uid if part is None else self.part_at(part)
        target = self.folder / RESTORED / uid
        try:
            if target.exists():
                return read_snapshot(source)
            make_folder(target.parent)
            with _full_disk_told(self.folder):
                return restore(source, target, uid)
        except (Corrupt, NotFound, FileNotFoundError) as error:
            if part is not None:
                self.part_at(part)  # a part that was deleted meanwhile is not there, rather than damaged
            reason = _without(error.message, source) if isinstance(error, ShoalError) else "a file is missing"
            raise DamagedSnapshot(f"the snapshot is damaged, nothing was restored: {reason}") from error

    def adopt(self, uid: str, target: Path) -> None:
        """Put restored collection `uid` where it is served, unless it is there already. Raises NotFound where it was not
        restored in this life of the shard.
        """
        if target.exists():
            return
        restored = self.folder / RESTORED / uid
        try:
            os.rename(restored, target)
        except FileNotFoundError:
            raise NotFound(
                f"collection {uid} is not restored: the shard was restarted meanwhile, or it was discarded; recover it again"
            ) from None
        fsync_folder(target.parent)
        fsync_folder(restored.parent)
        shutil.rmtree(self.folder / INCOMING / uid, ignore_errors=True)

    def discard(self, uid: str) -> None:
        """Remove what came in or was restored as collection `uid`. Harmless where there is nothing."""
        self._place_of(uid)
        for leftover in (f"{INCOMING}/{uid}", f"{RESTORED}/{uid}", f"{RESTORED}/{uid}{RESTORING_SUFFIX}"):
            self._remove_whole(self.folder / leftover)

    def _remove_whole(self, folder: Path) -> None:
        """Take a folder's name away, then its files: removing goes on inside a folder that was given another name meanwhile,
        and `adopt` gives one, so that of the two only the first to rename gets it.
        """
        doomed = folder.with_name(folder.name + DELETED_SUFFIX)
        shutil.rmtree(doomed, ignore_errors=True)  # an earlier one that could not be removed whole
        try:
            os.rename(folder, doomed)
        except FileNotFoundError:
            return
        except OSError as error:
            log.error("%s is left until the shard starts anew: %s", folder, error)
            return
        shutil.rmtree(doomed, ignore_errors=True)

    def _folders_of_collections(self) -> Iterator[Path]:
        for folder in sorted(self.folder.iterdir()) if self.folder.is_dir() else ():
            if _UID.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink():
                yield folder


def _without(message: str, folder: Path) -> str:
    """The message with paths inside the snapshot alone: who recovers one need not know where it lies."""
    return message.replace(f"{folder}/", "").replace(str(folder), "it")


@contextmanager
def _full_disk_told(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"no room below {place} for a snapshot: {error.strerror}; free some", 5.0) from error
        raise
