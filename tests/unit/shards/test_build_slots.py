"""Builds of a machine take turns: a slot is held by one, waited for by others, and never waited for where it is urgent."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shards.build_slots import FILE_PREFIX, BuildSlots

WAIT_S = 10.0


def never() -> bool:
    return False


def test_one_slot_is_held_by_one(tmp_path: Path) -> None:
    mine, others = BuildSlots(tmp_path, 1), BuildSlots(tmp_path, 1)
    order: list[str] = []

    async def second() -> None:
        async with others.one(never):
            order.append("second")

    async def scene() -> None:
        async with mine.one(never):
            waiting = asyncio.create_task(second())
            await asyncio.sleep(0.3)
            order.append("first")
        await asyncio.wait_for(waiting, WAIT_S)

    asyncio.run(scene())
    assert order == ["first", "second"]


def test_two_slots_are_for_two(tmp_path: Path) -> None:
    slots = BuildSlots(tmp_path, 2)

    async def scene() -> None:
        async with asyncio.timeout(WAIT_S), slots.one(never), slots.one(never):
            assert sorted(os.listdir(tmp_path)) == [FILE_PREFIX + "0", FILE_PREFIX + "1"]

    asyncio.run(scene())


def test_what_is_or_becomes_urgent_does_not_wait(tmp_path: Path) -> None:
    slots = BuildSlots(tmp_path, 1)
    asked = iter([False, False, True])

    async def scene() -> None:
        async with asyncio.timeout(WAIT_S), slots.one(never), slots.one(lambda: True), slots.one(lambda: next(asked)):
            pass
        async with asyncio.timeout(WAIT_S), slots.one(never):
            pass

    asyncio.run(scene())
    assert list(asked) == []


def test_a_process_that_dies_gives_its_slot_back(tmp_path: Path) -> None:
    program = (
        "import asyncio, os, sys; from pathlib import Path; from shards.build_slots import BuildSlots\n"
        "async def hold():\n"
        "    async with BuildSlots(Path(sys.argv[1]), 1).one(lambda: False):\n"
        "        print('held', flush=True); await asyncio.sleep(600)\n"
        "asyncio.run(hold())"
    )
    slots = BuildSlots(tmp_path, 1)

    async def scene() -> None:
        async with asyncio.timeout(WAIT_S), slots.one(never):
            pass

    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True) as held:
        try:
            assert held.stdout is not None
            assert held.stdout.readline() == "held\n"
            assert slots._try_take(tmp_path) is None
        finally:
            held.kill()
    asyncio.run(scene())


@pytest.mark.parametrize("folder", [None, Path("/nowhere/at/all")])
def test_where_no_lock_can_be_had_nobody_waits(folder: Path | None) -> None:
    slots = BuildSlots(folder, 1)

    async def scene() -> None:
        async with asyncio.timeout(WAIT_S), slots.one(never), slots.one(never):
            pass

    asyncio.run(scene())
