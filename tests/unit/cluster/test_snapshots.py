"""Snapshots over several shards: what comes back, what fails and leaves everything as it was. Real shards, no Ray."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvloop

from cluster import snapshots
from cluster.aliases import CreateAlias
from cluster.coordinator import Coordinator
from cluster.requests import ScrollRequest, Selection
from cluster.slots import slot_of_name
from cluster.snapshot_archive import END, ArchiveReader, encode_content, header, padding
from cluster.snapshot_model import SnapshotContent, SnapshotDescription, entries
from cluster.snapshot_recovery import Recovery
from shards.batch import make_batch
from shards.committer import Committer
from shards.distance import Distance
from shards.errors import (
    Conflict,
    DamagedSnapshot,
    Forbidden,
    InvalidRequest,
    NotFound,
    ShardUnavailable,
    Unavailable,
)
from shards.field_schema import FieldSchema
from shards.filters.indexes import FieldKind
from shards.point_ids import key_array
from shards.schema import CollectionSpec, VectorSpec
from shards.snapshot_requests import SnapshotRequests
from shards.wire import Kind
from tests.local_cluster import LocalCluster
from tests.shard_story import flip_byte

DIM, COUNT, WAIT_S = 4, 120, 30.0
SPEC = CollectionSpec(vectors={"": VectorSpec(size=DIM, distance=Distance.EUCLID)})
VECTORS = np.random.default_rng(7).random((COUNT, DIM), np.float32)
OF_ORG_1 = b'{"must":[{"key":"org","match":{"value":"org-1"}}]}'
Steps = Callable[[LocalCluster, Coordinator], Awaitable[Any]]


def run(folder: Path, steps: Steps, patience_s: float = 10.0) -> Any:
    """The steps on a cluster of three shards, with COUNT points in `things`, by tenants of the field `org`."""

    async def whole() -> Any:
        cluster = LocalCluster(folder, 3)
        coordinator = await cluster.connect(patience_s)
        try:
            await coordinator.create_collection("things", SPEC, 2, WAIT_S, {"metadata": {"made": "by hand"}})
            await coordinator.create_index(
                "things", "org", FieldSchema(kind=FieldKind.KEYWORD, is_tenant=True), WAIT_S
            )
            payloads = [b'{"org":"org-%d","n":%d}' % (number % 5, number) for number in range(COUNT)]
            await coordinator.upsert("things", make_batch(key_array(range(COUNT)), VECTORS, payloads), WAIT_S)
            return await asyncio.wait_for(steps(cluster, coordinator), 60)
        finally:
            await coordinator.close()
            await asyncio.to_thread(cluster.stop)

    return uvloop.run(whole())


async def everything(coordinator: Coordinator, name: str = "things") -> list[Any]:
    """All points, byte for byte, and what filters find of them."""
    request = ScrollRequest(1000, with_vectors=True)
    page = await coordinator.scroll(name, request, WAIT_S)
    points = [(one.key, one.version, one.payload, one.vector.tobytes()) for one in page.records]
    return [points, (await coordinator.count(name, WAIT_S, OF_ORG_1)).count]


async def overwrite(coordinator: Coordinator) -> None:
    await coordinator.delete("things", Selection(keys=list(range(50))), WAIT_S)
    more = make_batch(key_array([5, 1000]), VECTORS[:2], [b'{"org":"org-1"}', b'{"org":"org-2"}'])
    await coordinator.upsert("things", more, WAIT_S)


def of(collection: str, sha256: str | None = None) -> Recovery:
    return Recovery(collection, lambda _: None, sha256)


async def file_of(coordinator: Coordinator, snapshot: SnapshotDescription) -> bytes:
    return b"".join([piece async for piece in coordinator.snapshots.archive(snapshot.content, WAIT_S)])


async def chunks(data: bytes, step: int = 10_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), step):
        yield data[start : start + step]


def leftovers(folder: Path) -> list[Path]:
    """What no collection and no snapshot needs."""
    return [path for way in ("incoming", "restored") for path in files(folder, f"*/snapshots/{way}/*")]


def files(folder: Path, pattern: str) -> list[Path]:
    return list(folder.glob(pattern))


def test_a_snapshot_brings_back_what_was_there(tmp_path: Path) -> None:
    async def steps(cluster: LocalCluster, coordinator: Coordinator) -> None:
        before, old = await everything(coordinator), coordinator.collection("things")
        await coordinator.catalogue.change_aliases([CreateAlias("alias", "things")], WAIT_S)
        taken = await coordinator.snapshots.create("things", WAIT_S)
        await overwrite(coordinator)
        assert await everything(coordinator) != before
        await coordinator.snapshots.recover(of("things", taken.sha256), taken.content.name, WAIT_S)
        assert await everything(coordinator) == before
        assert await everything(coordinator, "alias") == before
        now = coordinator.collection("things")
        assert now.uid != old.uid
        assert now.model_copy(update={"uid": old.uid}) == old
        assert not files(tmp_path, f"*/{old.uid}"), "the old one's files are gone"
        await overwrite(coordinator)
        assert await coordinator.snapshots.list_of("things", WAIT_S) == [taken]
        assert leftovers(tmp_path) == []

    run(tmp_path, steps)


def test_a_collection_that_was_deleted_comes_back_also_after_restarts(tmp_path: Path) -> None:
    async def steps(cluster: LocalCluster, coordinator: Coordinator) -> None:
        before = await everything(coordinator)
        taken = await coordinator.snapshots.create("things", WAIT_S)
        await coordinator.delete_collection("things", WAIT_S)
        for shard_id in (0, 1):
            await asyncio.to_thread(cluster.stop_shard, shard_id)
            await asyncio.to_thread(cluster.start_shard, shard_id)
        assert await coordinator.snapshots.list_of("things", WAIT_S) == [taken]
        await coordinator.snapshots.recover(of("things"), taken.content.name, WAIT_S)
        await coordinator.snapshots.recover(of("copy"), taken.content.name, WAIT_S)
        for shard_id in (0, 1):
            await asyncio.to_thread(cluster.stop_shard, shard_id)
            await asyncio.to_thread(cluster.start_shard, shard_id)
        await coordinator.catalogue.refresh()
        assert await everything(coordinator) == before
        assert await everything(coordinator, "copy") == before

    run(tmp_path, steps)


def test_a_snapshot_travels_as_a_file(tmp_path: Path) -> None:
    async def take(cluster: LocalCluster, coordinator: Coordinator) -> tuple[bytes, Any]:
        taken = await coordinator.snapshots.create("things", WAIT_S)
        data = await file_of(coordinator, taken)
        assert (len(data), hashlib.sha256(data).hexdigest()) == (taken.byte_count, taken.sha256)
        assert await file_of(coordinator, taken) == data
        return data, await everything(coordinator)

    data, before = run(tmp_path / "one", take)

    async def recover(cluster: LocalCluster, coordinator: Coordinator) -> None:
        await overwrite(coordinator)
        mine = await everything(coordinator)
        with pytest.raises(DamagedSnapshot, match="SHA-256 is"):
            await coordinator.snapshots.recover_archive(of("things", "00"), chunks(data), WAIT_S)
        with pytest.raises(DamagedSnapshot, match="too early"):
            await coordinator.snapshots.recover_archive(of("things"), chunks(data[:-5000]), WAIT_S)
        damaged = bytearray(data)
        damaged[data.index(VECTORS[3].tobytes())] ^= 1
        with pytest.raises(DamagedSnapshot, match=r"restored: (wal|segments)/\S+ is damaged"):
            await coordinator.snapshots.recover_archive(of("things"), chunks(bytes(damaged)), WAIT_S)
        assert await everything(coordinator) == mine
        assert leftovers(tmp_path / "two") == []
        sum_of = hashlib.sha256(data).hexdigest().upper()
        await coordinator.snapshots.recover_archive(of("things", sum_of), chunks(data), WAIT_S)
        await coordinator.snapshots.recover_archive(of("other"), chunks(data, 777), WAIT_S)
        assert await everything(coordinator) == await everything(coordinator, "other") == before
        assert leftovers(tmp_path / "two") == []

    run(tmp_path / "two", recover)


def test_what_is_deleted_is_gone(tmp_path: Path) -> None:
    async def steps(cluster: LocalCluster, coordinator: Coordinator) -> None:
        taken = await coordinator.snapshots.create("things", WAIT_S)
        other = await coordinator.snapshots.create("things", WAIT_S)
        await coordinator.snapshots.delete("things", taken.content.name, WAIT_S)
        assert await coordinator.snapshots.list_all(WAIT_S) == [other]
        for missing in (
            coordinator.snapshots.delete("things", taken.content.name, WAIT_S),
            coordinator.snapshots.find("things", "none", WAIT_S),
            coordinator.snapshots.recover(of("things"), taken.content.name, WAIT_S),
            coordinator.snapshots.create("none", WAIT_S),
            coordinator.snapshots.list_of("none", WAIT_S),
        ):
            with pytest.raises(NotFound):
                await missing
        assert not files(tmp_path, f"*/snapshots/*/{taken.content.name}*")

    run(tmp_path, steps)


def test_who_may_not_see_the_source_recovers_nothing(tmp_path: Path) -> None:
    async def steps(cluster: LocalCluster, coordinator: Coordinator) -> None:
        taken = await coordinator.snapshots.create("things", WAIT_S)

        def refuse(name: str) -> None:
            raise Forbidden(name)

        data = await file_of(coordinator, taken)
        for trial in (
            coordinator.snapshots.recover(Recovery("mine", refuse), taken.content.name, WAIT_S),
            coordinator.snapshots.recover_archive(Recovery("mine", refuse), chunks(data), WAIT_S),
        ):
            with pytest.raises(Forbidden, match="things"):
                await trial
        assert "mine" not in coordinator.state.collections

    run(tmp_path, steps)


def test_a_name_that_is_an_alias_or_taken_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    async def steps(cluster: LocalCluster, coordinator: Coordinator) -> None:
        taken = await coordinator.snapshots.create("things", WAIT_S)
        await coordinator.catalogue.change_aliases([CreateAlias("alias", "things")], WAIT_S)
        with pytest.raises(InvalidRequest, match="alias of this name"):
            await coordinator.snapshots.recover(of("alias"), taken.content.name, WAIT_S)
        cluster.catalogue = cluster.catalogue.creating("busy", "f" * 32, SPEC, None)
        with pytest.raises(Conflict, match="being made or recovered"):
            await coordinator.snapshots.recover(of("busy"), taken.content.name, WAIT_S)
        assert leftovers(tmp_path) == []

    run(tmp_path, steps)


def test_damage_in_one_part_leaves_the_collection(tmp_path: Path) -> None:
    async def steps(cluster: LocalCluster, coordinator: Coordinator) -> None:
        before = await everything(coordinator)
        taken = await coordinator.snapshots.create("things", WAIT_S)
        (log,) = files(tmp_path, f"1/snapshots/*/{taken.content.name}/wal/*.log")
        flip_byte(log, 50)
        with pytest.raises(DamagedSnapshot, match=r"wal/\S+ is damaged"):
            await coordinator.snapshots.recover(of("things"), taken.content.name, WAIT_S)
        assert await everything(coordinator) == before
        assert leftovers(tmp_path) == []

    run(tmp_path, steps)


@pytest.mark.parametrize("step", ["restored", "switched"])
def test_a_shard_that_goes_amid_a_recovery_leaves_the_collection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    async def steps(cluster: LocalCluster, coordinator: Coordinator) -> None:
        before = await everything(coordinator)
        taken = await coordinator.snapshots.create("things", WAIT_S)
        real = cluster.recover_collection

        async def restart_first(item: Any) -> Any:
            """The shard that has restored its part starts anew before the catalogue asks for it."""
            await asyncio.to_thread(cluster.stop_shard, 1)
            if step == "restored":
                raise ShardUnavailable("shard 1 is down")
            await asyncio.to_thread(cluster.start_shard, 1)
            return await real(item)

        monkeypatch.setattr(cluster, "recover_collection", restart_first)
        with pytest.raises(ShardUnavailable if step == "restored" else NotFound):
            await coordinator.snapshots.recover(of("things"), taken.content.name, WAIT_S)
        if step == "restored":
            await asyncio.to_thread(cluster.start_shard, 1)
        await coordinator.catalogue.refresh()
        assert await everything(coordinator) == before
        assert leftovers(tmp_path) == []

    run(tmp_path, steps, patience_s=2.0)


def unpacked(data: bytes) -> tuple[SnapshotContent, dict[str, bytes]]:
    reader, found = ArchiveReader(), {}
    for piece in reader.feed(data):
        found[piece.entry.name] = found.get(piece.entry.name, b"") + piece.content
    assert reader.content is not None
    return reader.content, found


def packed(content: SnapshotContent, found: dict[str, bytes]) -> bytes:
    """A file of these entries, with the lengths that they have."""
    parts = []
    for part in content.parts:
        prefix = f"shard-{part.shard_id}/"
        own = {name.removeprefix(prefix): len(data) for name, data in found.items() if name.startswith(prefix)}
        parts.append(part.model_copy(update={"files": own}))
    content = content.model_copy(update={"parts": tuple(parts)})
    pieces = [encode_content(content)]
    for entry in entries(content):
        pieces += [header(entry.name, entry.byte_count), found[entry.name], padding(entry.byte_count)]
    return b"".join([*pieces, END])


def test_exchanged_parts_and_those_of_another_collection_are_refused(tmp_path: Path) -> None:
    async def steps(cluster: LocalCluster, coordinator: Coordinator) -> None:
        await coordinator.create_collection("other", SPEC, 2, WAIT_S, {})
        for start in (500, 520):  # as many writes as `things` has, each on both shards
            batch = make_batch(key_array(range(start, start + 20)), VECTORS[:20], [b"{}"] * 20)
            await coordinator.upsert("other", batch, WAIT_S)
        await coordinator.upsert("things", make_batch(key_array(range(20)), VECTORS[:20], [b"{}"] * 20), WAIT_S)
        content, mine = unpacked(await file_of(coordinator, await coordinator.snapshots.create("things", WAIT_S)))
        others = unpacked(await file_of(coordinator, await coordinator.snapshots.create("other", WAIT_S)))
        first, second = content.parts
        of_other = {**mine, **{name: data for name, data in others[1].items() if name.startswith("shard-1/")}}
        of_other = {name: data for name, data in of_other.items() if name in others[1] or name.startswith("shard-0/")}
        lsn_of_other = second.model_copy(update={"last_lsn": others[0].parts[1].last_lsn})
        exchanged = {f"shard-{1 - int(name[6])}{name[7:]}": data for name, data in mine.items()}
        lsns_exchanged = (
            first.model_copy(update={"last_lsn": second.last_lsn}),
            second.model_copy(update={"last_lsn": first.last_lsn}),
        )
        for parts, found, words in (
            ((first, lsn_of_other), of_other, "part of shard 1 .* another uid, name"),
            (lsns_exchanged, exchanged, "part of shard 0 .* another shard id$"),
        ):
            data = packed(content.model_copy(update={"parts": parts}), found)
            with pytest.raises(DamagedSnapshot, match=words):
                await coordinator.snapshots.recover_archive(of("copy"), chunks(data), WAIT_S)
        assert "copy" not in coordinator.state.collections
        assert leftovers(tmp_path) == []
        await coordinator.snapshots.recover_archive(of("copy"), chunks(packed(content, mine)), WAIT_S)
        assert await everything(coordinator, "copy") == await everything(coordinator)

    run(tmp_path, steps)


def test_a_part_that_can_t_be_taken_leaves_no_snapshot(tmp_path: Path) -> None:
    async def steps(cluster: LocalCluster, coordinator: Coordinator) -> None:
        await asyncio.to_thread(cluster.stop_shard, 1)
        with pytest.raises(ShardUnavailable):
            await coordinator.snapshots.create("things", WAIT_S)
        await asyncio.to_thread(cluster.start_shard, 1)
        await coordinator.catalogue.refresh()
        assert await coordinator.snapshots.list_all(WAIT_S) == []
        assert not files(tmp_path, "*/snapshots/*/*/snapshot.json")

    run(tmp_path, steps, patience_s=0.5)


@pytest.mark.parametrize("late", [0, 1])
def test_a_point_that_changes_its_tenant_meanwhile_is_in_the_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: int
) -> None:
    """It moves from shard 0 to shard 1 when one of them has taken its part; the other is held back until then."""
    is_taken, has_moved = threading.Event(), threading.Event()
    real = SnapshotRequests._take

    async def take(self: SnapshotRequests, committer: Any, part: Any) -> Any:
        shard_id = int(self._shelf.folder.parent.name)
        while shard_id == late and not has_moved.is_set():  # noqa: ASYNC110  # the test's thread is another
            await asyncio.sleep(0.001)
        answer = await real(self, committer, part)
        if shard_id == 1 - late:
            is_taken.set()
        return answer

    async def steps(cluster: LocalCluster, coordinator: Coordinator) -> None:
        owners = coordinator.collection("things").shard_map.owners
        shard_of = {number: int(owners[slot_of_name(f"org-{number}")]) for number in range(COUNT)}
        old = next(number for number in range(5) if shard_of[number] == 0)
        new = next(number for number in range(COUNT) if shard_of[number] == 1)
        monkeypatch.setattr(SnapshotRequests, "_take", take)
        taking = asyncio.ensure_future(coordinator.snapshots.create("things", WAIT_S))
        while not is_taken.is_set():  # noqa: ASYNC110  # the shard's thread sets it
            await asyncio.sleep(0.001)
        moved = make_batch(key_array([old]), VECTORS[:1], [b'{"org":"org-%d"}' % new])
        await coordinator.upsert("things", moved, WAIT_S)
        has_moved.set()
        taken = await taking
        await coordinator.snapshots.recover(of("copy"), taken.content.name, WAIT_S)
        page = await coordinator.scroll("copy", ScrollRequest(1000), WAIT_S)
        assert {one.key for one in page.records} == set(range(COUNT))
        assert await coordinator.snapshots.list_all(WAIT_S) == [taken]
        assert {path.name for path in files(tmp_path, "*/snapshots/*/snapshot-*")} == {taken.content.name}

    run(tmp_path, steps)


def test_points_that_move_all_the_time_are_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def steps(cluster: LocalCluster, coordinator: Coordinator) -> None:
        await coordinator.create_collection("plain", SPEC, 2, WAIT_S, {})
        monkeypatch.setattr(Committer, "withdrawal_mark", property(lambda self: uuid.uuid4().hex))
        with pytest.raises(Unavailable, match="changed their tenant") as refused:
            await coordinator.snapshots.create("things", WAIT_S)
        assert refused.value.retry_after_s
        assert not files(tmp_path, "*/snapshots/*/*/snapshot.json")
        assert (await coordinator.snapshots.create("plain", WAIT_S)).content.parts

    run(tmp_path, steps)


def test_shards_that_start_anew_meanwhile_take_their_parts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard counts its withdrawals in memory, so what it counted before says nothing."""

    async def steps(cluster: LocalCluster, coordinator: Coordinator) -> None:
        snapshots, kinds = coordinator.snapshots, []
        real = snapshots._shards.ask

        async def ask(request: Any, deadline_s: float) -> Any:
            answers = await real(request, deadline_s)
            kinds.append(request.kind)
            if request.kind is Kind.SNAPSHOT_MARK and kinds.count(Kind.SNAPSHOT_MARK) == 1:
                await asyncio.to_thread(cluster.stop_shard, 1)
                await asyncio.to_thread(cluster.start_shard, 1)
                await coordinator.catalogue.refresh()
            return answers

        monkeypatch.setattr(snapshots, "_shards", snapshots._shards._replace(ask=ask))
        await snapshots.create("things", WAIT_S)
        assert kinds.count(Kind.SNAPSHOT_TAKE) == 2

    run(tmp_path, steps)


