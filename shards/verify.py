"""A shard's folder looked at offline: what is damaged, what opening would make of it, what has to be restored.

It decides what opening (shards/recovery.py) would do, by the same reading functions, and changes nothing: it cuts no
torn tail, makes no folder, and hands nothing to hnswlib. Every file is read once, by mapping; the log, file by file, once
for each of the two manifests. Nobody else may be at work on the folder.

- *note*: nothing is wrong; a leftover of a crash or of a load.
- *repairable*: opening goes on and answers rightly; it mends this, or does without.
- *lost*: opening refuses, or would answer wrongly; somebody has to restore something.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from shards.collection import SEGMENTS_FOLDER
from shards.errors import Corrupt, ShoalError
from shards.identity import IDENTITY_FILE, LOCK_FILE, ShardIdentity, check_shard_folder
from shards.log_frame import LogFrame, OpKind
from shards.manifest import (
    Manifest,
    SegmentEntry,
    manifest_numbers,
    manifest_path,
    read_dead,
    read_history,
    read_manifest,
)
from shards.op_history import OpHistory
from shards.payload_indexes import FIELDS_FILE, INDEXES_FOLDER
from shards.recovery import COLLECTION_FILE, WAL_FOLDER, read_spec
from shards.schema import CollectionSpec
from shards.segment_check import SegmentCheck, check_segment
from shards.segment_files import HEADER_FILE, KEYS
from shards.snapshot_restore import check_snapshot
from shards.snapshot_shelf import SNAPSHOTS_FOLDER, SnapshotShelf
from shards.wal import CLEAN_MARK, TornTail, walk_log

RESTORE = "restore it from a snapshot or a copy: until then the shard does not serve this collection"
CONTRADICTS = "opening would believe it, and answer wrongly: restore the collection from a snapshot or a copy"
REBUILD = "opening does without and searches the segment exactly, until it is built anew"
LEFTOVER = "nothing needs it; while no cluster runs it may be removed"

_UID = re.compile(r"[0-9a-f]{32}")


class Severity(StrEnum):
    """See the module."""

    NOTE = "note"
    REPAIRABLE = "repairable"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be: what, and what opening would do or what to restore."""

    path: Path
    what: str
    severity: Severity
    advice: str


@dataclass(slots=True)
class Verification:
    """What was found, and how much was looked at."""

    findings: list[Finding] = field(default_factory=list)
    file_count: int = 0
    byte_count: int = 0

    def count(self, path: Path) -> None:
        """Note that a file is looked at, if it is there."""
        if path.is_file():
            self.file_count += 1
            self.byte_count += path.stat().st_size

    def add(self, severity: Severity, path: Path, what: str, advice: str) -> None:
        """Note a finding. `what` may begin with the path, as errors do."""
        what = what.removeprefix(f"{path} ")
        self.findings.append(Finding(path, what, severity, advice))

    def leftover(self, path: Path, what: str) -> None:
        """Note a file or folder that nothing names."""
        self.add(Severity.NOTE, path, what, LEFTOVER)


def verify_shard(folder: Path, identity: ShardIdentity, expected_uids: Collection[str], result: Verification) -> None:
    """Look at one shard's folder. `expected_uids`: collections that have to be there; one that is half made and not
    among them is a leftover.
    """
    result.count(folder / IDENTITY_FILE)
    try:
        check_shard_folder(folder, identity)
    except ShoalError as error:
        advice = "restore the shard's folder: until then it serves nothing"
        result.add(Severity.LOST, folder / IDENTITY_FILE, error.message, advice)
    held = {path.name: path for path in sorted(folder.iterdir())} if folder.is_dir() else {}
    for name, path in held.items():
        if _UID.fullmatch(name) and (name in expected_uids or (path / COLLECTION_FILE).exists()):
            try:
                _CollectionCheck(path, result).run()
            except OSError as error:
                what = f"a file of it can't be read: {error}; nothing else of it was looked at"
                result.add(Severity.LOST, path, what, "look at the disk and at the rights; " + RESTORE)
        elif name == SNAPSHOTS_FOLDER:
            _verify_snapshots(folder, result)
        elif name not in (IDENTITY_FILE, LOCK_FILE):
            result.leftover(path, "it is no collection of this shard, or was never finished, or is being dropped")
    for uid in sorted(set(expected_uids) - set(held)):
        result.add(Severity.LOST, folder / uid, "the collection's folder is missing", RESTORE)


def _verify_snapshots(folder: Path, result: Verification) -> None:
    """Parts of snapshots: damage in one harms no collection. Files that a collection shares with it are read once more."""
    for path in SnapshotShelf(folder).parts():
        for file in sorted(path.rglob("*")):
            result.count(file)
        try:
            check_snapshot(path)
        except ShoalError as error:
            result.add(Severity.REPAIRABLE, path, error.message, "the snapshot can't be recovered; delete it")


