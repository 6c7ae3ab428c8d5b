"""The supervisor and its shards as real Ray actors: found by name, killed, adopted, refused, stopped."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray

from cluster.control import NAMESPACE, SUPERVISOR, SupervisorClient, connect_supervisor
from cluster.state import ClusterState, ShardState
from cluster.supervision import SupervisorSettings
from cluster.supervisor import start_supervisor, stop_supervisor
from shards.distance import Distance
from shards.errors import Conflict, InvalidRequest, NotFound, Unavailable
from shards.schema import CollectionSpec, VectorSpec

SPEC = CollectionSpec(vectors={"": VectorSpec(size=4, distance=Distance.COSINE)})
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SupervisorSettings]:
    """A Ray of its own with a supervisor of two shards."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "secret").write_text(secrets.token_hex(32))
    made = SupervisorSettings(folder, "c", "n", 2)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        environment.setenv("RAY_worker_niceness", "0")
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            namespace=NAMESPACE,
            log_to_driver=False,
            object_store_memory=80 * 1024 * 1024,
        )
        try:
            start_supervisor(made)
            yield made
            stop_supervisor()
        finally:
            ray.shutdown()


def play(story: Callable[[SupervisorClient], Awaitable[None]]) -> None:
    """Tell a story to a freshly connected client."""

    async def connected() -> None:
        async with asyncio.timeout(PATIENCE_S):
            client = await connect_supervisor()
            await eventually(client, lambda state: all(shard.address for shard in state.shards))
            await story(client)

    asyncio.run(connected())


async def eventually(client: SupervisorClient, holds: Callable[[ClusterState], bool]) -> ClusterState:
    """The first state that holds; supervisors may come and go meanwhile."""
    version = 0
    while True:
        try:
            state = await client.cluster_state(version, 5)
        except Unavailable:
            await asyncio.sleep(0.05)
            continue
        assert state.version >= version, "versions never go back"
        version = state.version
        if holds(state):
            return state


def ask(name: str, method: str, *arguments: object) -> Any:
    return ray.get(getattr(ray.get_actor(name, NAMESPACE), method).remote(*arguments))


def pid_of(name: str) -> int:
    pid: int = ask(name, "__ray_call__", lambda _: os.getpid())
    return pid


def kill(name: str) -> None:
    """kill -9 of an actor's process, which this test started."""
    os.kill(pid_of(name), signal.SIGKILL)


def is_back(shard: ShardState, old: ShardState) -> bool:
    return shard.address is not None and shard.incarnation != old.incarnation


def listens(shard: ShardState) -> bool:
    assert shard.address is not None
    with socket.socket() as probe:
        return probe.connect_ex((shard.address.host, shard.address.port)) == 0


def test_a_tenant_field_passes_through_ray(settings: SupervisorSettings) -> None:
    async def story(client: SupervisorClient) -> None:
        await client.create_collection("tenants", SPEC, None)
        shown = (await client.set_tenant_field("tenants", "org")).collections["tenants"]
        assert (shown.tenant_field, shown.shard_map.epoch) == ("org", 2)
        with pytest.raises(InvalidRequest, match="`org` already"):
            await client.set_tenant_field("tenants", "team")
        await eventually(client, lambda state: all(shard.address for shard in state.shards))
        await client.delete_collection("tenants")

    play(story)


def test_create_and_delete_and_their_errors_pass_through_ray(settings: SupervisorSettings) -> None:
    async def story(client: SupervisorClient) -> None:
        state = await client.create_collection("first", SPEC, 1)
        uid = state.collections["first"].uid
        assert (settings.shard_folder(0) / uid).is_dir()
        assert not (settings.shard_folder(1) / uid).exists()
        with pytest.raises(Conflict, match=r"^Wrong input: Collection `first` already exists!$"):
            await client.create_collection("first", SPEC, None)
        assert "first" not in (await client.delete_collection("first")).collections
        assert not (settings.shard_folder(0) / uid).exists()
        with pytest.raises(NotFound, match=r"^Not found: Collection `first` doesn't exist!$"):
            await client.delete_collection("first")

    play(story)


def test_a_killed_shard_is_back_with_its_collections_before_its_address_is_shown(
    settings: SupervisorSettings,
) -> None:
    async def story(client: SupervisorClient) -> None:
        before = await client.create_collection("kept", SPEC, None)
        uid = before.collections["kept"].uid
        old = before.shards[1]
        kill("shard-1")
        after = await eventually(client, lambda state: is_back(state.shards[1], old))
        assert after.shards[0] == before.shards[0]
        assert listens(after.shards[1])
        collections = ask("shard-1", "__ray_call__", lambda actor: actor._host.describe().collections)
        assert collections == {uid: None}

    play(story)


def test_a_killed_supervisor_adopts_the_running_shards(settings: SupervisorSettings) -> None:
    async def story(client: SupervisorClient) -> None:
        before = await client.cluster_state(0, 0)
        pids = [pid_of("shard-0"), pid_of("shard-1")]
        kill(SUPERVISOR)
        await asyncio.to_thread(start_supervisor, settings)  # as a router does that starts just now
        after = await eventually(client, lambda state: state.version >> 32 > before.version >> 32)
        assert (after.shards, after.collections) == (before.shards, before.collections)
        assert [pid_of("shard-0"), pid_of("shard-1")] == pids

    play(story)


def test_a_shard_killed_while_there_is_no_supervisor_is_found_again(settings: SupervisorSettings) -> None:
    async def story(client: SupervisorClient) -> None:
        old = (await client.cluster_state(0, 0)).shards[0]
        shard, supervisor = pid_of("shard-0"), pid_of(SUPERVISOR)
        os.kill(supervisor, signal.SIGKILL)
        os.kill(shard, signal.SIGKILL)
        after = await eventually(client, lambda state: is_back(state.shards[0], old))
        assert listens(after.shards[0])

    play(story)


def test_a_process_that_cannot_start_says_why_and_is_started_when_it_can(settings: SupervisorSettings) -> None:
    secret, hidden = settings.data_folder / "secret", settings.data_folder / "hidden"

    async def story(client: SupervisorClient) -> None:
        secret.rename(hidden)
        try:
            kill("shard-0")
            state = await eventually(client, lambda state: "FileNotFoundError" in (state.shards[0].problem or ""))
            assert state.shards[0].address is None
            assert state.shards[1].address is not None
        finally:
            hidden.rename(secret)
        await eventually(client, lambda state: state.shards[0].address is not None)

    play(story)


def test_another_cluster_cannot_take_this_ray(settings: SupervisorSettings) -> None:
    with pytest.raises(Conflict, match="serves cluster c already"):
        start_supervisor(replace(settings, cluster_id="other"))
    start_supervisor(settings)


def test_the_shutdown_ends_every_process_and_the_next_start_finds_everything(settings: SupervisorSettings) -> None:
    pids = [pid_of(name) for name in ("shard-0", "shard-1", SUPERVISOR)]
    stop_supervisor()
    deadline = time.monotonic() + PATIENCE_S
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, "a process of the cluster is still there"
        time.sleep(0.05)
    stop_supervisor()
    with pytest.raises(Conflict, match="2 shards and 3 are configured"):
        start_supervisor(replace(settings, shard_count=3))
    start_supervisor(settings)

    async def story(client: SupervisorClient) -> None:
        assert list((await client.cluster_state(0, 0)).collections) == ["kept"]

    play(story)
