"""From a folder to a collection: creating one, and opening what a shutdown or a crash left.

    collection.json   uid and spec, checksummed, written last when the collection is made
    manifest-N.json   see shards/manifest.py
    wal/              see shards/wal.py
    segments/         see shards/segment_files.py

Opening takes the newest manifest whose segments are whole (the older one where the newest is damaged), and replays
the log behind it. Where a bulk load attached a segment, the log says at which LSN: the segment joins when the replay
gets there. A segment that does without a damaged file (shards/sealed.py) is opened, and noted. Nothing here ever makes
an empty collection out of a missing or damaged one. What a crash left visible but not durable (a name, the log's last
frame) is made durable before anything is built on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from shards.collection import BULK_PREFIX, SEGMENTS_FOLDER, ShardCollection, session_of
from shards.disk import REAL_DISK, Disk
from shards.errors import Corrupt, ShardUnavailable
from shards.log_frame import LogOp
from shards.manifest import (
    Manifest,
    SegmentEntry,
    manifest_numbers,
    read_dead,
    read_history,
    read_manifests,
    write_manifest,
)
from shards.payload_indexes import INDEXES_FOLDER, read_fields
from shards.schema import CollectionSpec
from shards.sealed import SealedSegment
from shards.segment_files import seal_json, unseal_json
from shards.settings import ShardSettings
from shards.wal import open_wal

FORMAT = 1
COLLECTION_FILE = "collection.json"
WAL_FOLDER = "wal"


@dataclass(frozen=True, slots=True)
class Opened:
    """An open collection, and sentences about what had to be cut or passed over to open it."""

    collection: ShardCollection
    notes: tuple[str, ...]


def create_collection(folder: Path, uid: str, spec: CollectionSpec, disk: Disk = REAL_DISK) -> None:
    """Make an empty collection's files, durably. Harmless to repeat."""
    if (folder / COLLECTION_FILE).exists():
        return
    disk.make_folder(folder / SEGMENTS_FOLDER)
    disk.make_folder(folder / WAL_FOLDER)
    write_manifest(folder, Manifest(number=1), disk)
    write_spec(folder, uid, spec, disk)


def open_collection(folder: Path, uid: str, settings: ShardSettings, disk: Disk = REAL_DISK) -> Opened:
    """Open a collection and replay its log.

    Raises ShardUnavailable where its files are missing, Corrupt, naming the file, where they are damaged.
    """
    spec = read_spec(folder, uid)
    # A crash may have left names that are seen but not durable; what comes now stands on them.
    for named in (folder.parent, folder, folder / SEGMENTS_FOLDER):
        if named.exists():
            disk.fsync_folder(named)
    if not (folder / WAL_FOLDER).is_dir():
        raise ShardUnavailable(
            f"{folder / WAL_FOLDER} is missing: this shard has lost the collection's log; restore it"
        )
    manifests, problems = read_manifests(folder)
    # What any manifest proves durable stays proven where that manifest has to be passed over.
    durable_lsn = max(manifest.durable_lsn for manifest in manifests)
    for number, manifest in enumerate(manifests):
        try:
            proven = manifest.model_copy(update={"durable_lsn": durable_lsn})
            opened = _open_at(folder, spec, settings, proven, disk)
            if not problems:
                _remove_leftovers(opened.collection, manifests)
            return Opened(opened.collection, (*problems, *opened.notes))
        except Corrupt as error:
            if number == len(manifests) - 1:
                raise
            problems.append(f"manifest {manifest.number} was passed over: {error.message}")
    raise AssertionError("read_manifests gives at least one")


