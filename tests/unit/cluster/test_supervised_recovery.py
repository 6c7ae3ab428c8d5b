"""A recovery's last step under the supervisor: the name changes hands at once or not at all, whatever a shard says."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cluster.aliases import CreateAlias
from cluster.state import ClusterState, CollectionState
from shards.errors import NotFound
from tests.unit.cluster.test_supervision import SPEC, World, eventually, run


def recovery_of(state: ClusterState) -> CollectionState:
    """Of the collection `words`, as its snapshot would become it."""
    words = state.collections["words"]
    return words.model_copy(update={"uid": "b" * 32, "status": "creating", "restored": True})


def test_a_recovered_collection_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        supervisor = await world.supervisor()
        before = await supervisor.create_collection("words", SPEC, None)
        await supervisor.change_aliases([CreateAlias("alias", "words")])
        after = await supervisor.recover_collection(recovery_of(before))
        assert (after.collections["words"].uid, after.collections["words"].restored) == ("b" * 32, False)
        assert after.aliases == {"alias": "words"}
        old = before.collections["words"].uid
        async with asyncio.timeout(5):
            while any(old in shard.open for shard in world.shards):  # noqa: ASYNC110 (no event of its own)
                await asyncio.sleep(0.01)

    run(tmp_path, story)


def test_a_recovery_that_a_shard_refuses_leaves_the_collection_and_its_aliases(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        supervisor = await world.supervisor()
        before = await supervisor.create_collection("words", SPEC, None)
        await supervisor.change_aliases([CreateAlias("alias", "words")])
        world.shards[1].refusal = NotFound("it was restarted meanwhile")
        with pytest.raises(NotFound, match="meanwhile"):
            await supervisor.recover_collection(recovery_of(before))
        state = await eventually(supervisor, lambda state: state.aliases != {})
        assert (state.collections, state.aliases) == (before.collections, {"alias": "words"})

    run(tmp_path, story)


def test_a_recovery_that_a_crash_cut_short_is_finished_or_undone_by_the_next_life(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        supervisor = await world.supervisor()
        before = await supervisor.create_collection("words", SPEC, None)
        world.shards[1].silent = True
        cut_short = asyncio.create_task(supervisor.recover_collection(recovery_of(before)))
        await asyncio.sleep(0)
        supervisor = await world.supervisor()
        assert (await supervisor.cluster_state(0, 5)).collections == before.collections
        world.shards[1].silent = False
        state = await eventually(supervisor, lambda state: state.collections["words"].uid == "b" * 32)
        assert list(state.collections) == ["words"]
        cut_short.cancel()

    run(tmp_path, story)