def test_a_lead_that_goes_when_it_has_the_description_leaves_no_half_of_a_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "CLEAN_UP_S", 2.0)

    async def steps(cluster: LocalCluster, coordinator: Coordinator) -> None:
        before = await everything(coordinator)
        lead = coordinator.collection("things").shard_map.shard_ids[0]
        real = coordinator.snapshots._ask_same

        async def stop_lead(kind: Kind, shard_ids: Any, head: Any, deadline_s: float) -> Any:
            answer = await real(kind, shard_ids, head, deadline_s)
            if kind is Kind.SNAPSHOT_SEAL and lead in shard_ids:
                await asyncio.to_thread(cluster.stop_shard, lead)
                raise ShardUnavailable("it went before its answer came")
            return answer

        with monkeypatch.context() as patched:
            patched.setattr(coordinator.snapshots, "_ask_same", stop_lead)
            with pytest.raises(ShardUnavailable):
                await coordinator.snapshots.create("things", WAIT_S)
        await asyncio.to_thread(cluster.start_shard, lead)
        await coordinator.catalogue.refresh()
        (kept,) = await coordinator.snapshots.list_all(WAIT_S)
        await coordinator.snapshots.recover(of("copy"), kept.content.name, WAIT_S)
        assert await everything(coordinator, "copy") == before

    run(tmp_path, steps, patience_s=2.0)
