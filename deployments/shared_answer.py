"""An answer that many want and that costs something: asked once at a time, and kept for a little while.

Who comes while it is being asked waits for the same answer; who comes later gets the kept one until it is too old. So
what it costs does not grow with how many ask. One that fails is not kept. A caller that goes away takes nothing from
the others: the question goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class SharedAnswer(Generic[Answer]):
    """Lives on one loop. `rest_factor`: an answer that took long is kept so many times as long, where that is more than
    `age_s` says of it.
    """

    def __init__(
        self, ask: Callable[[], Awaitable[Answer]], age_s: Callable[[Answer], float], rest_factor: float = 0.0
    ) -> None:
        self._ask = ask
        self._age_s = age_s
        self._rest_factor = rest_factor
        self._good_until = 0.0
        self._asking: asyncio.Task[Answer] | None = None
        self.newest: Answer | None = None
        """The last answer, however old."""

    async def get(self) -> Answer:
        """An answer that is not too old. Raises what asking raises."""
        if self.newest is not None and perf_counter() < self._good_until:
            return self.newest
        if self._asking is None or self._asking.get_loop() is not asyncio.get_running_loop():
            self._asking = asyncio.get_running_loop().create_task(self._ask_now())
            self._asking.add_done_callback(_look_at)
        return await asyncio.shield(self._asking)

    async def _ask_now(self) -> Answer:
        began = perf_counter()
        try:
            self.newest = await self._ask()
            ended = perf_counter()
            self._good_until = ended + max(self._age_s(self.newest), self._rest_factor * (ended - began))
            return self.newest
        finally:
            self._asking = None


def _look_at(task: asyncio.Task[Answer]) -> None:
    """An error that nobody waits for any more is no error of the program."""
    if not task.cancelled():
        task.exception()
