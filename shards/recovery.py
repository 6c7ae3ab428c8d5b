"""From a folder to a collection: creating one, and opening what a shutdown or a crash left.

    collection.json   uid and spec, checksummed, written last when the collection is made
    manifest-N.json   see shards/manifest.py
    wal/              see shards/wal.py
    segments/         see shards/segment_files.py

Opening takes the newest manifest whose segments are whole (the older one where the newest is damaged), and replays
the log behind it. Where a bulk load attached a segment, the log says at which LSN: the segment joins when the replay
gets there. A segment that does without a damaged file (shards/sealed.py) is opened, and noted. Nothing here ever makes
an empty collection out of a missing or damaged one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from shards.bulk import session_of
from shards.collection import SEGMENTS_FOLDER, ShardCollection
from shards.disk import make_folder, write_durably
from shards.errors import Corrupt, ShardUnavailable
from shards.manifest import Manifest, manifest_numbers, read_dead, read_manifests, write_manifest
from shards.schema import CollectionSpec
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


def create_collection(folder: Path, uid: str, spec: CollectionSpec) -> None:
    """Make an empty collection's files, durably. Harmless to repeat."""
    if (folder / COLLECTION_FILE).exists():
        return
    make_folder(folder / SEGMENTS_FOLDER)
    make_folder(folder / WAL_FOLDER)
    write_manifest(folder, Manifest(number=1))
    write_spec(folder, uid, spec)


def open_collection(folder: Path, uid: str, settings: ShardSettings) -> Opened:
    """Open a collection and replay its log.

    Raises ShardUnavailable where its files are missing, Corrupt, naming the file, where they are damaged.
    """
    spec = read_spec(folder, uid)
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
            return _open_at(folder, spec, settings, proven, problems)
        except Corrupt as error:
            if number == len(manifests) - 1:
                raise
            problems.append(f"manifest {manifest.number} was passed over: {error.message}")
    raise AssertionError("read_manifests gives at least one")


def _open_at(
    folder: Path, spec: CollectionSpec, settings: ShardSettings, manifest: Manifest, problems: list[str]
) -> Opened:
    wal, recovery = open_wal(folder / WAL_FOLDER, manifest.applied_lsn, manifest.durable_lsn)
    collection = ShardCollection(folder, spec, settings, wal)
    collection.applied_lsn = manifest.applied_lsn
    collection.manifest_number = max(manifest_numbers(folder))
    for entry in manifest.segments:
        if entry.lsn > manifest.applied_lsn:
            continue  # attached behind this manifest's log position: the replay brings it
        segment = collection.open_sealed(entry.name, entry.lsn)
        dead = read_dead(folder, entry, segment.row_count)
        if dead is not None:
            segment.restore_dead(dead)
        collection.sealed.append(segment)
        if (session := session_of(entry.name)) is not None:
            collection.history.add(session, entry.lsn)
    for frame in recovery.frames:
        for lsn, op in enumerate(frame.ops, frame.first_lsn):
            if lsn > manifest.applied_lsn:
                collection.apply(op, lsn)
            else:
                collection.history.add(op.op_id, lsn)
    notes = list(problems)
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


def write_spec(folder: Path, uid: str, spec: CollectionSpec) -> None:
    """The last file of a collection that is made: with it, the collection is there."""
    content = {"format": FORMAT, "uid": uid, "spec": spec.model_dump(mode="json")}
    write_durably(folder / COLLECTION_FILE, seal_json(content))


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
