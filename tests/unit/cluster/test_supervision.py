"""The supervisor's loops against shards that are plain objects: crashes, refusals, silence, and what routers see."""

from __future__ import annotations

import asyncio
import errno
import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cluster import supervision
from cluster.aliases import CreateAlias, RenameAlias
from cluster.api_keys import AddKey, Grant, RevokeKey, Role, new_key
from cluster.state import ClusterState
from cluster.supervision import ShardGone, ShardSilent, Supervision, SupervisorSettings
from shards.disk import write_durably
from shards.distance import Distance
from shards.errors import (
    Conflict,
    Corrupt,
    InvalidRequest,
    NotFound,
    ShardUnavailable,
    ShoalError,
    StorageFull,
    Unavailable,
)
from shards.identity import create_shard_folder
from shards.report import CollectionOrder, ShardReport
from shards.schema import CollectionSpec, VectorSpec

SPEC = CollectionSpec(vectors={"": VectorSpec(size=4, distance=Distance.COSINE)})


@dataclass
class FakeShard:
    """A shard's process that outlives supervisors. `life` 0: there is none. Its disk is `made`."""

    shard_id: int
    life: int = 0
    starts: int = 0
    silent: bool = False
    refusal: ShoalError | None = None
    open: set[str] = field(default_factory=set)
    epochs: dict[str, int] = field(default_factory=dict)
    made: set[str] = field(default_factory=set)

    async def start(self) -> None:
        self.starts += 1
        self.life = self.life or 1

    async def report(self) -> ShardReport:
        self._answer()
        return self.now()

    async def ensure_collections(self, orders: Sequence[CollectionOrder]) -> dict[str, ShoalError]:
        self._answer()
        failed = {}
        for order in orders:
            if order.create and self.refusal is not None:
                failed[order.uid] = self.refusal
                continue
            if order.create:
                self.made.add(order.uid)
            self.open.add(order.uid)
            self.epochs[order.uid] = order.epoch
        return failed

    async def drop_collection(self, uid: str) -> None:
        self._answer()
        self.open.discard(uid)
        self.made.discard(uid)

    async def stop(self, timeout_s: float) -> None:
        self.life = 0

    def now(self) -> ShardReport:
        return ShardReport("127.0.0.1", 4000 + 100 * self.shard_id + self.life, f"life {self.life}", None, 99)

    def crash(self) -> None:
        """The process ends, and Ray brings it up again."""
        self.life += 1
        self.open.clear()

    def _answer(self) -> None:
        if self.life == 0:
            raise ShardGone("the process died")
        if self.silent:
            raise ShardSilent


class World:
    """Two shards and a data folder, on which one supervisor after another lives."""

    def __init__(self, folder: Path) -> None:
        self.settings = SupervisorSettings(folder, "c", "n", 2)
        self.shards = [FakeShard(0), FakeShard(1)]
        self.lives: list[Supervision] = []

    async def supervisor(self) -> Supervision:
        """A new life; the one before is forgotten as by kill -9."""
        for life in self.lives:
            for task in life._rounds.values():
                task.cancel()
        self.lives.append(Supervision(self.settings, lambda shard_id, _: self.shards[shard_id]))
        await self.lives[-1].begin()
        return self.lives[-1]


def run(folder: Path, story: Callable[[World], Awaitable[None]]) -> None:
    """Play a story on a loop of its own, within 20 s."""

    async def play() -> None:
        world = World(folder)
        async with asyncio.timeout(20):
            await story(world)
        for life in world.lives:
            await life.shutdown()

    asyncio.run(play())


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"POLL_S": 0.02, "RETRY_S": 0.01, "FIRST_LOOK_S": 0.3, "CREATE_S": 0.3, "DROP_S": 0.1}.items():
        monkeypatch.setattr(supervision, name, value)


async def eventually(supervisor: Supervision, holds: Callable[[ClusterState], bool]) -> ClusterState:
    state = await supervisor.cluster_state(0, 0)
    while not holds(state):
        state = await supervisor.cluster_state(state.version, 5)
    return state


def ports(state: ClusterState) -> list[int | None]:
    return [shard.address.port if shard.address else None for shard in state.shards]


