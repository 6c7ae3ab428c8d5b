"""Damaged shards: one file of a shard is changed, then the shard is verified, opened, searched and compared.

    python -m tests.simulation.damage --mutants 10000 --seed 0

`run(seed)` makes one mutant of one of a few shards (`shards_of`, made once) and raises AssertionError, with the seed,
unless

- every collection opens and answers as brute force does over the writes up to its last LSN, or is refused by a typed error;
- no write is missing that something still proves: only damage in the log may cost its tail, and never below what a
  manifest or the mark of a clean shutdown says;
- hnswlib is given no graph but the one that was written there;
- verification changes nothing, finds something lost exactly where opening refuses, and something at least repairable
  wherever opening has something to say.

A log that ends at the end of a frame looks like one that was never written further. Where the newest log file vanishes, or
is cut there, and nothing proves that there was more, nobody can tell; such mutants are counted apart ("tail gone,
unprovable").
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from unittest.mock import patch

import hnswlib
import numpy as np

from shards import sealing, snapshot
from shards.bulk import BulkSession
from shards.collection import ShardCollection
from shards.distance import Distance
from shards.errors import Corrupt, NotFound, ShardUnavailable, ShoalError
from shards.identity import ShardIdentity, check_shard_folder, create_shard_folder
from shards.index import SearchPlan
from shards.manifest import read_manifests
from shards.recovery import create_collection, open_collection
from shards.settings import ShardSettings
from shards.snapshot_restore import restore
from shards.verify import Severity, Verification, verify_shard
from tests.shard_oracle import (
    DIM,
    Oracle,
    batch_of,
    check_same,
    check_search,
    delete_op,
    spec_of,
    upsert_op,
    vectors_of,
)

Random = np.random.Generator

IDENTITY = ShardIdentity("0" * 32, 3, "1" * 32)
UIDS = ("a" * 32, "b" * 32)
SETTINGS = ShardSettings(exact_scan_bytes=0)
SNAPSHOT = "one"
DISTANCES = (Distance.EUCLID, Distance.COSINE, Distance.MANHATTAN)
ENDINGS = ("crashed", "closed", "sealed")
GO_ON_EVERY = 16
"""Of so many mutants one that opens is written to, sealed and opened again."""


@dataclass
class Held:
    """One collection of a good shard: what it should answer at every LSN that something does not prove beyond."""

    uid: str
    distance: Distance
    oracle_at: dict[int, Oracle] = field(default_factory=lambda: {0: Oracle()})
    last_lsn: int = 0
    proven_lsn: int = 0


@dataclass(frozen=True)
class Shard:
    """A good shard's folder, and a snapshot of its first collection beside it."""

    folder: Path
    snapshot_folder: Path
    held: tuple[Held, ...]
    files: tuple[str, ...]
    """Every file of the shard, by its path within."""
    snapshot_files: tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """What was done to which files."""

    kind: str
    paths: tuple[str, ...]


class _Writer:
    """Writes a collection's history, and keeps what it should be after every write."""

    def __init__(self, collection: ShardCollection, held: Held, random: Random) -> None:
        self.collection, self.held, self.random = collection, held, random
        self.version = 0

    def _batch(self, count: int):
        self.version += 1
        keys = self.random.choice(60, count, replace=False).tolist()
        return batch_of(keys, self.version, DIM, self.held.distance)

    def _note(self, lsn: int, change: Callable[[Oracle], None]) -> None:
        before = self.held.oracle_at[lsn - 1]
        oracle = Oracle(dict(before.points))
        change(oracle)
        self.held.oracle_at[lsn] = oracle
        self.held.last_lsn = lsn

    def upsert(self, count: int) -> None:
        batch = self._batch(count)
        lsn = self.collection.commit([upsert_op(batch)], 1)
        self._note(lsn, lambda oracle: oracle.upsert(batch, lsn))

    def delete(self, count: int) -> None:
        keys = self.random.choice(60, count, replace=False).tolist()
        lsn = self.collection.commit([delete_op(keys)], 1)
        self._note(lsn, lambda oracle: oracle.delete(keys))

    def load(self, count: int) -> None:
        batch = self._batch(count)
        load = BulkSession(self.collection, self.random.bytes(16), count)
        load.add(batch)
        load.prepare()
        op = load.attach_op()
        load.close()
        assert op is not None
        lsn = self.collection.commit([op], 1)
        self._note(lsn, lambda oracle: oracle.upsert(batch, lsn))

    def seal(self) -> None:
        sealing.seal_all(self.collection)

    def freeze(self) -> None:
        self.collection.freeze(self.collection.wal.last_lsn)


