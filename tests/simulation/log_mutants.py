"""Damaged logs: whatever happens to a log's bytes, opening gives what was acknowledged, or says what is wrong.

A mutant is a log of which bytes were flipped, zeroed, cut off, repeated or exchanged. Opening it must end in one of:

- exact: every acknowledged write is there, and nothing else;
- refused: Corrupt or ShardUnavailable;
- cut: what is missing is reported, and nothing that is left proves that it was ever durable;
- ended: the log ends between two frames, just as after a crash before the next write, and nothing proves that more
  was durable. No log can tell this from never having been written; it is counted apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from shards.collection import ShardCollection
from shards.disk import Disk
from shards.errors import Corrupt, ShardUnavailable
from shards.log_frame import LogFrame, find_frames
from shards.manifest import read_manifests
from shards.recovery import open_collection
from tests.shard_oracle import SMALL, UID, check_same
from tests.simulation.workload import QUERIES, Workload

STEPS = 30
CLEAN_FRACTION = 0.2
Files = dict[str, bytes]


@dataclass
class MutantTally:
    """How the mutants of one log, or of many, ended."""

    operations: int = 0
    acknowledged: int = 0
    injected: int = 0
    exact: int = 0
    refused: int = 0
    cut: int = 0
    ended: int = 0

    def add(self, other: MutantTally) -> None:
        for name, count in vars(other).items():
            setattr(self, name, getattr(self, name) + count)


class _UnsyncedDisk(Disk):
    """Nothing crashes here, so an fsync shows nothing."""

    def fsync(self, descriptor: int) -> None: ...

    def fsync_file(self, path: Path) -> None: ...

    def fsync_folder(self, folder: Path) -> None: ...


@dataclass(frozen=True)
class _Frame:
    """A frame of the undamaged log, and its bytes."""

    frame: LogFrame
    content: bytes


def log_mutants(seed: int, root: Path, count: int) -> MutantTally:
    """Work, close, and open `count` mutants of the log that was left."""
    random = Random(seed)
    work = Workload(root, random)
    for _ in range(random.randint(5, STEPS)):
        work.step()
    work.upsert()  # the log is not empty, whatever was sealed
    work.close(clean=random.random() < CLEAN_FRACTION)
    folder = work.folder / "wal"
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    case = _Case(work, files, _frames_of(files), _proven_lsn(work, files))
    tally = MutantTally(operations=work.tally.operations, acknowledged=work.tally.acknowledged)
    for number in range(count):
        mutated = _mutate(files, case.frames, random)
        try:
            outcome = case.open(mutated)
        except BaseException as error:
            error.add_note(f"mutant {number} of seed {seed}")
            raise
        setattr(tally, outcome, getattr(tally, outcome) + 1)
        tally.injected += 1
    return tally


@dataclass(frozen=True)
class _Case:
    """One collection whose log is damaged again and again."""

    work: Workload
    files: Files
    frames: list[_Frame]
    proven_lsn: int

    def open(self, mutated: Files) -> str:
        """How opening with these log files ended. Raises AssertionError where it ended wrongly."""
        folder = self.work.folder / "wal"
        for path in folder.iterdir():
            path.unlink()
        for name, content in mutated.items():
            (folder / name).write_bytes(content)
        try:
            opened = open_collection(self.work.folder, UID, SMALL, _UnsyncedDisk())
        except (Corrupt, ShardUnavailable):
            return "refused"
        return self._weigh(opened.collection, bool(opened.notes), mutated)

    def _weigh(self, collection: ShardCollection, is_reported: bool, mutated: Files) -> str:
        last_lsn = collection.wal.last_lsn
        written_lsn = self.work.collection.wal.last_lsn
        assert last_lsn <= written_lsn, "there are writes that nobody made"
        check_same(collection, self.work.oracle_at(last_lsn), QUERIES)
        if last_lsn == written_lsn:
            return "exact"
        assert self.proven_lsn <= last_lsn, f"LSN {last_lsn + 1} is gone, the files beside the log prove it"
        for proof in self.frames:
            if proof.frame.durable_lsn > last_lsn:
                is_there = any(proof.content in content for content in mutated.values())
                assert not is_there, f"LSN {last_lsn + 1} is gone, the frame of LSN {proof.frame.first_lsn} proves it"
        return "cut" if is_reported else "ended"


def _frames_of(files: Files) -> list[_Frame]:
    found = []
    for name, content in sorted(files.items()):
        start = 0
        for frame in find_frames(memoryview(content), 0) if name.startswith("wal-") else ():
            found.append(_Frame(frame, content[start : frame.end]))
            start = frame.end
    return found


def _proven_lsn(work: Workload, files: Files) -> int:
    manifests, _ = read_manifests(work.folder)
    return max(int(files.get("CLEAN", b"0")), *(manifest.durable_lsn for manifest in manifests))


# Mutations: each takes a file's bytes and gives others

Mutation = Callable[[bytes, list[_Frame], Random], bytes]


def _mutate(files: Files, frames: list[_Frame], random: Random) -> Files:
    """The files with one to three mutations; never as they were."""
    names = [name for name, content in files.items() if name.startswith("wal-") and content]
    while True:
        mutated = dict(files)
        for _ in range(random.choice([1, 1, 1, 2, 3])):
            name = random.choice(names)
            mutated[name] = random.choice(MUTATIONS)(mutated[name], frames, random)
        if mutated != files:
            return mutated


def _range(content: bytes, random: Random) -> tuple[int, int]:
    start = random.randint(0, len(content))
    return start, min(len(content), start + random.choice([1, 8, 40, 512, 4096]))


def _flip(content: bytes, _: list[_Frame], random: Random) -> bytes:
    changed = bytearray(content)
    for _number in range(random.choice([1, 1, 2, 8])):
        if changed:
            changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _flip_header(content: bytes, frames: list[_Frame], random: Random) -> bytes:
    changed = bytearray(content)
    at = content.find(random.choice(frames).content)
    if at >= 0:
        changed[at + random.randrange(40)] ^= 1 << random.randrange(8)
    return bytes(changed)


def _zero(content: bytes, _: list[_Frame], random: Random) -> bytes:
    start, end = _range(content, random)
    return content[:start] + bytes(end - start) + content[end:]


def _zero_end(content: bytes, _: list[_Frame], random: Random) -> bytes:
    start = random.randint(0, len(content))
    return content[:start] + bytes(len(content) - start)


def _cut(content: bytes, _: list[_Frame], random: Random) -> bytes:
    return content[: random.randint(0, len(content))]


def _cut_out(content: bytes, _: list[_Frame], random: Random) -> bytes:
    start, end = _range(content, random)
    return content[:start] + content[end:]


def _repeat(content: bytes, _: list[_Frame], random: Random) -> bytes:
    start, end = _range(content, random)
    return content[:end] + content[start:end] + content[end:]


def _repeat_frame(content: bytes, frames: list[_Frame], random: Random) -> bytes:
    """A frame once more: behind another frame, or at the end."""
    repeated = random.choice(frames).content
    before = random.choice(frames).content
    at = content.find(before)
    end = len(content) if at < 0 else at + len(before)
    return content[:end] + repeated + content[end:]


def _drop_frame(content: bytes, frames: list[_Frame], random: Random) -> bytes:
    return content.replace(random.choice(frames).content, b"", 1)


def _swap_frames(content: bytes, frames: list[_Frame], random: Random) -> bytes:
    """Two frames, in each other's place."""
    first, second = random.choice(frames).content, random.choice(frames).content
    at, other = sorted((content.find(first), content.find(second)))
    if at < 0 or at == other:
        return content
    left, right = (first, second) if content.startswith(first, at) else (second, first)
    between = content[at + len(left) : other]
    return content[:at] + right + between + left + content[other + len(right) :]


MUTATIONS: list[Mutation] = [
    *(_flip, _flip_header, _zero, _zero_end, _cut, _cut_out),
    *(_repeat, _repeat_frame, _drop_frame, _swap_frames),
]
