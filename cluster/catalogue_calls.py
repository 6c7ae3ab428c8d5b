"""What one router asks of the catalogue besides following it: changes that touch no shard, and the newest state at once.

A change is answered when this router itself has taken the state that shows it; other routers follow by their long poll,
some ms later. So a name that a router doesn't know is asked for once more before it is not found, or whoever makes an
alias through one router and uses it through another would meet a 404 now and then (measured: 1 request of 300).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from cluster.aliases import AliasAction
from cluster.api_keys import KeyChange
from cluster.state import CatalogueControl, ClusterState, CollectionState
from shards.errors import DeadlineExceeded

T = TypeVar("T")


class CatalogueCalls:
    """`take` is given each new state."""

    def __init__(self, control: CatalogueControl, take: Callable[[ClusterState], None]) -> None:
        self._control = control
        self._take = take
        self._turn = asyncio.Lock()
        self._begun_count = 0
        """Refreshes that have begun."""

    async def refresh(self) -> None:
        """Take a state that was the newest after this call. Those that wait at the same moment share one question, so
        that any number of unknown names costs the control plane one call at a time.
        """
        mine = self._begun_count + 1
        async with self._turn:
            if self._begun_count >= mine:
                return
            self._begun_count += 1
            try:
                self._take(await self._control.cluster_state(-1, 0))
            except BaseException:
                self._begun_count -= 1  # whoever waits has to ask himself
                raise

    async def change_aliases(self, actions: Sequence[AliasAction], deadline_s: float) -> None:
        """Apply all actions, or none. Errors as of `cluster.aliases.change_aliases`."""
        self._take(await before(deadline_s, self._control.change_aliases(actions)))

    async def update_collection(self, name: str, changes: Mapping[str, Any], deadline_s: float) -> None:
        """Merge `changes` into a collection's settings. Raises NotFound, else as `merge_settings`
        (cluster/collection_settings.py).
        """
        self._take(await before(deadline_s, self._control.update_collection(name, changes)))

    async def set_tenant_field(self, name: str, path: str, moves_points: bool, deadline_s: float) -> None:
        """Have a payload field say where a collection's points live, or whose they are. Errors as of `CatalogueControl`'s."""
        self._take(await before(deadline_s, self._control.set_tenant_field(name, path, moves_points)))

    async def recover_collection(self, item: CollectionState, deadline_s: float) -> None:
        """Have a name lead to a collection whose parts are restored. Errors as of `CatalogueControl`'s."""
        self._take(await before(deadline_s, self._control.recover_collection(item)))

    async def change_keys(self, change: KeyChange, deadline_s: float) -> None:
        """Change the API keys. Errors as of `cluster.api_keys.apply_change`."""
        self._take(await before(deadline_s, self._control.change_keys(change)))


async def before(deadline_s: float, answer: Awaitable[T]) -> T:
    """The control plane's answer. Raises DeadlineExceeded; the change may come all the same."""
    try:
        async with asyncio.timeout(deadline_s):
            return await answer
    except TimeoutError:
        raise DeadlineExceeded(f"the control plane did not answer within {deadline_s:.3g} s") from None
