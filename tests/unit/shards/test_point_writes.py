"""Writes that depend on what is stored: right when it is their turn, in parts, durable as plain ops, and repeatable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import orjson
import pytest

from shards import point_writes
from shards.batch import PointBatch, encode_batch, encode_keys, encode_versioned_keys, make_batch
from shards.collection import ShardCollection
from shards.committer import Committer, WaitingWrite
from shards.errors import BadVector, Corrupt, DimensionMismatch, Forbidden, InvalidRequest
from shards.filter_query import filter_query
from shards.nearest import Want
from shards.point_change import ChangeKind, PointChange
from shards.point_ids import key_array, key_list
from shards.point_writes import PointWrite, WriteKind, WriteMode, check_write, decode_point_write
from tests.running_committer import committing
from tests.shard_oracle import NAMED, SMALL, batch_of, named_batch_of, new_collection, reopened, upsert_op

EVEN = filter_query(b'{"must":{"key":"even","match":{"value":true}}}')
OP_ID = bytes(range(16))


def points(keys: range | list[int], version: int = 0) -> PointBatch:
    batch = batch_of(list(keys), version)
    payloads = [orjson.dumps({"n": key, "even": key % 2 == 0, "v": version}) for key in keys]
    return make_batch(batch.keys, batch.vectors, payloads)


def stored(collection: ShardCollection) -> dict[int, dict[str, object]]:
    records = collection.retrieve(key_array(range(1_000)), Want(payloads=True, vectors=True))
    return {
        key: orjson.loads(records.batch.payload(row) or b"{}") for row, key in enumerate(key_list(records.batch.keys))
    }


def written(folder: Path, *writes: PointWrite, first: int = 40) -> tuple[ShardCollection, list[int]]:
    """A collection of points 0 to `first` after the writes, each submitted before the one before it is done."""
    collection = new_collection(folder, SMALL)

    async def scene() -> list[int]:
        async with committing(collection, ThreadPoolExecutor(1)) as committer:
            await committer.submit(upsert_op(points(range(first))), 1)
            waiting = [submit(committer, write) for write in writes]
            return [await each for each in waiting]

    lsns = asyncio.run(scene())
    return collection, lsns


def submit(committer: Committer, write: PointWrite, op_id: bytes = bytes(16)) -> asyncio.Future[int]:
    encoded = write.encode()
    decoded = decode_point_write(encoded)
    check_write(decoded, committer.collection.spec.layout)
    return committer.submit(WaitingWrite(decoded, op_id, encoded), 1)


def set_payload(**payload: object) -> PointChange:
    return PointChange(kind=ChangeKind.SET, payload=payload)


def test_all_matching_points_are_deleted_or_changed(tmp_path: Path) -> None:
    collection, _ = written(
        tmp_path / "c",
        PointWrite(WriteKind.CHANGE, filter=EVEN, change=set_payload(tag="x", even=None)),
        PointWrite(WriteKind.DELETE, filter=filter_query(b'{"must":{"key":"tag","match":{"value":"x"}}}')),
        PointWrite(WriteKind.CHANGE, change=set_payload(seen=True), body=encode_keys(key_array([1, 2, 3, 999]))),
    )
    found = stored(collection)
    assert sorted(found) == list(range(1, 40, 2))
    assert found[3] == {"n": 3, "even": False, "v": 0, "seen": True}
    assert found[5] == {"n": 5, "even": False, "v": 0}
    assert stored(reopened(tmp_path / "c", SMALL)) == found


def test_a_filter_sees_every_earlier_write_and_no_later_one(tmp_path: Path) -> None:
    collection = new_collection(tmp_path / "c", SMALL)

    async def scene() -> None:
        async with committing(collection, ThreadPoolExecutor(1)) as committer:
            for version in range(10):
                committer.submit(upsert_op(points(range(20), version)), 1)
                earlier = filter_query(b'{"must":{"key":"v","match":{"value":%d}}}' % version)
                change = set_payload(**{f"saw_{version}": True})
                await submit(committer, PointWrite(WriteKind.CHANGE, filter=earlier, change=change))

    asyncio.run(scene())
    assert set(map(orjson.dumps, stored(collection).values())) == {
        orjson.dumps({"n": n, "even": n % 2 == 0, "v": 9, "saw_9": True}) for n in range(20)
    }


def test_a_large_write_goes_in_parts_and_repeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(point_writes, "CHANGED_POINTS_MAX", 7)
    collection = new_collection(tmp_path / "c", SMALL)
    write = PointWrite(WriteKind.CHANGE, filter=EVEN, change=set_payload(tag="x"))

    async def scene() -> tuple[int, int]:
        async with committing(collection, ThreadPoolExecutor(1)) as committer:
            await committer.submit(upsert_op(points(range(40))), 1)
            first = await submit(committer, write, OP_ID)
            await committer.submit(upsert_op(points([2])), 1)
            return first, await submit(committer, write, OP_ID)

    first, again = asyncio.run(scene())
    assert (first, again) == (4, 4), "one upsert, three parts; the repetition is known"
    assert "tag" not in stored(collection)[2]
    assert sum("tag" in payload for payload in stored(collection).values()) == 19
    assert reopened(tmp_path / "c", SMALL).history.lsn_of(OP_ID) == 4


@pytest.mark.parametrize(
    ("mode", "query", "expected"),
    [
        (WriteMode.INSERT_ONLY, None, {41}),
        (WriteMode.UPDATE_ONLY, None, {38, 39}),
        (WriteMode.UPSERT, EVEN, {38, 41}),
        (WriteMode.UPDATE_ONLY, EVEN, {38}),
        (WriteMode.INSERT_ONLY, EVEN, {41}),
    ],
)
def test_upserts_on_a_condition(tmp_path: Path, mode: WriteMode, query: object, expected: set[int]) -> None:
    body = encode_batch(points([38, 39, 41], version=1))
    collection, (lsn,) = written(tmp_path / "c", PointWrite(WriteKind.UPSERT, mode, query, body=body))
    assert {key for key, payload in stored(collection).items() if payload["v"] == 1} == expected
    assert lsn == 2


def test_nothing_to_write_is_no_error(tmp_path: Path) -> None:
    nobody = filter_query(b'{"must":{"key":"x","match":{"value":1}}}')
    collection, lsns = written(
        tmp_path / "c",
        PointWrite(WriteKind.DELETE, filter=nobody),
        PointWrite(WriteKind.CHANGE, change=set_payload(n=1), body=encode_keys(key_array([999]))),
        PointWrite(WriteKind.CHANGE, change=set_payload(n=1), body=encode_keys(key_array([1]))),
    )
    assert lsns == [1, 1, 1]
    assert collection.wal.last_lsn == 1


def test_vectors_are_replaced_and_dropped_one_by_one(tmp_path: Path) -> None:
    collection = new_collection(tmp_path / "c", SMALL, NAMED)
    before = named_batch_of([1, 2, 4])
    image = NAMED.layout.columns[1]
    rows = np.full((3, NAMED.layout.dim), np.nan, np.float32)
    image.of(rows)[:] = 7
    given = make_batch(key_array([4, 1, 99]), rows, [b"", b"", b""])

    async def scene() -> None:
        async with committing(collection, ThreadPoolExecutor(1)) as committer:
            await committer.submit(upsert_op(before), 1)
            await submit(committer, PointWrite(WriteKind.VECTORS, body=encode_batch(given)))
            dropped = PointChange(kind=ChangeKind.DROP_VECTORS, numbers=(0, 2))
            await submit(committer, PointWrite(WriteKind.CHANGE, change=dropped, body=encode_keys(key_array([1]))))

    asyncio.run(scene())
    records = collection.retrieve(key_array([1, 2, 4, 99]), Want(True, True)).batch
    after = {key: records.vectors[row] for row, key in enumerate(key_list(records.keys))}
    assert sorted(after) == [1, 2, 4]
    np.testing.assert_array_equal(after[2], before.vectors[1])
    expected = before.vectors[2].copy()
    image.of(expected)[:] = 7
    np.testing.assert_array_equal(after[4], expected)
    np.testing.assert_array_equal(image.of(after[1]), np.full(image.size, 7, np.float32))
    assert np.isnan(after[1]).sum() == NAMED.layout.dim - image.size
    assert records.payload(0) == before.payload(0)


@pytest.mark.parametrize(
    ("write", "error"),
    [
        (PointWrite(WriteKind.UPSERT, body=encode_batch(batch_of([1], dim=3))), DimensionMismatch),
        (PointWrite(WriteKind.VECTORS, body=encode_batch(batch_of([1], dim=3))), DimensionMismatch),
        (
            PointWrite(
                WriteKind.CHANGE,
                change=PointChange(kind=ChangeKind.DROP_VECTORS, numbers=(1,)),
                body=encode_keys(key_array([1])),
            ),
            InvalidRequest,
        ),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, write: PointWrite, error: type[Exception]) -> None:
    collection = new_collection(tmp_path / "c", SMALL)
    with pytest.raises(error):
        check_write(decode_point_write(write.encode()), collection.spec.layout)
    infinite = batch_of([1])
    infinite.vectors[0, 0] = np.inf
    with pytest.raises(BadVector):
        check_write(PointWrite(WriteKind.UPSERT, body=encode_batch(infinite)), collection.spec.layout)


def _cut(content: bytes) -> bytes:
    return content[:-1]


@pytest.mark.parametrize(
    "damage",
    [
        _cut,
        lambda content: b"\x09" + content[1:],
        lambda content: content[:3],
        lambda content: content[:1] + b"\x07" + content[2:],
    ],
)
def test_damaged_bytes_are_corrupt(damage: Callable[[bytes], bytes]) -> None:
    encoded = PointWrite(WriteKind.DELETE, filter=EVEN).encode()
    with pytest.raises(Corrupt):
        decode_point_write(damage(encoded))


@pytest.mark.parametrize(
    "write",
    [
        PointWrite(WriteKind.DELETE),
        PointWrite(WriteKind.CHANGE, filter=EVEN),
        PointWrite(WriteKind.UPSERT, filter=EVEN),
        PointWrite(WriteKind.DELETE, filter=EVEN, change=PointChange(kind=ChangeKind.CLEAR)),
    ],
)
def test_a_write_about_nothing_is_corrupt(write: PointWrite) -> None:
    with pytest.raises(Corrupt):
        decode_point_write(write.encode())


def test_a_withdrawal_spares_points_that_were_written_since(tmp_path: Path) -> None:
    collection = new_collection(tmp_path / "c", SMALL)

    async def scene() -> None:
        async with committing(collection, ThreadPoolExecutor(1)) as committer:
            await committer.submit(upsert_op(points(range(4))), 1)
            seen = collection.retrieve(key_array([0, 1, 2, 9]), Want())
            withdrawal = encode_versioned_keys(seen.batch.keys, seen.versions)
            written_since = committer.submit(upsert_op(points([1])), 1)
            withdrawn = submit(committer, PointWrite(WriteKind.WITHDRAW, body=withdrawal), b"w" * 16)
            await asyncio.gather(written_since, withdrawn)
            await submit(committer, PointWrite(WriteKind.WITHDRAW, body=withdrawal), b"x" * 16)

    asyncio.run(scene())
    assert sorted(stored(collection)) == [1, 3]
    collection.wal.close()
    assert sorted(stored(reopened(tmp_path / "c", SMALL))) == [1, 3]


@pytest.mark.parametrize(
    ("write", "changed"),
    [
        (PointWrite(WriteKind.DELETE, body=encode_keys(key_array([1, 2, 4, 99])), guard=EVEN), {2, 4}),
        (PointWrite(WriteKind.DELETE, filter=filter_query(b"{}"), guard=EVEN), {0, 2, 4, 6, 8}),
        (PointWrite(WriteKind.CHANGE, change=set_payload(n=7), body=encode_keys(key_array([1, 2])), guard=EVEN), {2}),
        (
            PointWrite(
                WriteKind.CHANGE, change=PointChange(kind=ChangeKind.CLEAR), filter=filter_query(b"{}"), guard=EVEN
            ),
            {0, 2, 4, 6, 8},
        ),
        (PointWrite(WriteKind.VECTORS, body=encode_batch(batch_of([1, 2, 99], version=5)), guard=EVEN), {2}),
        (PointWrite(WriteKind.UPSERT, body=encode_batch(points([2, 99], 3)), guard=EVEN), {2, 99}),
        (
            PointWrite(WriteKind.UPSERT, WriteMode.INSERT_ONLY, body=encode_batch(points([2, 99], 3)), guard=EVEN),
            {99},
        ),
        (
            PointWrite(WriteKind.UPSERT, WriteMode.UPDATE_ONLY, body=encode_batch(points([2, 3, 99], 3)), guard=EVEN),
            {2},
        ),
        (
            PointWrite(
                WriteKind.UPSERT,
                filter=filter_query(b'{"must":{"key":"n","range":{"gt":2}}}'),
                body=encode_batch(points([2, 4], 3)),
                guard=EVEN,
            ),
            {4},
        ),
    ],
)
def test_a_guarded_write_touches_the_points_that_match_alone(
    tmp_path: Path, write: PointWrite, changed: set[int]
) -> None:
    before = contents(written(tmp_path / "before", first=10)[0])
    after = contents(written(tmp_path / "after", write, first=10)[0])
    assert {key for key in before | after if before.get(key) != after.get(key)} == changed


@pytest.mark.parametrize("mode", [WriteMode.UPSERT, WriteMode.INSERT_ONLY])
def test_an_upsert_over_a_point_that_its_guard_does_not_allow_is_refused_whole(
    tmp_path: Path, mode: WriteMode
) -> None:
    """Decided when it is the write's turn: what was written before it counts, though it was not when it was sent."""
    write = PointWrite(WriteKind.UPSERT, mode, body=encode_batch(points([2, 50, 51], 3)), guard=EVEN)
    collection = new_collection(tmp_path / "c", SMALL)

    async def scene() -> None:
        async with committing(collection, ThreadPoolExecutor(1)) as committer:
            earlier, refused = committer.submit(upsert_op(points([51])), 1), submit(committer, write)
            await earlier
            with pytest.raises(Forbidden, match="the id 51 is taken"):
                await refused

    asyncio.run(scene())
    assert stored(collection) == {51: {"n": 51, "even": False, "v": 0}}