def _open_at(folder: Path, spec: CollectionSpec, settings: ShardSettings, manifest: Manifest, disk: Disk) -> Opened:
    wal, recovery = open_wal(folder / WAL_FOLDER, manifest.applied_lsn, manifest.durable_lsn, disk)
    collection = ShardCollection(folder, spec, settings, wal)
    collection.fields = read_fields(folder)
    collection.applied_lsn = manifest.applied_lsn
    collection.sound_manifests = (manifest.number,)
    collection.manifest_number = max(manifest_numbers(folder))
    collection.history.restore(read_history(folder, manifest))
    for merged in manifest.merged_sessions:
        session_id = bytes.fromhex(merged.session)
        collection.merged_sessions[session_id] = merged.lsn
        collection.history.add(session_id, merged.lsn)
    for entry in manifest.segments:
        if entry.lsn > manifest.applied_lsn:
            continue  # attached behind this manifest's log position: the replay brings it
        collection.sealed.append(_open_entry(collection, entry))
        if (session := session_of(entry.name)) is not None:
            collection.history.add(session, entry.lsn)
    collection.last_lsn = manifest.applied_lsn
    for frame in recovery.frames:
        for lsn, op in enumerate(frame.ops, frame.first_lsn):
            if lsn > manifest.applied_lsn:
                _replay(collection, op, lsn)
            else:
                collection.history.add(op.op_id, lsn)
    notes = []
    if recovery.cut is not None:
        cut = recovery.cut
        notes.append(
            f"{folder / WAL_FOLDER / cut.file}: {cut.byte_count} bytes behind offset {cut.offset}"
            f" (LSN {cut.first_lsn}) were cut, no write in them had been acknowledged: {cut.reason}"
        )
    notes += [
        f"{segment.folder / damage.file} is damaged ({damage.reason}); its segment does without, until it is built anew"
        for segment in collection.sealed
        for damage in segment.damages
    ]
    return Opened(collection, tuple(notes))


def _remove_leftovers(collection: ShardCollection, kept: list[Manifest]) -> None:
    """Segment folders that a crash left behind: in the making, or named by no manifest. Loads' are kept: a prepared one may
    still be committed (shards/bulk.py removes those that nobody asks for any more).
    """
    needed = {entry.name for manifest in kept for entry in manifest.segments}
    needed.update(segment.name for segment in collection.sealed)
    for path in (collection.folder / SEGMENTS_FOLDER).iterdir():
        if path.name not in needed and not path.name.startswith(BULK_PREFIX):
            collection.disk.remove_tree(path)
    collection.retired |= needed - {segment.name for segment in collection.sealed}
    indexes = collection.folder / INDEXES_FOLDER
    for path in indexes.iterdir() if indexes.is_dir() else ():
        if path.name not in needed:
            collection.disk.remove_tree(path)


def _replay(collection: ShardCollection, op: LogOp, lsn: int) -> None:
    try:
        collection.apply(op, lsn)
    except ValueError as error:  # a frame that is whole, and of another collection
        raise Corrupt(f"{collection.wal.folder}: LSN {lsn} does not fit this collection: {error}") from error


def _open_entry(collection: ShardCollection, entry: SegmentEntry) -> SealedSegment:
    """The segment of a manifest's entry, with its dead rows."""
    segment = collection.open_sealed(entry.name, entry.lsn)
    if entry.keys_crc32c not in (None, segment.keys_crc32c):
        raise Corrupt(f"{segment.folder} has other rows than the manifest's: it was built anew since")
    dead = read_dead(collection.folder, entry, segment.row_count)
    if dead is not None:
        segment.restore_dead(dead)
    return segment


def write_spec(folder: Path, uid: str, spec: CollectionSpec, disk: Disk = REAL_DISK) -> None:
    """The last file of a collection that is made: with it, the collection is there."""
    content = {"format": FORMAT, "uid": uid, "spec": spec.model_dump(mode="json")}
    disk.write_durably(folder / COLLECTION_FILE, seal_json(content))


def read_spec(folder: Path, uid: str) -> CollectionSpec:
    """What the collection is made of. Raises ShardUnavailable where the file is missing, Corrupt where it is not right."""
    path = folder / COLLECTION_FILE
    if not path.exists():
        raise ShardUnavailable(f"{path} is missing: this shard has lost the collection's files; restore them")
    content = unseal_json(path)
    if content.get("format") != FORMAT or content.get("uid") != uid:
        raise Corrupt(
            f"{path} is of format {content.get('format')} and collection {content.get('uid')}, not {FORMAT}, {uid}"
        )
    try:
        return CollectionSpec.model_validate(content["spec"])
    except ValidationError as error:
        raise Corrupt(f"{path} holds no collection: {error.errors()[0]['msg']}") from error