@dataclass(slots=True)
class _Way:
    """What opening would meet if it took one manifest."""

    manifest: Manifest
    segments: list[str] = field(default_factory=list)
    obstacles: list[tuple[Path, str]] = field(default_factory=list)
    cut: TornTail | None = None
    log_is_whole: bool = False


class _CollectionCheck:
    """Looks at one collection's folder, whose name is its uid."""

    def __init__(self, folder: Path, result: Verification) -> None:
        self.folder = folder
        self.result = result
        self.spec: CollectionSpec | None = None
        self.segments: dict[str, SegmentCheck | Corrupt] = {}
        self.attached: set[str] = set()
        """Segments that the log names."""
        self.log_is_whole = False
        """Otherwise nobody knows what else is needed, and nothing is called a leftover."""

    def run(self) -> None:
        """Add everything that is found to the result."""
        self.result.count(self.folder / COLLECTION_FILE)
        try:
            self.spec = read_spec(self.folder, self.folder.name)
        except ShoalError as error:
            self._lost(self.folder / COLLECTION_FILE, error.message)
        manifests, unreadable = self._read_manifests()
        if not (self.folder / WAL_FOLDER).is_dir():
            self._lost(self.folder / WAL_FOLDER, "the collection's log is missing")
        elif manifests:
            self._count_log()
            self._tell_ways(manifests, unreadable)
        for path, what in unreadable:
            if manifests:
                advice = f"opening takes manifest {manifests[0].number} and the log instead"
                self.result.add(Severity.REPAIRABLE, path, what, advice)
            else:
                self._lost(path, what)
        if not manifests and not unreadable:
            self._lost(self.folder, "it has no manifest")
        if manifests and not unreadable and self.log_is_whole:
            for path, what in self._leftovers(manifests):
                self.result.leftover(path, what)

    def _lost(self, path: Path, what: str) -> None:
        self.result.add(Severity.LOST, path, what, RESTORE)

    def _read_manifests(self) -> tuple[list[Manifest], list[tuple[Path, str]]]:
        """The readable ones, newest first, and the others."""
        readable, unreadable = [], []
        for number in sorted(manifest_numbers(self.folder), reverse=True):
            path = manifest_path(self.folder, number)
            self.result.count(path)
            try:
                readable.append(read_manifest(path))
            except Corrupt as error:
                unreadable.append((path, error.message))
        return readable, unreadable

    def _count_log(self) -> None:
        for path in (self.folder / WAL_FOLDER).iterdir():
            self.result.count(path)

    def _tell_ways(self, manifests: list[Manifest], unreadable: list[tuple[Path, str]]) -> None:
        """Which manifest opening takes, and what each of them meets."""
        durable_lsn = max(manifest.durable_lsn for manifest in manifests)
        ways = [self._way(manifest, durable_lsn) for manifest in manifests]
        self.log_is_whole = all(way.log_is_whole for way in ways)
        taken = next((way for way in ways if not way.obstacles), None)
        told: set[tuple[Path, str]] = set()
        for way in ways:
            for path, what in way.obstacles:
                if (path, what) in told:
                    continue
                told.add((path, what))
                if taken is None:
                    self._lost(path, what)
                elif way.manifest.number > taken.manifest.number:
                    advice = f"opening takes manifest {taken.manifest.number} and the log instead"
                    self.result.add(Severity.REPAIRABLE, path, what, advice)
                else:
                    advice = "opening does not need it, only its spare does; the next two seals replace the spare"
                    self.result.add(Severity.REPAIRABLE, path, what, advice)
        if taken is not None and (cut := taken.cut) is not None:
            self.result.add(
                Severity.REPAIRABLE,
                self.folder / WAL_FOLDER / cut.file,
                f"{cut.byte_count} bytes behind offset {cut.offset} (LSN {cut.first_lsn}) are no whole frame: {cut.reason}",
                "opening cuts them; nothing proves that a write in them was acknowledged",
            )
        self._tell_segments()

    def _tell_segments(self) -> None:
        """What is wrong with segments and does not keep opening from its way."""
        for name, check in self.segments.items():
            if isinstance(check, Corrupt):
                continue
            folder = self.folder / SEGMENTS_FOLDER / name
            for damage in check.damages:
                if damage not in check.lost:
                    self.result.add(Severity.REPAIRABLE, folder / damage.file, damage.reason, REBUILD)
            for damage in check.contradictions:
                self.result.add(Severity.LOST, folder / damage.file, damage.reason, CONTRADICTS)
            if self.spec is not None and (problem := check.header.problem_in(self.spec)) is not None:
                self.result.add(Severity.LOST, folder / HEADER_FILE, problem, CONTRADICTS)

    def _way(self, manifest: Manifest, durable_lsn: int) -> _Way:
        way = _Way(manifest)
        entries = [entry for entry in manifest.segments if entry.lsn <= manifest.applied_lsn]
        way.segments += [entry.name for entry in entries]

        def visit(frame: LogFrame) -> None:
            for lsn, op in enumerate(frame.ops, frame.first_lsn):
                if op.kind is OpKind.ATTACH:
                    self.attached.add(bytes(op.body).decode())
                    if lsn > manifest.applied_lsn:
                        way.segments.append(bytes(op.body).decode())

        try:
            way.cut = walk_log(self.folder / WAL_FOLDER, manifest.applied_lsn, durable_lsn, visit).cut
            way.log_is_whole = way.cut is None
        except Corrupt as error:
            way.obstacles.append((self.folder / WAL_FOLDER, error.message))
        for name in dict.fromkeys(way.segments):
            way.obstacles += self._obstacles_of(name)
        for entry in manifest.segments:
            if (problem := self._problem_of_rows(entry) or self._problem_of_dead(entry)) is not None:
                if entry in entries:
                    way.obstacles.append(problem)
                else:
                    self.result.leftover(*problem)
        if (problem := self._problem_of_history(manifest)) is not None:
            way.obstacles.append(problem)
        return way

    def _obstacles_of(self, name: str) -> Iterator[tuple[Path, str]]:
        folder = self.folder / SEGMENTS_FOLDER / name
        if name not in self.segments:
            for path in _listed(folder):
                self.result.count(path)
            try:
                self.segments[name] = check_segment(folder)
            except Corrupt as error:
                self.segments[name] = error
        check = self.segments[name]
        if isinstance(check, Corrupt):
            yield folder / HEADER_FILE, check.message
        else:
            yield from ((folder / damage.file, damage.reason) for damage in check.lost)

    def _problem_of_rows(self, entry: SegmentEntry) -> tuple[Path, str] | None:
        check = self.segments.get(entry.name)
        if check is None or isinstance(check, Corrupt):
            return None
        if entry.keys_crc32c in (None, check.header.files[KEYS].crc32c):
            return None
        what = "it has other rows than a manifest says: it was built anew since"
        return self.folder / SEGMENTS_FOLDER / entry.name / HEADER_FILE, what

    def _problem_of_dead(self, entry: SegmentEntry) -> tuple[Path, str] | None:
        check = self.segments.get(entry.name)
        if entry.dead_file is None or check is None or isinstance(check, Corrupt):
            return None
        self.result.count(self.folder / entry.dead_file)
        try:
            read_dead(self.folder, entry, check.header.row_count)
        except Corrupt as error:
            return self.folder / entry.dead_file, error.message
        return None

    def _problem_of_history(self, manifest: Manifest) -> tuple[Path, str] | None:
        if manifest.history_file is None:
            return None
        self.result.count(self.folder / manifest.history_file)
        try:
            OpHistory().restore(read_history(self.folder, manifest))
        except Corrupt as error:
            return self.folder / manifest.history_file, error.message
        return None

    def _leftovers(self, manifests: list[Manifest]) -> Iterator[tuple[Path, str]]:
        named = {entry.name for manifest in manifests for entry in manifest.segments} | self.attached
        known = {COLLECTION_FILE, WAL_FOLDER, SEGMENTS_FOLDER, FIELDS_FILE, INDEXES_FOLDER}
        known |= {entry.dead_file for manifest in manifests for entry in manifest.segments if entry.dead_file}
        known |= {manifest.history_file for manifest in manifests if manifest.history_file}
        for path in _listed(self.folder):
            if path.name not in known and not re.fullmatch(r"manifest-\d+\.json", path.name):
                yield path, "no manifest names it"
        for path in _listed(self.folder / WAL_FOLDER):
            if path.name != CLEAN_MARK and not re.fullmatch(r"wal-\d+\.log", path.name):
                yield path, "it is no part of the log"
        for path in _listed(self.folder / SEGMENTS_FOLDER):
            if path.name not in named:
                yield path, "no manifest and no write in the log names this segment (a load that was not committed?)"
        for name, check in self.segments.items():
            for path in _listed(self.folder / SEGMENTS_FOLDER / name):
                if not isinstance(check, Corrupt) and path.name not in {*check.header.files, HEADER_FILE}:
                    yield path, "it is no part of its segment"


def _listed(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