def test_a_change_that_would_alter_what_it_keeps_is_refused_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(point_writes, "CHANGED_POINTS_MAX", 1)
    collection = new_collection(tmp_path / "c", SMALL)
    batch = batch_of([1, 2, 3])
    owned = make_batch(batch.keys, batch.vectors, [b'{"org":"a"}', b'{"org":["a"],"n":1}', b'{"org":"b"}'])
    whole = PointChange(kind=ChangeKind.OVERWRITE, payload={"org": "a", "new": 1}, keeps="org")

    async def scene() -> None:
        async with committing(collection, ThreadPoolExecutor(1)) as committer:
            await committer.submit(upsert_op(owned), 1)
            with pytest.raises(InvalidRequest, match="`org` of point 3 is another, and `overwrite` must leave it"):
                await submit(committer, PointWrite(WriteKind.CHANGE, filter=filter_query(b"{}"), change=whole))
            assert "new" not in stored(collection)[1]
            await submit(
                committer, PointWrite(WriteKind.CHANGE, body=encode_keys(key_array([1, 2, 9])), change=whole)
            )
            assert stored(collection) == {1: {"org": "a", "new": 1}, 2: {"org": "a", "new": 1}, 3: {"org": "b"}}

    asyncio.run(scene())


def contents(collection: ShardCollection) -> dict[int, tuple[bytes, bytes]]:
    """Vector and payload of each point."""
    batch = collection.retrieve(key_array(range(1_000)), Want(True, True)).batch
    return {key: (batch.vectors[row].tobytes(), batch.payload(row)) for row, key in enumerate(key_list(batch.keys))}
