"""How a frozen segment becomes a sealed one, in steps that different threads may take.

    build     any thread   graph and files, from rows that no longer change (only die)
    install   owner        the sealed segment takes the frozen one's place; what died meanwhile dies there too
    plan      owner        which manifest says so
    record    disk thread  the manifest is durable; older ones, and the log that only they needed, are dropped

A crash between any two leaves the old manifest and the log, which give the same points again; a segment folder
that no manifest names is rebuilt under the same name. `seal_all` takes all steps at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from shards import manifest as manifests
from shards.collection import SEGMENTS_FOLDER, FrozenSegment, ShardCollection
from shards.manifest import Manifest, SegmentEntry
from shards.sealed import SealedSegment, open_segment
from shards.segment_builder import SegmentBuilder


@dataclass(frozen=True, slots=True)
class BuiltSegment:
    """A frozen segment's successor (None where every row had died), and the row that each of its rows came from."""

    frozen: FrozenSegment
    sealed: SealedSegment | None
    source_rows: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ManifestPlan:
    """A manifest to write, and the dead rows of its segments, as they were when it was planned."""

    manifest: Manifest
    dead: dict[str, npt.NDArray[np.bool_]] = field(default_factory=dict)


def build(collection: ShardCollection, frozen: FrozenSegment) -> BuiltSegment:
    """Build the graph and the files of a frozen segment."""
    rows = frozen.growing.live_rows()
    if not len(rows):
        return BuiltSegment(frozen, None, rows)
    folder = collection.folder / SEGMENTS_FOLDER / frozen.name
    threads = collection.settings.build_threads
    builder = SegmentBuilder(folder, collection.shape, len(rows), threads, collection.disk)
    try:
        builder.add(frozen.growing.take(rows))
        builder.finish(frozen.growing.versions_of(rows))
    except BaseException:
        builder.abort()
        raise
    sealed = open_segment(folder, frozen.through_lsn, builder.graph)
    sealed.exact_scan_bytes = collection.settings.exact_scan_bytes
    return BuiltSegment(frozen, sealed, rows)


def install(collection: ShardCollection, built: BuiltSegment) -> None:
    """Let a built segment take its frozen one's place."""
    assert collection.frozen and built.frozen is collection.frozen[0], "frozen segments are sealed in order"
    if built.sealed is not None:
        still_live = np.isin(built.source_rows, built.frozen.growing.live_rows(), assume_unique=True)
        built.sealed.kill(np.flatnonzero(~still_live))
        collection.sealed.append(built.sealed)
    collection.frozen.pop(0)
    collection.applied_lsn = built.frozen.through_lsn


def plan_manifest(collection: ShardCollection) -> ManifestPlan:
    """The manifest that describes the collection now.

    Rows that died by ops that are not yet in a segment are among the dead: the log brings those ops again,
    harmlessly.
    """
    collection.manifest_number += 1
    planned = Manifest(
        number=collection.manifest_number,
        applied_lsn=collection.applied_lsn,
        durable_lsn=collection.wal.last_lsn,
        segments=tuple(
            SegmentEntry(name=sealed.name, lsn=sealed.lsn, keys_crc32c=sealed.keys_crc32c)
            for sealed in collection.sealed
        ),
    )
    dead = {sealed.name: sealed.dead for sealed in collection.sealed}
    return ManifestPlan(planned, {name: rows for name, rows in dead.items() if rows is not None})


def record(collection: ShardCollection, plan: ManifestPlan) -> None:
    """Make a planned manifest durable, and drop what no kept manifest needs."""
    disk, entries = collection.disk, []
    for entry in plan.manifest.segments:
        if entry.name in plan.dead:
            name, checksum = manifests.write_dead(
                collection.folder, plan.manifest.number, entry.name, plan.dead[entry.name], disk
            )
            entry = entry.model_copy(update={"dead_file": name, "dead_crc32c": checksum})
        entries.append(entry)
    manifests.write_manifest(collection.folder, plan.manifest.model_copy(update={"segments": tuple(entries)}), disk)
    manifests.drop_manifests_before(collection.folder, plan.manifest.number - manifests.KEPT_COUNT + 1, disk)
    kept, _ = manifests.read_manifests(collection.folder)
    collection.wal.drop_through(min(manifest.applied_lsn for manifest in kept))


def seal_all(collection: ShardCollection) -> None:
    """Freeze, build, install and record everything, one after the other."""
    collection.freeze(collection.wal.last_lsn)
    while collection.frozen:
        install(collection, build(collection, collection.frozen[0]))
    record(collection, plan_manifest(collection))
