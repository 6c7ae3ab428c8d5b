"""What a write moves in a collection whose slots are counted by a payload field: exactly its tenants, old and new."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from shards.batch import make_batch
from shards.collection import ShardCollection
from shards.errors import Corrupt
from shards.field_schema import FieldSchema
from shards.filters.indexes import FieldKind
from shards.generations import Stamp
from shards.log_frame import LogOp, OpKind
from shards.point_ids import key_array
from shards.sealing import seal_all
from shards.slots import slot_of_name
from shards.touched_slots import POINTS_MAX
from tests.shard_oracle import delete_op, new_collection, reopened, upsert_op, vectors_of

NAMES = ("anna", "ben", "cleo")


def of(key: int, name: str) -> tuple[int, bytes]:
    return key, b'{"who":{"is":"%s"}}' % name.encode()


def put(*points: tuple[int, bytes]) -> LogOp:
    keys = [key for key, _ in points]
    return upsert_op(make_batch(key_array(keys), vectors_of(keys), [payload for _, payload in points]))


@pytest.fixture
def collection(tmp_path: Path) -> ShardCollection:
    made = new_collection(tmp_path / "c")
    made.commit([put(of(1, "anna"), of(2, "ben"), (3, b"{}"), (4, b""))], 1)
    return made


def stamps(collection: ShardCollection) -> dict[str, Stamp]:
    generations = collection.generations
    return {name: generations.stamp_of("who.is", [slot_of_name(name)]) for name in NAMES}


def moved_by(collection: ShardCollection, op: LogOp) -> set[str]:
    before = stamps(collection)
    now = collection.generations.stamp
    collection.commit([op], 1)
    assert not now.covers(collection.generations.stamp), "the whole moves with every write"
    after = stamps(collection)
    return {name for name in NAMES if not before[name].covers(after[name])}


def test_a_new_point_moves_its_tenant(collection: ShardCollection) -> None:
    assert moved_by(collection, put(of(9, "cleo"), (8, b"{}"))) == {"cleo"}


def test_a_point_that_changes_its_tenant_moves_both(collection: ShardCollection) -> None:
    assert moved_by(collection, put(of(1, "ben"))) == {"anna", "ben"}
    assert moved_by(collection, put((1, b""))) == {"ben"}


def test_a_delete_moves_the_tenants_of_what_was_there(collection: ShardCollection) -> None:
    seal_all(collection)
    assert moved_by(collection, delete_op([2, 3, 77])) == {"ben"}
    assert moved_by(collection, delete_op([2])) == set()


def test_two_texts_in_a_field_move_both(collection: ShardCollection) -> None:
    assert moved_by(collection, put((1, b'{"who":{"is":["ben","cleo"]}}'))) == {"anna", "ben", "cleo"}


def test_what_can_not_be_told_moves_all(collection: ShardCollection) -> None:
    many = [of(key, "anna") for key in range(100, 101 + POINTS_MAX)]
    assert moved_by(collection, put(*many)) == set(NAMES)
    assert moved_by(collection, put((5, b"{broken"))) == set(NAMES)
    before = stamps(collection)
    with pytest.raises(Corrupt):  # it moves whatever becomes of the op
        collection.apply(LogOp(OpKind.ATTACH, uuid.uuid4().bytes, b"bulk-00"), 99)
    assert not any(before[name].covers(stamp) for name, stamp in stamps(collection).items())


def test_a_declaration_moves_all_and_a_seal_nothing_but_the_layout(collection: ShardCollection) -> None:
    before, whole = stamps(collection), collection.generations.stamp
    seal_all(collection)
    now = collection.generations.stamp
    assert whole.covers(now)
    assert now.layout == whole.layout + 1
    collection.fields = {"who.is": FieldSchema(kind=FieldKind.KEYWORD)}
    assert not whole.covers(collection.generations.stamp)
    assert not any(before[name].covers(stamp) for name, stamp in stamps(collection).items())


def test_a_collection_that_is_opened_again_lives_anew(collection: ShardCollection) -> None:
    stamp = collection.generations.stamp
    collection.wal.close()
    again = reopened(collection.folder)
    assert not stamp.covers(again.generations.stamp)
    assert not again.generations.stamp.covers(stamp)
