"""A collection with a past, beside what should be in it; and ways to its files, to damage them."""

from __future__ import annotations

from pathlib import Path

from shards import sealing
from shards.bulk import BulkSession
from shards.collection import ShardCollection
from shards.point_ids import UUID_BASE
from shards.recovery import open_collection
from shards.settings import ShardSettings
from tests.shard_oracle import (
    UID,
    Oracle,
    batch_of,
    check_same,
    delete_op,
    new_collection,
    upsert_op,
    vectors_of,
)

QUERIES = vectors_of([1, 2, 3])


class Story:
    """A collection, and what should be in it."""

    def __init__(self, folder: Path) -> None:
        self.collection: ShardCollection = new_collection(folder)
        self.oracle = Oracle()

    @property
    def folder(self) -> Path:
        return self.collection.folder

    def write(self, keys: list[int], version: int = 0) -> None:
        batch = batch_of(keys, version)
        self.oracle.upsert(batch, self.collection.commit([upsert_op(batch)], 1))

    def delete(self, keys: list[int]) -> None:
        self.collection.commit([delete_op(keys)], 1)
        self.oracle.delete(keys)

    def load(self, keys: list[int], version: int = 0) -> None:
        session = BulkSession(self.collection, bytes([len(self.collection.sealed)]) * 16, len(keys))
        session.add(batch_of(keys, version))
        session.prepare()
        op = session.attach_op()
        assert op is not None
        self.oracle.upsert(batch_of(keys, version), self.collection.commit([op], 1))

    def freeze(self) -> None:
        self.collection.freeze(self.collection.wal.last_lsn)

    def seal(self) -> None:
        sealing.seal_all(self.collection)

    def seal_frozen(self) -> None:
        """Seal the oldest frozen segment, and nothing behind it."""
        sealing.install(self.collection, sealing.build(self.collection, self.collection.frozen[0]))
        sealing.record(self.collection, sealing.plan_manifest(self.collection))

    def reopen(self) -> tuple[str, ...]:
        """Open it again, compare it; returns what opening had to say."""
        opened = open_collection(self.folder, UID, ShardSettings())
        self.collection = opened.collection
        check_same(self.collection, self.oracle, QUERIES)
        return opened.notes


def log_only(story: Story) -> None:
    story.write([1, 2, UUID_BASE + 3])
    story.write([2], version=1)
    story.delete([1])


def sealed_and_tail(story: Story) -> None:
    """Two sealed segments with dead rows, some of them recorded; the log's tail overwrites and deletes in both."""
    story.write([1, 2, 3, 4, 5])
    story.seal()
    story.write([2, 6, 7, UUID_BASE + 1], version=1)
    story.delete([3])
    story.seal()
    story.write([4, 6, 8], version=2)
    story.delete([5, UUID_BASE + 1])


def sealed_without_tail(story: Story) -> None:
    """Nothing is left to seal, and the log's beginning is gone."""
    sealed_and_tail(story)
    story.seal()


def frozen_and_tail(story: Story) -> None:
    sealed_and_tail(story)
    story.freeze()
    story.write([1, 8], version=3)


def loads_between_writes(story: Story) -> None:
    """What was loaded replaced older rows, and was replaced by newer ones, before and behind the manifest's LSN."""
    story.write([1, 2, 3])
    story.load([2, 20, 21], version=1)
    story.write([3, 20], version=2)
    story.seal()
    story.load([1, 21, 22], version=3)
    story.delete([22])
    story.write([1], version=4)


def load_behind_the_manifest(story: Story) -> None:
    """The manifest names a load's segment, but the log position that it vouches for is older."""
    story.write([1, 2, 3])
    story.freeze()
    story.load([2, 20, 21], version=1)
    story.write([3, 20], version=2)
    story.seal_frozen()
    story.delete([21])


HISTORIES = [
    *(log_only, sealed_and_tail, sealed_without_tail, frozen_and_tail),
    *(loads_between_writes, load_behind_the_manifest),
]


def newest_manifest(story: Story) -> Path:
    return max(story.folder.glob("manifest-*.json"))


def newest_segment(story: Story) -> Path:
    return newest_segment_of(story.folder)


def newest_segment_of(folder: Path) -> Path:
    return max((folder / "segments").iterdir(), key=lambda path: path.name)


def flip_byte(path: Path, place: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0x20
    path.write_bytes(content)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