def shards_of(folder: Path) -> list[Shard]:
    """The good shards that mutants are made of: every distance with every ending."""
    return [
        _make_shard(folder / f"{distance.value}-{ending}", distance, ending)
        for distance in DISTANCES
        for ending in ENDINGS
    ]


def _make_shard(folder: Path, distance: Distance, ending: str) -> Shard:
    random = np.random.default_rng([DISTANCES.index(distance), ENDINGS.index(ending)])
    shard, snapshots = folder / "shard", folder / "snapshots"
    create_shard_folder(shard, IDENTITY)
    held = tuple(Held(uid, distance) for uid in UIDS)
    for one in held:
        create_collection(shard / one.uid, one.uid, spec_of(distance))
        collection = open_collection(shard / one.uid, one.uid, SETTINGS).collection
        _write(_Writer(collection, one, random), ending)
        if ending != "crashed":
            collection.wal.close()
        durable_lsn = max(manifest.durable_lsn for manifest in read_manifests(collection.folder)[0])
        one.proven_lsn = durable_lsn if ending == "crashed" else one.last_lsn
        if one is held[0]:
            snapshot.link(collection, snapshots, SNAPSHOT)
            snapshot.finish(collection, snapshots, SNAPSHOT)
    return Shard(shard, snapshots / SNAPSHOT, held, _files(shard), _files(snapshots / SNAPSHOT))


def _write(writer: _Writer, ending: str) -> None:
    """Two manifests, sealed and loaded segments with dead rows, and a log of two files behind them."""
    for _ in range(3):
        writer.upsert(15)
    writer.seal()
    writer.upsert(20)
    writer.delete(5)
    writer.load(12)
    writer.seal()
    writer.upsert(10)
    writer.delete(5)
    writer.freeze()
    for _ in range(3):
        writer.upsert(4)
    writer.load(6)
    writer.delete(3)
    if ending == "sealed":
        writer.seal()


def _files(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()))


def mutate(folder: Path, files: tuple[str, ...], random: Random) -> Change:
    """Change one file, or exchange two of a kind."""
    path = files[int(random.integers(len(files)))]
    kind = str(random.choice(["flip", "zero", "cut", "grow", "remove", "swap"]))
    twins = [other for other in files if other != path and _are_twins(path, other)]
    if kind == "swap" and twins:
        other = twins[int(random.integers(len(twins)))]
        one, two = (folder / path).read_bytes(), (folder / other).read_bytes()
        _replace(folder / path, two)
        _replace(folder / other, one)
        return Change("swap", (path, other))
    kind = "flip" if kind == "swap" else kind
    content = bytearray((folder / path).read_bytes())
    if not content:
        kind = "grow"
    if kind == "remove":
        (folder / path).unlink()
        return Change(kind, (path,))
    _replace(folder / path, _changed(content, kind, random))
    return Change(kind, (path,))


def _changed(content: bytearray, kind: str, random: Random) -> bytearray:
    place = int(random.integers(len(content))) if content else 0
    if kind == "flip":
        content[place] ^= 1 << int(random.integers(8))
    elif kind == "zero":
        length = min(int(random.choice([1, 16, 512])), len(content) - place)
        content[place : place + length] = bytes(length)
    elif kind == "cut":
        del content[place:]
    else:
        length = int(random.choice([1, 4, 48, 512]))
        content += bytes(length) if random.random() < 0.5 else random.bytes(length)
    return content


def _kind_of(path: str) -> str:
    name = path.rsplit("/", 1)[-1]
    return name.split("-", 1)[0] if name[-4:] in (".log", "bits", ".bin") or name.startswith("manifest") else name


