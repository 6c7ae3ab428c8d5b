"""From a snapshot to a collection: everything is checked before anything is made.

A snapshot may come from anywhere, so its checksums prove nothing but that it is whole: paths, links, shapes, the order
of keys, every link of a graph and every op of the log are looked at, too. What passes can be opened.

The collection is built beside its place and renamed: a crash leaves nothing under its name, or all of it. Its folder
shares segments with the snapshot (hard links, where there can be some) and copies the log.
"""

from __future__ import annotations

import re
import shutil
import stat
from pathlib import Path

from shards import segment_files as files
from shards.batch import decode_batch, decode_keys
from shards.collection import SEGMENTS_FOLDER
from shards.disk import fsync_file, fsync_folder, make_folder, rename_durably, write_durably
from shards.errors import Conflict, Corrupt, InvalidRequest
from shards.log_frame import LogFrame, LogOp, OpKind
from shards.manifest import FILE_NAME, Manifest, manifest_path, read_dead, read_history, read_manifest
from shards.op_history import OpHistory
from shards.payload_indexes import FIELDS_FILE, read_fields
from shards.recovery import WAL_FOLDER, write_spec
from shards.schema import CollectionSpec
from shards.segment_check import check_segment
from shards.segment_files import SegmentHeader, seal_of
from shards.snapshot import SNAPSHOT_FILE, Snapshot, link_or_copy, read_snapshot
from shards.wal import CLEAN_MARK, walk_log

RESTORING_SUFFIX = ".restoring"

_NAME = FILE_NAME.strip("^$")
_SEGMENT_FILES = "|".join(
    re.escape(name)
    for name in (
        *(files.HEADER_FILE, files.VECTORS, files.KEYS, files.ORDER),
        *(files.VERSIONS, files.OFFSETS, files.PAYLOAD, *files.GRAPHS),
    )
)
_PATH = re.compile(
    rf"manifest-\d{{8,19}}\.json|dead-\d{{8,19}}-{_NAME}\.bits|ops-\d{{8,19}}\.bin|{FIELDS_FILE}|{WAL_FOLDER}/wal-\d{{20}}\.log"
    rf"|{SEGMENTS_FOLDER}/{_NAME}/({_SEGMENT_FILES})"
)


def restore(folder: Path, target: Path, uid: str) -> Snapshot:
    """Make the collection folder `target`, of collection `uid`, from the snapshot in `folder`; see the module.

    Raises NotFound where there is no snapshot, Corrupt, naming the file, where anything about it is wrong, Conflict
    where `target` is already there.
    """
    if target.exists():
        raise Conflict(f"{target} is already there; a snapshot is restored as a new collection")
    snapshot = check_snapshot(folder)
    building = target.with_name(target.name + RESTORING_SUFFIX)
    shutil.rmtree(building, ignore_errors=True)
    try:
        _build(folder, building, snapshot)
        write_spec(building, uid, snapshot.spec)
        rename_durably(building, target)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return snapshot


def check_snapshot(folder: Path) -> Snapshot:
    """What a snapshot says of itself, once all of it is proved. Reads every byte. Errors as of `restore`."""
    check_plain(folder, SNAPSHOT_FILE)
    snapshot = read_snapshot(folder)
    for path, seal in snapshot.files.items():
        if not _PATH.fullmatch(path):
            raise Corrupt(f"{folder / SNAPSHOT_FILE} names {path[:200]!r}, which is no file of a snapshot")
        check_plain(folder, path)
        byte_count = (folder / path).stat().st_size
        if byte_count != seal.byte_count:
            raise Corrupt(f"{folder / path} is damaged: it has {byte_count} bytes instead of {seal.byte_count}")
        if seal_of(folder / path) != seal.crc32c:
            raise Corrupt(f"{folder / path} is damaged: its checksum is wrong")
    _check_content(folder, snapshot)
    return snapshot


def check_path(path: str) -> None:
    """Raises InvalidRequest unless a file of a snapshot may have this path, inside it."""
    if path != SNAPSHOT_FILE and not _PATH.fullmatch(path):
        raise InvalidRequest(f"{path[:200]!r} is no file of a snapshot")


def check_plain(folder: Path, path: str) -> None:
    """Raises Corrupt unless the path leads through folders to a file, and through no symbolic link."""
    place = folder
    for part in path.split("/"):
        place = place / part
        try:
            mode = place.lstat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            if path == SNAPSHOT_FILE:
                return  # read_snapshot tells
            raise Corrupt(f"{place} is missing: the snapshot is not whole") from None
        if not (stat.S_ISREG(mode) if place == folder / path else stat.S_ISDIR(mode)):
            raise Corrupt(f"{place} is a link or another thing that a snapshot does not have")