def test_a_new_folder_becomes_a_cluster(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        supervisor = await world.supervisor()
        state = await supervisor.cluster_state(0, 5)
        assert (ports(state), state.collections) == ([4001, 4101], {})
        assert sorted(path.name for path in (tmp_path / "shards").iterdir()) == ["0", "1"]

    run(tmp_path, story)


@pytest.mark.parametrize("step", range(1, 6))
def test_a_first_start_that_crashes_anywhere_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    class Crash(Exception):
        pass

    left = [step]

    def counted(function: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: object) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise Crash
            function(*arguments)

        return call

    async def story(world: World) -> None:
        with monkeypatch.context() as crashing:
            crashing.setattr("cluster.supervision.create_shard_folder", counted(create_shard_folder))
            crashing.setattr("cluster.catalogue.write_durably", counted(write_durably))
            with pytest.raises(Crash):
                await world.supervisor()
        supervisor = await world.supervisor()
        assert ports(await supervisor.cluster_state(0, 5)) == [4001, 4101]
        assert all((tmp_path / "shards" / name / "shard.json").exists() for name in "01")

    run(tmp_path, story)


def test_a_missing_folder_is_never_made_again(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.supervisor()
        shutil.rmtree(tmp_path / "shards" / "1")
        await world.supervisor()
        assert not (tmp_path / "shards" / "1").exists()

    run(tmp_path, story)


def test_another_shard_count_and_a_damaged_catalogue_stop_the_start(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.supervisor()
        world.settings = SupervisorSettings(tmp_path, "c", "n", 3)
        with pytest.raises(Conflict, match="2 shards and 3 are configured"):
            await world.supervisor()
        world.lives.pop()
        (tmp_path / "catalogue.json").write_bytes(b"{}")
        with pytest.raises(Corrupt, match=r"catalogue\.json"):
            await world.supervisor()
        world.lives.pop()

    run(tmp_path, story)


def test_create_and_delete(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        supervisor = await world.supervisor()
        state = await supervisor.create_collection("words", SPEC, None)
        uid = state.collections["words"].uid
        assert [shard.made for shard in world.shards] == [{uid}, {uid}]
        with pytest.raises(Conflict, match="already exists"):
            await supervisor.create_collection("words", SPEC, None)
        small = await supervisor.create_collection("small", SPEC, 1)
        assert [len(shard.made) for shard in world.shards] == [2, 1]
        assert (await supervisor.delete_collection("words")).collections == {"small": small.collections["small"]}
        assert [len(shard.made) for shard in world.shards] == [1, 0]
        with pytest.raises(NotFound, match="doesn't exist"):
            await supervisor.delete_collection("words")

    run(tmp_path, story)


def test_a_shard_that_refuses_rolls_the_creation_back(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        supervisor = await world.supervisor()
        world.shards[1].refusal = StorageFull("shard 1 has no room")
        with pytest.raises(StorageFull, match="no room"):
            await supervisor.create_collection("words", SPEC, None)
        world.shards[1].refusal = None
        state = await supervisor.create_collection("words", SPEC, None)
        uid = state.collections["words"].uid
        await until(lambda: world.shards[0].made == {uid})

    run(tmp_path, story)


def test_a_shard_that_is_silent_too_long_rolls_the_creation_back(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        supervisor = await world.supervisor()
        world.shards[1].silent = True
        with pytest.raises(ShardUnavailable, match="words was not created"):
            await supervisor.create_collection("words", SPEC, None)
        world.shards[1].silent = False
        await until(lambda: not supervisor._catalogue.collections)
        assert world.shards[0].made == set()

    run(tmp_path, story)


def test_a_creation_that_a_crash_interrupted_is_rolled_forward(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        supervisor = await world.supervisor()
        await supervisor.cluster_state(0, 5)
        world.shards[1].silent = True
        creation = asyncio.create_task(supervisor.create_collection("words", SPEC, None))
        await until(lambda: len(world.shards[0].made) == 1)
        creation.cancel()
        second = await world.supervisor()
        assert (await second.cluster_state(0, 0)).collections == {}
        world.shards[1].silent = False
        await eventually(second, lambda state: "words" in state.collections)
        assert world.shards[0].made == world.shards[1].made

    run(tmp_path, story)


def test_aliases_and_settings_outlive_the_supervisor(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        first = await world.supervisor()
        for name in ("old", "new"):
            await first.create_collection(name, SPEC, None, {"metadata": {"name": name}})
        shown = await first.change_aliases([CreateAlias("live", "old"), CreateAlias("test", "new")])
        assert shown.aliases == {"live": "old", "test": "new"}
        with pytest.raises(NotFound):
            await first.change_aliases([CreateAlias("live", "new"), RenameAlias("gone", "other")])
        await first.update_collection("old", {"metadata": {"is": "old"}})
        second = await world.supervisor()
        state = await second.cluster_state(shown.version, 5)
        assert state.aliases == shown.aliases
        assert state.collections["old"].settings == '{"metadata":{"name":"old","is":"old"}}'
        assert state.find("test") == state.collections["new"]
        world.shards[1].silent = True
        assert (await second.delete_collection("old")).aliases == {"test": "new"}
        assert (await (await world.supervisor()).cluster_state(0, 5)).aliases == {"test": "new"}

    run(tmp_path, story)


def test_a_change_is_shown_once_and_no_change_is_not_shown(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        supervisor = await world.supervisor()
        await supervisor.create_collection("words", SPEC, None, {"metadata": {"a": 1}})
        first = await supervisor.change_aliases([CreateAlias("a", "words")])
        assert await supervisor.change_aliases([CreateAlias("a", "words")]) == first
        assert (await supervisor.update_collection("words", {"metadata": {"a": 1}})).version == first.version
        assert (await supervisor.update_collection("words", {"metadata": {"a": True}})).version > first.version

    run(tmp_path, story)


def test_a_tenant_field_counts_when_every_shard_has_the_new_epoch_and_outlives_the_supervisor(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        supervisor = await world.supervisor()
        await supervisor.create_collection("words", SPEC, None)
        with pytest.raises(NotFound):
            await supervisor.set_tenant_field("live", "org")
        world.shards[1].silent = True
        waiting = asyncio.create_task(supervisor.set_tenant_field("words", "org"))
        await until(lambda: 2 in world.shards[0].epochs.values())
        assert not waiting.done()
        world.shards[1].silent = False
        shown = (await waiting).collections["words"]
        assert (shown.tenant_field, shown.shard_map.epoch) == ("org", 2)
        assert [list(shard.epochs.values()) for shard in world.shards] == [[2], [2]]
        with pytest.raises(InvalidRequest, match="has the tenant field `org` already"):
            await supervisor.set_tenant_field("words", "team")
        again = await supervisor.set_tenant_field("words", "org")
        assert again.collections["words"] == shown
        later = await eventually(await world.supervisor(), lambda state: None not in ports(state))
        assert later.collections["words"] == shown

    run(tmp_path, story)


def test_a_full_disk_leaves_the_aliases_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def story(world: World) -> None:
        supervisor = await world.supervisor()
        await supervisor.create_collection("words", SPEC, None)
        with monkeypatch.context() as disk:
            disk.setattr("cluster.catalogue.write_durably", full)
            with pytest.raises(StorageFull):
                await supervisor.change_aliases([CreateAlias("a", "words")])
        assert (await supervisor.cluster_state(0, 0)).aliases == {}
        assert (await supervisor.change_aliases([CreateAlias("a", "words")])).aliases == {"a": "words"}

    run(tmp_path, story)


def test_a_deletion_succeeds_with_a_shard_down_and_is_finished_later(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        supervisor = await world.supervisor()
        await supervisor.create_collection("words", SPEC, None)
        world.shards[1].silent = True
        assert (await supervisor.delete_collection("words")).collections == {}
        assert len(world.shards[1].made) == 1
        again = await supervisor.cluster_state(0, 0)
        assert again.collections == {}
        second = await world.supervisor()
        world.shards[1].silent = False
        await until(lambda: not second._catalogue.collections)
        assert world.shards[1].made == set()

    run(tmp_path, story)


def test_a_restarted_shard_is_shown_with_its_new_address_after_it_opened_everything(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        supervisor = await world.supervisor()
        await supervisor.create_collection("words", SPEC, None)
        shard = world.shards[1]
        shard.crash()
        supervisor.shard_started(1, shard.now())
        state = await eventually(supervisor, lambda state: ports(state) == [4001, 4102])
        assert state.shards[1].incarnation == "life 2"
        assert shard.open == shard.made

    run(tmp_path, story)


def test_a_restart_that_nobody_told_of_is_found(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        supervisor = await world.supervisor()
        await supervisor.cluster_state(0, 5)
        world.shards[0].crash()
        await eventually(supervisor, lambda state: ports(state) == [4002, 4101])

    run(tmp_path, story)


def test_a_dead_process_is_started_again(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        supervisor = await world.supervisor()
        await supervisor.cluster_state(0, 5)
        world.shards[0].life = 0
        await until(lambda: world.shards[0].starts == 2)
        await eventually(supervisor, lambda state: ports(state) == [4001, 4101])

    run(tmp_path, story)


def test_a_new_supervisor_finds_the_shards_before_it_shows_a_state_and_versions_grow(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        first = await world.supervisor()
        old = await first.create_collection("words", SPEC, None)
        new = await (await world.supervisor()).cluster_state(old.version, 5)
        assert new.version > old.version
        assert new.shards == old.shards
        assert new.collections == old.collections
        assert [shard.life for shard in world.shards] == [1, 1]

    run(tmp_path, story)


def test_a_new_supervisor_does_not_wait_long_for_a_silent_shard(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.shards[1].silent = True
        state = await (await world.supervisor()).cluster_state(0, 5)
        assert ports(state) == [4001, None]
        assert state.shards[1].problem == "shard 1 is starting"

    run(tmp_path, story)


def test_a_long_poll_answers_at_a_change_or_at_its_timeout(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        supervisor = await world.supervisor()
        state = await supervisor.cluster_state(0, 5)
        assert await supervisor.cluster_state(state.version, 0.05) == state
        waiting = asyncio.create_task(supervisor.cluster_state(state.version, 10))
        created = await supervisor.create_collection("words", SPEC, None)
        assert await waiting == created
        assert created.version > state.version

    run(tmp_path, story)


def test_keys_reach_whoever_waits_and_the_next_life(tmp_path: Path) -> None:
    record = new_key(bytes(38), (Grant(role=Role.READ),), "", 7).record

    async def story(world: World) -> None:
        supervisor = await world.supervisor()
        state = await supervisor.cluster_state(0, 5)
        assert state.keys == ()
        waiting = asyncio.create_task(supervisor.cluster_state(state.version, 10))
        added = await supervisor.change_keys(AddKey(record))
        assert await waiting == added
        assert added.keys == (record,)
        await supervisor.change_keys(RevokeKey(record.id, 9))
        with pytest.raises(NotFound):
            await supervisor.change_keys(RevokeKey("unknown", 9))
        next_life = await world.supervisor()
        assert [key.revoked_s for key in (await next_life.cluster_state(0, 5)).keys] == [9]

    run(tmp_path, story)


def test_a_full_disk_refuses_a_creation_and_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def story(world: World) -> None:
        supervisor = await world.supervisor()
        await supervisor.cluster_state(0, 5)
        with monkeypatch.context() as disk:
            disk.setattr("cluster.catalogue.write_durably", full)
            with pytest.raises(StorageFull):
                await supervisor.create_collection("words", SPEC, None)
        assert list((await supervisor.create_collection("words", SPEC, None)).collections) == ["words"]

    run(tmp_path, story)


def test_after_the_shutdown_calls_are_refused(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        supervisor = await world.supervisor()
        await supervisor.shutdown()
        assert [shard.life for shard in world.shards] == [0, 0]
        for call in (supervisor.cluster_state(0, 0), supervisor.delete_collection("words")):
            with pytest.raises(Unavailable, match="shutting down"):
                await call

    run(tmp_path, story)


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something that routers can't see; the story's own deadline bounds it."""
    while not holds():  # noqa: ASYNC110 (the fakes tell nobody of their changes)
        await asyncio.sleep(0.005)