def _are_twins(path: str, other: str) -> bool:
    """Whether they may be exchanged: files of a kind. Logs and manifests don't say whose they are (docs/design.md), so that
    those of two collections are not.
    """
    is_same_place = path.split("/", 1)[0] == other.split("/", 1)[0]
    return _kind_of(path) == _kind_of(other) and (is_same_place or _kind_of(path) not in ("wal", "manifest"))


def _replace(path: Path, content: bytes | bytearray) -> None:
    path.unlink()  # the good shard shares the old file
    path.write_bytes(content)


def _copy(source: Path, target: Path) -> None:
    """Links, but of the log: opening may cut it."""
    shutil.copytree(
        source, target, copy_function=lambda a, b: shutil.copyfile(a, b) if "/wal/" in a else os.link(a, b)
    )


def _state(folder: Path) -> dict[str, tuple[int, int, int]]:
    found = ((path, path.stat()) for path in folder.rglob("*"))
    return {str(path): (stat.st_ino, stat.st_size, stat.st_mtime_ns) for path, stat in found}


@contextmanager
def _guarded_loads(good: Path, mutant: Path) -> Iterator[None]:
    """hnswlib fails the mutant if it is given a graph that is not the good shard's at the same place."""

    class GuardedIndex(hnswlib.Index):
        def load_index(self, path: str, max_elements: int) -> None:
            there = good / Path(path).relative_to(mutant)
            assert Path(path).read_bytes() == there.read_bytes(), f"damaged bytes reached hnswlib: {path}"
            super().load_index(path, max_elements=max_elements)

    with patch("hnswlib.Index", GuardedIndex):
        yield


def run(seed: int, shards: list[Shard], scratch: Path) -> tuple[Change, str]:
    """One mutant: what was changed, and what became of it. Raises AssertionError, with the seed."""
    random = np.random.default_rng(seed)
    shard = shards[int(random.integers(len(shards)))]
    mutant = scratch / f"mutant-{seed}"
    try:
        if random.random() < 0.15:
            return _run_snapshot(shard, mutant, random)
        return _run_shard(shard, mutant, random)
    except Exception as error:
        raise AssertionError(f"seed {seed}, {shard.folder.parent.name}: {error!r}") from error
    finally:
        shutil.rmtree(mutant, ignore_errors=True)


def _run_shard(shard: Shard, mutant: Path, random: Random) -> tuple[Change, str]:
    _copy(shard.folder, mutant)
    change = mutate(mutant, shard.files, random)
    before = _state(mutant)
    found = verify_shard_of(mutant)
    assert _state(mutant) == before, "verification changed something"
    with _guarded_loads(shard.folder, mutant):
        outcomes = _open_all(shard, mutant, change)
    _check_found(found, outcomes, change)
    if random.integers(GO_ON_EVERY) == 0:
        _go_on(shard, mutant)
    return change, next((outcome for outcome in outcomes if outcome != "as before"), "as before")


def verify_shard_of(folder: Path) -> Verification:
    """What verification says of a shard's folder."""
    result = Verification()
    verify_shard(folder, IDENTITY, UIDS, result)
    return result


def _open_all(shard: Shard, mutant: Path, change: Change) -> list[str]:
    """What opening each collection gave."""
    try:
        check_shard_folder(mutant, IDENTITY)
    except (Corrupt, ShardUnavailable):
        return ["refused: the shard"]
    return [_open_one(held, mutant, change) for held in shard.held]


def _open_one(held: Held, mutant: Path, change: Change) -> str:
    """What opening one collection gave, after it was compared."""
    try:
        opened = open_collection(mutant / held.uid, held.uid, SETTINGS)
    except (Corrupt, ShardUnavailable) as error:
        if str(mutant) not in error.message:
            raise AssertionError(f"the error names no file: {error}") from error
        return f"refused: {type(error).__name__}"
    last_lsn = opened.collection.wal.last_lsn
    in_log = any(path.startswith(f"{held.uid}/wal/wal-") for path in change.paths)
    assert last_lsn >= (held.proven_lsn if in_log else held.last_lsn), f"it ends at LSN {last_lsn}, without a word"
    _compare(opened.collection, held, last_lsn)
    for words, outcome in (
        ("were cut", "tail cut, and said so"),
        ("does without", "without graph or order"),
        ("manifest", "older manifest"),
    ):
        if any(words in note for note in opened.notes):
            return outcome
    assert not opened.notes, opened.notes
    return "as before" if last_lsn == held.last_lsn else "tail gone, unprovable"