def _check_content(folder: Path, snapshot: Snapshot) -> None:
    manifest_file = manifest_path(folder, snapshot.manifest_number)
    _check_listed(folder, snapshot, manifest_file.name)
    manifest = read_manifest(manifest_file)
    if manifest.history_file is not None:
        _check_listed(folder, snapshot, manifest.history_file)
    OpHistory().restore(read_history(folder, manifest))
    read_fields(folder)
    attached = _check_log(folder, snapshot, manifest)
    for entry in manifest.segments:
        if entry.lsn > manifest.applied_lsn:
            continue  # the log attaches it
        header = _check_segment(folder, snapshot, entry.name)
        if entry.keys_crc32c not in (None, header.files[files.KEYS].crc32c):
            raise Corrupt(f"{folder / SEGMENTS_FOLDER / entry.name} has other rows than the manifest's")
        if entry.dead_file is not None:
            _check_listed(folder, snapshot, entry.dead_file)
        read_dead(folder, entry, header.row_count)
    for name in sorted(attached):
        _check_segment(folder, snapshot, name)


def _check_listed(folder: Path, snapshot: Snapshot, path: str) -> None:
    if path not in snapshot.files:
        raise Corrupt(f"{folder / path} is needed, but {SNAPSHOT_FILE} does not name it")


def _check_segment(folder: Path, snapshot: Snapshot, name: str) -> SegmentHeader:
    """The header of a segment that is right in itself and fits the collection."""
    place = folder / SEGMENTS_FOLDER / name
    _check_listed(folder, snapshot, f"{SEGMENTS_FOLDER}/{name}/{files.HEADER_FILE}")
    check = check_segment(place)
    for damage in (*check.lost, *check.contradictions):
        raise Corrupt(f"{place / damage.file} is damaged: {damage.reason}")
    for file in check.header.files:
        if file not in files.REBUILDABLE:
            _check_listed(folder, snapshot, f"{SEGMENTS_FOLDER}/{name}/{file}")
    if (problem := check.header.problem_in(snapshot.spec)) is not None:
        raise Corrupt(f"{place / files.HEADER_FILE}: {problem}")
    return check.header


def _check_log(folder: Path, snapshot: Snapshot, manifest: Manifest) -> set[str]:
    """The segments that the log attaches."""
    attached: set[str] = set()

    def visit(frame: LogFrame) -> None:
        for lsn, op in enumerate(frame.ops, frame.first_lsn):
            _check_op(op, snapshot.spec, f"{folder / WAL_FOLDER}, LSN {lsn}")
            if op.kind is OpKind.ATTACH and lsn > manifest.applied_lsn:
                attached.add(bytes(op.body).decode())

    named = {path for path in snapshot.files if path.startswith(WAL_FOLDER + "/")}
    found = {f"{WAL_FOLDER}/{path.name}" for path in (folder / WAL_FOLDER).glob("wal-*.log")}
    if found != named or (folder / WAL_FOLDER / CLEAN_MARK).exists():
        raise Corrupt(f"{folder / WAL_FOLDER} has other files than {SNAPSHOT_FILE} names: {sorted(found ^ named)}")
    last_lsn, cut, _ = walk_log(folder / WAL_FOLDER, manifest.applied_lsn, manifest.durable_lsn, visit)
    if cut is not None or max(last_lsn, manifest.applied_lsn) != snapshot.last_lsn:
        raise Corrupt(f"{folder / WAL_FOLDER} ends at LSN {last_lsn}, the snapshot says {snapshot.last_lsn}")
    return attached


def _check_op(op: LogOp, spec: CollectionSpec, where: str) -> None:
    try:
        if op.kind is OpKind.DELETE:
            decode_keys(op.body)
        elif op.kind is OpKind.UPSERT:
            batch = decode_batch(op.body)
            if batch.dim != spec.layout.dim:
                raise Corrupt(f"{where}: vectors of {batch.dim} dimensions instead of {spec.layout.dim}")
        elif not re.fullmatch(_NAME, bytes(op.body).decode()):
            raise Corrupt(f"{where}: a segment can't be called {bytes(op.body)!r}")
    except (InvalidRequest, ValueError) as error:
        raise Corrupt(f"{where}: {error}") from error


def _build(folder: Path, building: Path, snapshot: Snapshot) -> None:
    make_folder(building / SEGMENTS_FOLDER)
    make_folder(building / WAL_FOLDER)
    for path in snapshot.files:
        if path.startswith(WAL_FOLDER + "/"):
            shutil.copyfile(folder / path, building / path)  # a log grows, and is cut
        else:
            link_or_copy(folder / path, building / path)
        fsync_file(building / path)
    write_durably(building / WAL_FOLDER / CLEAN_MARK, str(snapshot.last_lsn).encode())
    for inner in sorted(path for path in building.rglob("*") if path.is_dir()):
        fsync_folder(inner)
    fsync_folder(building)
