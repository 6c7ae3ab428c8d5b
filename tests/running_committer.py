"""A committer while a test runs, closed behind it, and waiting for what goes on in the background: never for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from shards.collection import ShardCollection
from shards.committer import Committer
from shards.memory_account import MemoryAccount
from shards.upkeep import Builders

DEADLINE_S = 60.0
"""Nothing takes so long; it ends a test that hangs."""


@asynccontextmanager
async def committing(
    collection: ShardCollection, builders: ThreadPoolExecutor, account: MemoryAccount | None = None
) -> AsyncIterator[Committer]:
    committer = Committer(collection, Builders(builders, builders), account)
    async with asyncio.timeout(DEADLINE_S):
        yield committer
        await committer.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 (what is waited for has no event of its own)
            await asyncio.sleep(0.005)
