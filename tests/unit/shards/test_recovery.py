"""Opening what a shutdown or a crash left: every point as it was, or an error that names the file; never an empty shard.

A crash is a collection that nobody closed: its folder is opened again as it lies there.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from shards import sealing
from shards.recovery import create_collection
from tests.shard_oracle import (
    SMALL,
    UID,
    WIDE_DIM,
    Oracle,
    batch_of,
    check_same,
    delete_op,
    new_collection,
    reopened,
    spec_of,
    upsert_op,
    vectors_of,
)
from tests.shard_story import (
    HISTORIES,
    Story,
    flip_byte,
    newest_manifest,
    newest_segment,
    sealed_and_tail,
)


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path / "c")


@pytest.mark.parametrize("close", [None, False, True], ids=["crash", "closed", "closed cleanly"])
@pytest.mark.parametrize("history", HISTORIES, ids=lambda history: history.__name__)
def test_every_point_is_there_again(story: Story, history: Callable[[Story], None], close: bool | None) -> None:
    history(story)
    last_lsn = story.collection.wal.last_lsn
    if close is not None:
        story.collection.wal.close(clean=close)
    assert story.reopen() == ()
    assert story.reopen() == (), "opening changes nothing"
    assert story.collection.wal.last_lsn == last_lsn
    story.seal()
    assert story.reopen() == ()
    story.write([1, 99], version=9)
    assert story.oracle.points[99].lsn == last_lsn + 1
    story.seal()
    story.delete([99])
    assert story.reopen() == ()


def test_an_empty_collection_opens_empty(story: Story) -> None:
    assert story.reopen() == ()
    story.write([1])
    assert story.reopen() == ()


def test_creating_again_changes_nothing(story: Story) -> None:
    story.write([1])
    create_collection(story.folder, UID, spec_of(dim=99))
    assert story.reopen() == ()
    assert story.collection.spec == spec_of()


def test_a_frame_that_is_sealed_in_part_is_replayed_in_part(tmp_path: Path) -> None:
    spec = spec_of(dim=WIDE_DIM)
    collection = new_collection(tmp_path / "c", SMALL, spec)
    batches = [batch_of(range(first, first + 40), dim=WIDE_DIM) for first in (0, 20, 40)]  # 64 rows are a segment
    collection.commit([upsert_op(batch) for batch in batches], 1)
    sealing.install(collection, sealing.build(collection, collection.frozen[0]))
    sealing.record(collection, sealing.plan_manifest(collection))
    oracle = Oracle()
    for lsn, batch in enumerate(batches, 1):
        oracle.upsert(batch, lsn)
    after = reopened(tmp_path / "c", SMALL)
    check_same(after, oracle, vectors_of([1, 2], WIDE_DIM))
    assert [segment.row_count for segment in after.segments()] == [40, 40, 20], "the sealed one has no row twice"


def test_operations_in_the_log_are_known_again(story: Story) -> None:
    story.write([1])
    story.seal()
    story.collection.commit([upsert_op(batch_of([2]), b"a" * 16), delete_op([2], b"b" * 16)], 1)
    history = reopened(story.folder).history
    assert [history.lsn_of(letter * 16) for letter in (b"a", b"b", b"c")] == [2, 3, None]


@pytest.mark.parametrize("steps", [1, 2, 3], ids=["built", "installed", "recorded"])
def test_a_crash_between_the_steps_of_a_seal_loses_nothing(story: Story, steps: int) -> None:
    sealed_and_tail(story)
    story.freeze()
    story.write([1, 50], version=7)
    built = sealing.build(story.collection, story.collection.frozen[0])
    story.delete([4])
    if steps > 1:
        sealing.install(story.collection, built)
        plan = sealing.plan_manifest(story.collection)
        story.write([8], version=8)
        if steps > 2:
            sealing.record(story.collection, plan)
    assert story.reopen() == ()
    story.seal()
    assert story.reopen() == ()


def test_a_log_cut_in_its_last_frame_gives_the_writes_before_it_and_says_so(story: Story) -> None:
    story.write([1])
    kept = Oracle(points=dict(story.oracle.points))
    story.write([2])
    path = next((story.folder / "wal").glob("wal-*.log"))
    os.truncate(path, path.stat().st_size - 3)
    story.oracle = kept
    notes = story.reopen()
    assert len(notes) == 1
    assert str(path) in notes[0]
    assert "(LSN 2) were cut, no write in them had been acknowledged" in notes[0]
    assert story.reopen() == (), "it was cut for good"
    story.write([3])
    assert story.reopen() == ()


def test_a_damaged_manifest_is_passed_over_for_the_older_one_and_the_log(story: Story) -> None:
    sealed_and_tail(story)
    path = newest_manifest(story)
    flip_byte(path, len(path.read_bytes()) // 2)
    notes = story.reopen()
    assert len(notes) == 1
    assert str(path) in notes[0]
    story.seal()
    assert [str(path) in note for note in story.reopen()] == [True]


@pytest.mark.parametrize("name", ["segment.json", "vectors.f32", "keys.bin", "payload.bin"])
def test_a_damaged_new_segment_is_passed_over_for_the_older_manifest_and_the_log(story: Story, name: str) -> None:
    sealed_and_tail(story)
    path = newest_segment(story) / name
    flip_byte(path, len(path.read_bytes()) // 2)
    notes = story.reopen()
    assert len(notes) == 1
    assert notes[0].startswith("manifest 3 was passed over")
    assert str(path) in notes[0]
    story.seal()  # built anew, under the same name or another
    assert story.reopen() == ()


def test_damage_after_damage_finds_a_manifest_that_is_whole(story: Story) -> None:
    """The manifest that was passed over is not one of the two that are kept."""
    sealed_and_tail(story)
    for version in range(3):
        flip_byte(newest_segment(story) / "vectors.f32")
        assert len(story.reopen()) >= 1
        story.write([70 + version], version)
        story.seal()
