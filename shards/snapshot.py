"""A collection's part on one shard, frozen as a folder: what is taken, and when it counts.

    <folder>/<name>/snapshot.json                 what it is, with length and CRC32C of every other file; written last
    <folder>/<name>/manifest-N.json, dead-*.bits, ops-N.bin
                                                  the newest manifest, and the dead rows and operations that it names
    <folder>/<name>/segments/<segment>/*          its segments
    <folder>/<name>/wal/wal-*.log                 the log behind the manifest, where there is any

A snapshot is what opening would find after a crash at that moment, so it holds every write that had been acknowledged.
Segments, manifests and bitmaps never change under their names, so they are hard links (copies on another file system):
later writes, deletes and compactions give the collection new files, and leave the snapshot's alone. The log is copied,
for it grows. A snapshot is made under a temporary name and renamed when every byte is durable: under its final name it
is whole. Restoring is shards/snapshot_restore.py's affair.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from time import time
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shards import sealing
from shards import segment_files as files
from shards.collection import SEGMENTS_FOLDER, ShardCollection
from shards.disk import fsync_file, fsync_folder, make_folder, rename_durably, write_durably
from shards.errors import Conflict, Corrupt, InvalidRequest, NotFound, StorageFull, Unavailable
from shards.log_frame import LogFrame, OpKind
from shards.manifest import Manifest, manifest_path, read_dead, read_manifests
from shards.payload_indexes import FIELDS_FILE
from shards.recovery import COLLECTION_FILE, WAL_FOLDER
from shards.schema import CollectionSpec
from shards.segment_files import FileSeal, SegmentHeader, seal_file, seal_json, unseal_json
from shards.wal import log_path, log_starts, walk_log

FORMAT = 1
SNAPSHOT_FILE = "snapshot.json"
BUILDING_SUFFIX, DELETED_SUFFIX = ".building", ".deleted"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
"""Without dots: no name of a snapshot is a temporary one."""


class Snapshot(BaseModel):
    """What snapshot.json says. `last_lsn`: the last write in it; `files`: by path, with slashes, inside the snapshot.

    `shard_id`: whose part of the collection it is; None where the taker did not know, and in older ones.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: int = FORMAT
    name: str
    uid: str
    shard_id: int | None = None
    spec: CollectionSpec
    created_s: float
    last_lsn: Annotated[int, Field(ge=0)]
    manifest_number: Annotated[int, Field(ge=1)]
    files: dict[str, FileSeal]

    @property
    def byte_count(self) -> int:
        """Bytes of its files, those that it shares with the collection included."""
        return sum(seal.byte_count for seal in self.files.values())


def take(collection: ShardCollection, folder: Path, name: str) -> Snapshot:
    """Seal everything, then snapshot it as `folder`/`name`. For the collection's owner, where it has no loop.

    Raises InvalidRequest for a bad name, Conflict for one that is taken, Corrupt where a file is damaged (a graph or an
    order that is left out: it is made anew), StorageFull, and Unavailable where the log is fenced.
    """
    sealing.seal_all(collection)
    link(collection, folder, name)
    return finish(collection, folder, name)


def link(collection: ShardCollection, folder: Path, name: str) -> None:
    """The first half, on the thread that writes the collection's log and manifests: short, it reads the log alone.

    It takes what is durable now, sealed or in the log. A running collection needs no pause: see Committer.snapshot.
    """
    building = _building(folder, name)
    if collection.wal.fence_reason is not None:
        raise Unavailable(f"no snapshot of {collection.folder}: {collection.wal.fence_reason}; restart the shard")
    shutil.rmtree(building, ignore_errors=True)
    make_folder(building)
    with _building_at(building):
        manifest = read_manifests(collection.folder)[0][0]
        link_or_copy(manifest_path(collection.folder, manifest.number), manifest_path(building, manifest.number))
        segments = {entry.name for entry in manifest.segments if entry.lsn <= manifest.applied_lsn}
        segments |= _copy_log(collection.folder / WAL_FOLDER, manifest, building / WAL_FOLDER)
        if manifest.history_file is not None:
            link_or_copy(collection.folder / manifest.history_file, building / manifest.history_file)
        for entry in manifest.segments:
            if entry.dead_file is not None and entry.name in segments:
                link_or_copy(collection.folder / entry.dead_file, building / entry.dead_file)
        if (collection.folder / FIELDS_FILE).exists():
            link_or_copy(collection.folder / FIELDS_FILE, building / FIELDS_FILE)
        for segment in sorted(segments):
            _link_segment(collection.folder / SEGMENTS_FOLDER / segment, building / SEGMENTS_FOLDER / segment)


def finish(collection: ShardCollection, folder: Path, name: str, shard_id: int | None = None) -> Snapshot:
    """The second half, on any thread: every file is read, checked and made durable, then the snapshot gets its name."""
    building = _building(folder, name)
    with _building_at(building):
        snapshot = _seal(collection, building, name, shard_id)
        rename_durably(building, folder / name)
    return snapshot


def read_snapshot(folder: Path) -> Snapshot:
    """What the snapshot in a folder says of itself. Raises NotFound, or Corrupt, naming the file."""
    path = folder / SNAPSHOT_FILE
    if not path.exists():
        raise NotFound(f"{folder} holds no snapshot: {SNAPSHOT_FILE} is missing")
    try:
        return Snapshot.model_validate(unseal_json(path))
    except ValidationError as error:
        raise Corrupt(f"{path} is no snapshot of format {FORMAT}: {error.errors()[0]['msg']}") from error


