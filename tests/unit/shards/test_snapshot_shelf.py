"""A shard's snapshots by its data plane's messages: taken, listed, read, received, restored; paths that lead elsewhere."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from shards import messages, snapshot_restore, snapshot_shelf
from shards.committer import Committer
from shards.errors import Conflict, Corrupt, DamagedSnapshot, InvalidRequest, NotFound
from shards.recovery import open_collection
from shards.settings import ShardSettings
from shards.snapshot_requests import Answer, SnapshotRequests
from shards.snapshot_shelf import DESCRIPTION_FILE, PartName, SnapshotShelf
from shards.upkeep import Builders
from shards.wire import Kind
from tests.shard_oracle import UID, check_same, vectors_of
from tests.shard_story import Story, flip_byte, sealed_and_tail

NEW_UID = "fedcba9876543210" * 2
PART = PartName(UID, "one")
HEAD = PART._asdict()
SHARD_ID = 7


class Shard:
    """A shelf with one collection beside it."""

    def __init__(self, folder: Path, threads: ThreadPoolExecutor) -> None:
        self.story = Story(folder / UID)
        sealed_and_tail(self.story)
        self.shelf = SnapshotShelf(folder)
        self.requests = SnapshotRequests(self.shelf, threads, SHARD_ID)
        self.threads = threads
        self.committer: Committer | None = None

    async def ask(self, kind: Kind, head: Any, piece: bytes | None = None) -> bytes:
        parts = messages.encode_json(head) if piece is None else messages.encode_piece(head, piece)
        return await told(self.requests.answer(kind, memoryview(b"".join(parts))))

    async def take(self) -> dict[str, Any]:
        if self.committer is None:  # it wants the loop that runs
            self.committer = Committer(self.story.collection, Builders(self.threads, self.threads))
        taken = await told(self.requests.take(self.committer, {"name": "one"}))
        return json.loads(taken)

    async def read(self, path: str, byte_count: int) -> bytes:
        return await self.ask(Kind.SNAPSHOT_READ, {**HEAD, "path": path, "offset": 0, "byte_count": byte_count})


async def told(answer: Answer) -> bytes:
    future, encode = answer
    return b"".join(bytes(part) for part in encode(await future)[1])


def run(folder: Path, steps: Callable[[Shard], Awaitable[None]]) -> None:
    with ThreadPoolExecutor(2) as threads:
        asyncio.run(asyncio.wait_for(_steps(folder, threads, steps), 60))


async def _steps(folder: Path, threads: ThreadPoolExecutor, steps: Callable[[Shard], Awaitable[None]]) -> None:
    await steps(Shard(folder, threads))


def check_restored(shard: Shard, folder: Path) -> None:
    shard.shelf.adopt(NEW_UID, folder / NEW_UID)
    shard.shelf.adopt(NEW_UID, folder / NEW_UID)
    opened = open_collection(folder / NEW_UID, NEW_UID, ShardSettings())
    check_same(opened.collection, shard.story.oracle, vectors_of([1, 2, 3]))


def test_a_part_counts_when_it_is_sealed_and_outlives_a_restart(tmp_path: Path) -> None:
    async def steps(shard: Shard) -> None:
        taken = await shard.take()
        assert taken == await shard.take(), "a repeated request finds it"
        assert taken["last_lsn"] == shard.story.collection.wal.last_lsn
        assert json.loads(await shard.ask(Kind.SNAPSHOT_LIST, {})) == {"descriptions": []}
        await shard.ask(Kind.SNAPSHOT_SEAL, {**HEAD, "description": {"any": 1}})
        shard.shelf.clean_up()
        assert json.loads(await shard.ask(Kind.SNAPSHOT_LIST, {})) == {"descriptions": [{"any": 1}]}
        assert await shard.ask(Kind.SNAPSHOT_DELETE, HEAD) == b"".join(messages.encode_written(1))
        assert await shard.ask(Kind.SNAPSHOT_DELETE, HEAD) == b"".join(messages.encode_written(0))
        assert shard.shelf.descriptions() == []

    run(tmp_path, steps)


def test_taking_one_twice_at_once_takes_it_once(tmp_path: Path) -> None:
    async def steps(shard: Shard) -> None:
        first, second = await asyncio.gather(shard.take(), shard.take())
        assert first == second

    run(tmp_path, steps)


def test_a_restart_removes_what_was_never_finished(tmp_path: Path) -> None:
    async def steps(shard: Shard) -> None:
        await shard.take()
        await shard.ask(Kind.SNAPSHOT_RECEIVE, {"uid": NEW_UID, "path": "ops-00000001.bin", "offset": 0}, b"x")
        await shard.ask(Kind.SNAPSHOT_RESTORE, {"uid": NEW_UID, "source": HEAD})
        shard.shelf.clean_up()
        assert [path for path in shard.shelf.folder.rglob("*") if path.is_file()] == []
        with pytest.raises(NotFound, match="recover it again"):
            shard.shelf.adopt(NEW_UID, tmp_path / NEW_UID)

    run(tmp_path, steps)


def test_a_part_is_restored_as_another_collection(tmp_path: Path) -> None:
    async def steps(shard: Shard) -> None:
        taken = await shard.take()
        for _ in range(2):
            restored = json.loads(await shard.ask(Kind.SNAPSHOT_RESTORE, {"uid": NEW_UID, "source": HEAD}))
            assert restored["last_lsn"] == taken["last_lsn"]
            assert (restored["name"], restored["uid"], restored["shard_id"]) == ("one", UID, SHARD_ID)
        check_restored(shard, tmp_path)

    run(tmp_path, steps)


def test_a_part_travels_in_pieces(tmp_path: Path) -> None:
    async def steps(shard: Shard) -> None:
        taken = await shard.take()
        for path, byte_count in taken["files"].items():
            content = await shard.read(path, byte_count)
            for offset in (*range(0, byte_count, 1000), byte_count // 1000 * 1000):  # the last one comes twice
                head = {"uid": NEW_UID, "path": path, "offset": offset}
                await shard.ask(Kind.SNAPSHOT_RECEIVE, head, content[offset : offset + 1000])
        await shard.ask(Kind.SNAPSHOT_RESTORE, {"uid": NEW_UID, "source": None})
        check_restored(shard, tmp_path)
        assert not (shard.shelf.folder / "incoming" / NEW_UID).exists()

    run(tmp_path, steps)


def test_pieces_come_in_order(tmp_path: Path) -> None:
    async def steps(shard: Shard) -> None:
        head = {"uid": NEW_UID, "path": "fields.json", "offset": 10}
        head["path"] = "ops-00000001.bin"
        with pytest.raises(NotFound, match="send all again"):
            await shard.ask(Kind.SNAPSHOT_RECEIVE, head, b"x")
        await shard.ask(Kind.SNAPSHOT_RECEIVE, {**head, "offset": 0}, b"12345")
        with pytest.raises(Conflict, match="5 bytes so far"):
            await shard.ask(Kind.SNAPSHOT_RECEIVE, head, b"x")

    run(tmp_path, steps)


def test_what_is_damaged_is_named_without_its_folder(tmp_path: Path) -> None:
    async def steps(shard: Shard) -> None:
        await shard.take()
        (vectors,) = [*shard.shelf.part_at(PART).glob("segments/*/vectors.f32")][:1]
        flip_byte(vectors, 100)
        with pytest.raises(DamagedSnapshot, match=r"restored: segments/[^ ]+/vectors.f32 is damaged") as caught:
            await shard.ask(Kind.SNAPSHOT_RESTORE, {"uid": NEW_UID, "source": HEAD})
        assert str(tmp_path) not in caught.value.message
        assert not (shard.shelf.folder / "restored" / NEW_UID).exists()

    run(tmp_path, steps)


@pytest.mark.parametrize("content", [b"[" * 200_000, b'{"content":[],"crc32c":0}', b"", b"{}"])
def test_json_that_is_no_snapshot_s_is_damaged(tmp_path: Path, content: bytes) -> None:
    async def steps(shard: Shard) -> None:
        head = {"uid": NEW_UID, "path": "snapshot.json", "offset": 0}
        await shard.ask(Kind.SNAPSHOT_RECEIVE, head, content)
        with pytest.raises(DamagedSnapshot, match=r"snapshot\.json is damaged") as caught:
            await shard.ask(Kind.SNAPSHOT_RESTORE, {"uid": NEW_UID, "source": None})
        assert str(tmp_path) not in caught.value.message

    run(tmp_path, steps)


def test_json_that_is_too_long_is_not_received(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_shelf, "SEALED_JSON_BYTES_MAX", 1000)
    shelf = SnapshotShelf(tmp_path)
    assert shelf.receive(NEW_UID, "snapshot.json", 0, bytes(600)) == 600
    for path, offset, byte_count in (("snapshot.json", 600, 401), ("fields.json", 0, 1001)):
        with pytest.raises(DamagedSnapshot, match=f"{path} is longer than .* SEALED_JSON_BYTES_MAX"):
            shelf.receive(NEW_UID, path, offset, bytes(byte_count))
    assert shelf.receive(NEW_UID, "snapshot.json", 600, bytes(400)) == 1000
    assert shelf.receive(NEW_UID, "ops-00000001.bin", 0, bytes(1001)) == 1001


def test_a_part_without_its_snapshot_json_is_damaged(tmp_path: Path) -> None:
    async def steps(shard: Shard) -> None:
        await shard.take()
        await shard.ask(Kind.SNAPSHOT_RECEIVE, {"uid": NEW_UID, "path": "ops-00000001.bin", "offset": 0}, b"x")
        (shard.shelf.part_at(PART) / "snapshot.json").unlink()
        for source in (None, HEAD):
            with pytest.raises(DamagedSnapshot, match=r"snapshot\.json is missing") as caught:
                await shard.ask(Kind.SNAPSHOT_RESTORE, {"uid": NEW_UID, "source": source})
            assert str(tmp_path) not in caught.value.message

    run(tmp_path, steps)


@pytest.mark.parametrize("step", ["check_snapshot", "read_snapshot", "_build"])
def test_a_part_that_is_deleted_while_it_is_restored_is_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    async def steps(shard: Shard) -> None:
        await shard.take()
        real = getattr(snapshot_restore, step)

        def after_deletion(*arguments: Any) -> Any:
            shard.shelf.delete(PART)
            return real(*arguments)

        monkeypatch.setattr(snapshot_restore, step, after_deletion)
        with pytest.raises(NotFound, match="no part of the snapshot one") as caught:
            await shard.ask(Kind.SNAPSHOT_RESTORE, {"uid": NEW_UID, "source": HEAD})
        assert str(tmp_path) not in caught.value.message
        assert list((shard.shelf.folder / "restored").iterdir()) == []

    run(tmp_path, steps)


BAD_PATHS = [
    *("../../shard.json", "/etc/passwd", "segments/../../x", "segments/a/../vectors.f32", "wal/../snapshot.json", ""),
    *("snapshot.json/..", "segments//vectors.f32", ".", "segments", "snapshot.json\0", DESCRIPTION_FILE),
]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_no_path_leaves_a_part(tmp_path: Path, path: str) -> None:
    async def steps(shard: Shard) -> None:
        await shard.take()
        with pytest.raises(InvalidRequest):
            await shard.read(path, 1)
        with pytest.raises(InvalidRequest):
            await shard.ask(Kind.SNAPSHOT_RECEIVE, {"uid": NEW_UID, "path": path, "offset": 0}, b"x")

    run(tmp_path, steps)


@pytest.mark.parametrize("uid", ["..", "", "/", "a" * 31, "A" * 32, f"../{UID}", "incoming"])
@pytest.mark.parametrize("name", ["..", "", "a/b", ".hidden", "x" * 200, "one"])
def test_no_name_leaves_the_shelf(tmp_path: Path, uid: str, name: str) -> None:
    shelf = SnapshotShelf(tmp_path)
    for step in (lambda: shelf.part_at(PartName(uid, name)), lambda: shelf.delete(PartName(uid, name))):
        with pytest.raises(InvalidRequest):
            step()
    for step in (lambda: shelf.discard(uid), lambda: shelf.receive(uid, "snapshot.json", 0, b"x")):
        with pytest.raises(InvalidRequest):
            step()


def test_no_link_is_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")

    async def steps(shard: Shard) -> None:
        await shard.take()
        part = shard.shelf.part_at(PART)
        (part / "snapshot.json").rename(part / "kept")
        (part / "snapshot.json").symlink_to(secret)
        with pytest.raises(Corrupt, match="is a link"):
            await shard.read("snapshot.json", 6)
        with pytest.raises(DamagedSnapshot, match="is a link"):
            await shard.ask(Kind.SNAPSHOT_RESTORE, {"uid": NEW_UID, "source": HEAD})
        os.symlink(part, part.with_name("two"))
        (shard.shelf.folder / NEW_UID).symlink_to(part.parent)
        for linked in (PartName(UID, "two"), PartName(NEW_UID, "one")):
            with pytest.raises(NotFound):
                shard.shelf.part_at(linked)
            assert shard.shelf.delete(linked) is False
        (part / DESCRIPTION_FILE).symlink_to(secret)
        assert shard.shelf.descriptions() == []
        shard.shelf.clean_up()
        assert secret.read_bytes() == b"secret"

    run(tmp_path, steps)


@pytest.mark.parametrize("at", ["before", "amid"])
def test_of_discarding_and_adopting_one_gets_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    """Removing goes on inside a folder that is renamed meanwhile: what is served would be emptied."""
    shelf, target = SnapshotShelf(tmp_path), tmp_path / NEW_UID
    names = {f"segments/{number}" for number in range(20)}
    for name in names:
        shelf_file = shelf.folder / "restored" / NEW_UID / name
        shelf_file.parent.mkdir(parents=True, exist_ok=True)
        shelf_file.write_bytes(b"x")
    outcomes: list[bool] = []
    step = "rename" if at == "before" else "unlink"
    real = getattr(os, step)

    def adopting(*arguments: Any, **options: Any) -> None:
        monkeypatch.setattr(os, step, real)
        if at == "amid":
            real(*arguments, **options)
        try:
            shelf.adopt(NEW_UID, target)
            outcomes.append(True)
        except NotFound:
            outcomes.append(False)
        if at == "before":
            real(*arguments, **options)

    monkeypatch.setattr(os, step, adopting)
    shelf.discard(NEW_UID)
    assert outcomes == [at == "before"]
    kept = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert kept == (names if at == "before" else set())
    assert list((shelf.folder / "restored").iterdir()) == []
