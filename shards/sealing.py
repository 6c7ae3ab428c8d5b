"""How segments become one sealed segment, in steps that different threads may take.

    build / compact  any thread   graph and files, from rows that no longer change (only die)
    install          owner        the new segment takes their place; what died meanwhile dies in it too
    plan             owner        which manifest says so
    record           disk thread  the manifest is durable; what only older ones needed is dropped

A seal makes a segment of a frozen one, alone or added to a copy of a sealed one; a compaction does it with sealed ones
(shards/compaction.py decides). A crash between any two steps leaves the old manifest, its segments and the log, which give
the same points again; a segment folder that no manifest names is removed at the next start. `seal_all` takes all steps
at once.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from shards import manifest as manifests
from shards import segment_files as files
from shards.collection import SEGMENTS_FOLDER, FrozenSegment, ShardCollection
from shards.compaction import Merge
from shards.errors import ShardUnavailable
from shards.index import Rows, VectorIndex, live_rows
from shards.manifest import Manifest, SegmentEntry, SessionEntry
from shards.payload_indexes import build_indexes, missing_fields, remove_indexes
from shards.sealed import SealedSegment, open_segment
from shards.segment_builder import SegmentBuilder

BATCH_ROWS = 1_000
"""Rows that are added to a graph between two looks whether the shard is stopping: half a second at most."""
MERGED_PREFIX = "merged-"


@dataclass(frozen=True, slots=True)
class BuiltSegment:
    """The successor of a frozen segment, of sealed ones, or of both (None where every row had died).

    `sources`: which rows of which segment its rows are, in order.
    """

    frozen: FrozenSegment | None
    replaced: tuple[SealedSegment, ...]
    sealed: SealedSegment | None
    sources: tuple[tuple[VectorIndex, Rows], ...]


@dataclass(frozen=True, slots=True)
class ManifestPlan:
    """A manifest to write, and the dead rows of its segments, as they were when it was planned."""

    manifest: Manifest
    dead: dict[str, npt.NDArray[np.bool_]] = field(default_factory=dict)
    history: bytes = b""
    retired: frozenset[str] = frozenset()
    """Segments that were merged away: removed once no kept manifest names them."""


def build(collection: ShardCollection, frozen: FrozenSegment, base: SealedSegment | None = None) -> BuiltSegment:
    """Build the graph and the files of a frozen segment, added to a copy of `base` where one is given."""
    rows = live_rows(frozen.growing)
    if not len(rows):
        return BuiltSegment(frozen, (), None, ())
    threads = collection.settings.build_threads
    union = _Union(frozen.name, base, [(frozen.growing, rows)], frozen.through_lsn, threads)
    sealed, sources = _unite(collection, union)
    return BuiltSegment(frozen, () if base is None else (base,), sealed, sources)


def compact(collection: ShardCollection, merge: Merge, name: str) -> BuiltSegment:
    """Carry out a planned merge of sealed segments, into a new one of this name."""
    by_name = {segment.name: segment for segment in collection.sealed}
    base = None if merge.base is None else by_name[merge.base]
    parts = [by_name[part] for part in merge.parts]
    replaced = (*parts,) if base is None else (base, *parts)
    lsn = max(segment.lsn for segment in replaced)
    threads = collection.settings.build_threads
    if merge.is_repair:
        threads = max(threads, os.cpu_count() or 1)
    added = [(part, live_rows(part)) for part in parts]
    sealed, sources = _unite(collection, _Union(name, base, added, lsn, threads))
    return BuiltSegment(None, replaced, sealed, sources)


def install(collection: ShardCollection, built: BuiltSegment) -> None:
    """Let a built segment take the place of those that it was made of."""
    frozen = built.frozen
    assert frozen is None or frozen is collection.frozen[0], "frozen segments are sealed in order"
    collection.sealed = [segment for segment in collection.sealed if segment not in built.replaced]
    if built.sealed is not None:
        alive = np.concatenate([segment.is_live(rows) for segment, rows in built.sources])
        built.sealed.kill(np.flatnonzero(~alive & built.sealed.is_live(np.arange(len(alive)))))
        collection.sealed.append(built.sealed)
        if frozen is not None:
            collection.sealed_bytes += built.sealed.file_bytes
        else:
            collection.compacted_bytes += built.sealed.file_bytes
    for segment in built.replaced:
        collection.retire(segment)
    collection.generations.move_layout()
    if frozen is not None:
        collection.frozen.pop(0)
        collection.applied_lsn = frozen.through_lsn


def plan_manifest(collection: ShardCollection) -> ManifestPlan:
    """The manifest that describes the collection now.

    Rows that died by ops that are not yet in a segment are among the dead: the log brings those ops again,
    harmlessly.
    """
    collection.settle()
    collection.manifest_number += 1
    planned = Manifest(
        number=collection.manifest_number,
        applied_lsn=collection.applied_lsn,
        durable_lsn=collection.wal.last_lsn,
        segments=tuple(
            SegmentEntry(name=sealed.name, lsn=sealed.lsn, keys_crc32c=sealed.keys_crc32c)
            for sealed in collection.sealed
        ),
        merged_sessions=tuple(
            SessionEntry(session=session.hex(), lsn=lsn) for session, lsn in collection.merged_sessions.items()
        ),
    )
    dead = {sealed.name: sealed.dead for sealed in collection.sealed}
    dead_rows = {name: rows for name, rows in dead.items() if rows is not None}
    return ManifestPlan(planned, dead_rows, collection.history.encode(), frozenset(collection.retired))


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
    told: dict[str, object] = {"segments": tuple(entries)}
    if plan.history:
        name, checksum = manifests.write_history(collection.folder, plan.manifest.number, plan.history, disk)
        told |= {"history_file": name, "history_crc32c": checksum}
    manifests.write_manifest(collection.folder, plan.manifest.model_copy(update=told), disk)
    # One that was passed over for its damage is not one of the two that are kept.
    sound = (
        *(number for number in collection.sound_manifests if number < plan.manifest.number),
        plan.manifest.number,
    )
    collection.sound_manifests = sound[-manifests.KEPT_COUNT :]
    manifests.drop_manifests_before(collection.folder, collection.sound_manifests[0], disk)
    kept, _ = manifests.read_manifests(collection.folder)
    collection.wal.drop_through(min(manifest.applied_lsn for manifest in kept))
    needed = {entry.name for manifest in kept for entry in manifest.segments}
    for name in plan.retired - needed:
        disk.remove_tree(collection.folder / SEGMENTS_FOLDER / name)
        remove_indexes(collection.folder, name, disk)
        collection.retired.discard(name)


def seal_all(collection: ShardCollection) -> None:
    """Freeze, build, install and record everything, one after the other."""
    collection.freeze(collection.wal.last_lsn)
    while collection.frozen:
        install(collection, build(collection, collection.frozen[0]))
    record(collection, plan_manifest(collection))


@dataclass(frozen=True, slots=True)
class _Union:
    """A segment to make: of all rows of `base` (its files and graph are copied), and of the rows `added` behind them."""

    name: str
    base: SealedSegment | None
    added: Sequence[tuple[VectorIndex, Rows]]
    lsn: int
    threads: int


def _unite(
    collection: ShardCollection, union: _Union
) -> tuple[SealedSegment | None, tuple[tuple[VectorIndex, Rows], ...]]:
    """The segment, open, or None where it would have no rows; and where its rows come from."""
    base = union.base
    added = tuple((segment, rows) for segment, rows in union.added if len(rows))
    sources = added if base is None else ((base, np.arange(base.row_count)), *added)
    row_count = sum(len(rows) for _, rows in sources)
    if not row_count:
        return None, ()
    folder = collection.folder / SEGMENTS_FOLDER / union.name
    if union.name in collection.retired or folder.exists():
        # A leftover, or what a kept manifest may still name: it stays, and is nobody's successor.
        folder = folder.with_name(f"{union.name}-{collection.manifest_number:08d}")
    for segment, _ in sources:
        if isinstance(segment, SealedSegment):
            files.check_rows(segment.folder, segment.header)  # the new segment's checksums must not vouch for rot
    builder = SegmentBuilder(folder, collection.spec, row_count, union.threads, collection.disk)
    try:
        if base is not None:
            builder.copy(base.folder, base.header, base.graphs)
        for segment, rows in added:
            for start in range(0, len(rows), BATCH_ROWS):
                if collection.is_closing:
                    raise ShardUnavailable("the shard is stopping")
                builder.add(segment.take(rows[start : start + BATCH_ROWS]))
        builder.finish(np.concatenate([segment.versions_of(rows) for segment, rows in sources]))
    except BaseException:
        builder.abort()
        raise
    sealed = open_segment(folder, union.lsn, builder.graphs)
    sealed.exact_scan_bytes = collection.settings.exact_scan_bytes
    kinds = missing_fields(sealed, collection.fields)
    if kinds:
        with suppress(OSError):  # upkeep tries again; a segment is not lost for its indexes' sake
            sealed.indexes = build_indexes(collection.folder, sealed, kinds, collection.disk)
    return sealed, sources