def list_all(folder: Path) -> tuple[list[Snapshot], list[str]]:
    """The snapshots in a folder, oldest first, and what is wrong with those that can't be read."""
    found, problems = [], []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.is_dir() and NAME.fullmatch(path.name):
            try:
                found.append(read_snapshot(path))
            except (Corrupt, NotFound) as error:
                problems.append(error.message)
    return sorted(found, key=lambda snapshot: (snapshot.created_s, snapshot.name)), problems


def delete(folder: Path, name: str) -> None:
    """Remove a snapshot. What it shares with the collection stays the collection's. Raises NotFound."""
    check_name(name)
    doomed = folder / (name + DELETED_SUFFIX)
    if not (folder / name).is_dir():
        raise NotFound(f"{folder} has no snapshot {name}")
    shutil.rmtree(doomed, ignore_errors=True)
    rename_durably(folder / name, doomed)  # a crash in between leaves a name that no snapshot has
    shutil.rmtree(doomed)


def check_name(name: str) -> None:
    """Raises InvalidRequest unless a snapshot may have this name."""
    if not NAME.fullmatch(name):
        raise InvalidRequest(f"{name!r} is no name for a snapshot: use 1 to 128 of A-Z a-z 0-9 _ -")


def link_or_copy(source: Path, target: Path) -> None:
    """The same bytes under another name: as a hard link, or as a copy where there can't be one."""
    make_folder(target.parent)
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP):
            raise
        shutil.copyfile(source, target)


@contextmanager
def _building_at(building: Path) -> Iterator[None]:
    """Where the steps inside fail nothing is left; a full disk becomes StorageFull, a missing file Corrupt."""
    try:
        yield
    except BaseException as error:
        shutil.rmtree(building, ignore_errors=True)
        if isinstance(error, FileNotFoundError):
            raise Corrupt(f"{error.filename} is missing: no snapshot can be made of it") from error
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"no room for a snapshot at {building}: {error}; free some", 5.0) from error
        raise


def _building(folder: Path, name: str) -> Path:
    check_name(name)
    if (folder / name).exists():
        raise Conflict(f"{folder} already has a snapshot {name}; delete it first, or choose another name")
    return folder / (name + BUILDING_SUFFIX)


def _copy_log(source: Path, manifest: Manifest, target: Path) -> set[str]:
    """Copy the log behind the manifest; returns the segments that it attaches."""
    attached = set()

    def visit(frame: LogFrame) -> None:
        for lsn, op in enumerate(frame.ops, frame.first_lsn):
            if op.kind is OpKind.ATTACH and lsn > manifest.applied_lsn:
                attached.add(bytes(op.body).decode())

    last_lsn, cut, _ = walk_log(source, manifest.applied_lsn, manifest.durable_lsn, visit)
    if cut is not None:
        raise Corrupt(f"{source / cut.file}, offset {cut.offset}: {cut.reason}; restart the shard, then repeat")
    if last_lsn > manifest.applied_lsn:
        make_folder(target)
        for start, following in pairwise([*log_starts(source), last_lsn + 2]):
            if following > manifest.applied_lsn + 1:
                shutil.copyfile(log_path(source, start), log_path(target, start))
    return attached


def _link_segment(source: Path, target: Path) -> None:
    for name in (files.HEADER_FILE, *files.read_header(source).files):
        if name not in files.REBUILDABLE or (source / name).exists():
            link_or_copy(source / name, target / name)


def _seal(collection: ShardCollection, building: Path, name: str, shard_id: int | None) -> Snapshot:
    manifest = read_manifests(building)[0][0]
    seals: dict[str, FileSeal] = {}
    row_counts = {}
    for folder in sorted((building / SEGMENTS_FOLDER).glob("*")):
        header, sealed = _seal_segment(folder)
        row_counts[folder.name] = header.row_count
        seals |= {f"{SEGMENTS_FOLDER}/{folder.name}/{file}": seal for file, seal in sealed.items()}
    for entry in manifest.segments:
        if entry.name in row_counts:
            read_dead(building, entry, row_counts[entry.name])
    for path in sorted([*building.glob("*.*"), *(building / WAL_FOLDER).glob("*")]):
        seals[path.relative_to(building).as_posix()] = seal_file(path)
    for inner in sorted(path for path in building.rglob("*") if path.is_dir()):
        fsync_folder(inner)
    last_lsn = walk_log(building / WAL_FOLDER, manifest.applied_lsn, manifest.durable_lsn, lambda _: None).last_lsn
    snapshot = Snapshot(
        name=name,
        uid=unseal_json(collection.folder / COLLECTION_FILE)["uid"],
        shard_id=shard_id,
        spec=collection.spec,
        created_s=time(),
        last_lsn=max(last_lsn, manifest.applied_lsn),
        manifest_number=manifest.number,
        files=seals,
    )
    write_durably(building / SNAPSHOT_FILE, seal_json(snapshot.model_dump(mode="json")))
    return snapshot


def _seal_segment(folder: Path) -> tuple[SegmentHeader, dict[str, FileSeal]]:
    """Length and checksum of a segment's files. Leaves out those that are damaged and can be made anew."""
    header = files.read_header(folder)
    damages = files.verify(folder, header)
    for damage in damages:
        if damage.file not in files.REBUILDABLE:
            raise Corrupt(f"{folder / damage.file} is damaged: {damage.reason}; no snapshot can be made of it")
        (folder / damage.file).unlink(missing_ok=True)
    damaged = {damage.file for damage in damages}
    kept = {file: seal for file, seal in header.files.items() if file not in damaged}
    for file in kept:
        fsync_file(folder / file)
    return header, {**kept, files.HEADER_FILE: seal_file(folder / files.HEADER_FILE)}