def _compare(collection: ShardCollection, held: Held, lsn: int) -> None:
    oracle = held.oracle_at[lsn]
    queries = vectors_of([1, 2], DIM, held.distance)
    check_same(collection, oracle, queries)
    check_search(collection, oracle, queries, SearchPlan(7, 32))


def _check_found(found: Verification, outcomes: list[str], change: Change) -> None:
    """Verification says what opening does."""
    severities = {finding.severity for finding in found.findings}
    refused = any(outcome.startswith("refused") for outcome in outcomes)
    assert (Severity.LOST in severities) == refused, f"{change}: {outcomes}, but {found.findings}"
    reacted = any(outcome not in ("as before", "tail gone, unprovable") for outcome in outcomes)
    assert not reacted or severities & {Severity.LOST, Severity.REPAIRABLE}, f"{change}: {outcomes}, nothing found"


def _go_on(shard: Shard, mutant: Path) -> None:
    """What opened takes writes, is sealed, and is right again when it is opened."""
    for held in shard.held:
        try:
            collection = open_collection(mutant / held.uid, held.uid, SETTINGS).collection
        except ShoalError:
            continue
        oracle = Oracle(dict(held.oracle_at[collection.wal.last_lsn].points))
        batch = batch_of([1, 2, 70], 99, DIM, held.distance)
        oracle.upsert(batch, collection.commit([upsert_op(batch)], 1))
        sealing.seal_all(collection)
        check_same(open_collection(mutant / held.uid, held.uid, SETTINGS).collection, oracle, batch.vectors[:1])


def _run_snapshot(shard: Shard, mutant: Path, random: Random) -> tuple[Change, str]:
    held = shard.held[0]
    _copy(shard.snapshot_folder, mutant / "snapshot")
    change = mutate(mutant / "snapshot", shard.snapshot_files, random)
    target = mutant / held.uid
    try:
        restore(mutant / "snapshot", target, held.uid)
    except (Corrupt, NotFound):
        assert os.listdir(mutant) == ["snapshot"], "something was made of a bad snapshot"
        return change, "snapshot refused"
    opened = open_collection(target, held.uid, SETTINGS)
    assert not opened.notes, opened.notes
    _compare(opened.collection, held, held.last_lsn)
    return change, "snapshot restored"


def report(mutant_count: int, first_seed: int) -> int:
    """Make mutants and print what became of them; the exit code."""
    outcomes: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    failures = []
    started = perf_counter()
    with tempfile.TemporaryDirectory(prefix="shoal-damage-") as scratch, patch("os.fsync"):
        shards = shards_of(Path(scratch) / "good")
        for seed in range(first_seed, first_seed + mutant_count):
            try:
                change, outcome = run(seed, shards, Path(scratch))
            except AssertionError as failure:
                failures.append(str(failure))
                print(f"FAILED {failure}", flush=True)
                continue
            outcomes[outcome] += 1
            kinds[change.kind] += 1
    print(
        f"seeds {first_seed} to {first_seed + mutant_count - 1}, {mutant_count} mutants, {perf_counter() - started:.0f} s"
    )
    for counter in (kinds, outcomes):
        print("  " + ", ".join(f"{name} {count}" for name, count in sorted(counter.items())))
    print(f"  silently wrong, crashed, or bad bytes in hnswlib: {len(failures)}")
    return 1 if failures or not mutant_count else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Damage shards and see what they say.")
    parser.add_argument("--mutants", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="the first mutant's")
    arguments = parser.parse_args()
    sys.exit(report(arguments.mutants, arguments.seed))
