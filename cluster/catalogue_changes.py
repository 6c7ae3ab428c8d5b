"""Changes of the catalogue that touch no shard, as one router asks for them: aliases, and what collections show.

The answer is awaited until this router itself has taken the state that shows the change, so whoever changes and then
reads through the same router finds what he wrote; other routers follow by their long poll.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from cluster.aliases import AliasAction
from cluster.state import CatalogueControl, ClusterState
from shards.errors import DeadlineExceeded

T = TypeVar("T")


class CatalogueChanges:
    """`take` is given each new state."""

    def __init__(self, control: CatalogueControl, take: Callable[[ClusterState], None]) -> None:
        self._control = control
        self._take = take

    async def change_aliases(self, actions: Sequence[AliasAction], deadline_s: float) -> None:
        """Apply all actions, or none. Errors as of `cluster.aliases.change_aliases`."""
        self._take(await before(deadline_s, self._control.change_aliases(actions)))

    async def update_collection(self, name: str, changes: Mapping[str, Any], deadline_s: float) -> None:
        """Merge `changes` into a collection's settings. Raises NotFound, else as `merge_settings`
        (cluster/collection_settings.py).
        """
        self._take(await before(deadline_s, self._control.update_collection(name, changes)))


async def before(deadline_s: float, answer: Awaitable[T]) -> T:
    """The control plane's answer. Raises DeadlineExceeded; the change may come all the same."""
    try:
        async with asyncio.timeout(deadline_s):
            return await answer
    except TimeoutError:
        raise DeadlineExceeded(f"the control plane did not answer within {deadline_s:.3g} s") from None
