"""What a router knows of the cluster, and how it asks shards: the part that reads and writes have in common.

It follows the control plane's state by a long poll; a request that meets a state newer than ours (a shard says StaleEpoch, a
name is unknown) fetches it once and is tried again. Errors are ShoalErrors. How a request is fanned out is
cluster/fan_out.py's affair.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from time import monotonic
from typing import Any, NamedTuple, TypeVar

from cluster.breaker import BreakerStatus
from cluster.catalogue_calls import CatalogueCalls, before
from cluster.coverage import failure_of, is_accepted
from cluster.fan_out import ShardRequest, Terms, fan_out
from cluster.gather import Outcome, Policy
from cluster.gather_counts import GatherCounts
from cluster.latency import Latency
from cluster.scope import Named, check_same, scope_of
from cluster.shard_client import ShardClient
from cluster.state import CatalogueControl, ClusterState, CollectionState
from cluster.tenant_guard import check_whole, guard_of
from shards.errors import Internal, NotFound, StaleEpoch, Unavailable
from shards.messages import Target
from shards.wire import Kind

POLL_S = 30.0
POLL_RETRY_S = 0.25
START_S = 60.0
PATIENCE_S = 15.0
"""How long a request waits for a shard that restarts (measured: about 2 s for 200,000 points)."""
STRAGGLER_WAIT_S = 0.05
"""How long a request whose caller takes less than everything waits for the rest, at least."""
LEFT_S_MIN = 0.001
TIMED_EVERY = 8
"""Of so many searches one tells how long shards take: 0.4 us a shard."""

log = logging.getLogger(__name__)
T = TypeVar("T")


class Patience(NamedTuple):
    """How long shards are waited for: `away_s` for one that restarts, `straggler_s` for one that is silent where the caller
    has enough without it.
    """

    away_s: float = PATIENCE_S
    straggler_s: float = STRAGGLER_WAIT_S


PATIENCE = Patience()


class ShardCalls:
    """See the module. `start` before anything else. On a router's loop."""

    def __init__(self, control: CatalogueControl, secret: bytes, patience: Patience = PATIENCE) -> None:
        self._control = control
        self._secret = secret
        self._latencies: dict[int, Latency] = {}
        policy = Policy(patience.away_s, straggler_wait_s=patience.straggler_s, budget_factor=self._budget_factor)
        self._terms = Terms(policy)
        self._timed_terms = replace(self._terms, latencies=self._latencies)
        self._until_timed = TIMED_EVERY
        self._state: ClusterState | None = None
        self.extras_allowed = True
        self._clients: dict[int, ShardClient] = {}
        self._watch_task: asyncio.Task[None] | None = None
        self.catalogue = CatalogueCalls(control, self._take)

    async def start(self) -> None:
        """Learn the cluster's state, then follow it."""
        self._take(await self._control.cluster_state(-1, START_S))
        self._watch_task = asyncio.get_running_loop().create_task(self._watch())

    def check_alive(self) -> None:
        """Raises Internal where this router no longer follows the cluster, which only a restart of it would mend."""
        if self._watch_task is None or self._watch_task.done():
            raise Internal("this router has stopped following the cluster's state")

    async def close(self) -> None:
        """Close the connections to the shards."""
        if self._watch_task is not None:
            self._watch_task.cancel()
        for client in self._clients.values():
            client.close()

    @property
    def gather_counts(self) -> GatherCounts:
        """What this router's requests to shards came to."""
        return self._terms.counts

    @property
    def latencies(self) -> Mapping[int, Latency]:
        """How long each shard takes to answer searches, by shard id; from one search in TIMED_EVERY."""
        return self._latencies

    @property
    def state(self) -> ClusterState:
        """The newest state that this router knows."""
        if self._state is None:
            raise Unavailable("the router does not know the cluster's state yet", 1.0)
        return self._state

    def collection(self, about: Named) -> CollectionState:
        """The state of the collection of this name or alias. Raises NotFound, and Conflict where the scope means one that was
        replaced by another of its name.
        """
        scope = scope_of(about)
        found = self.state.find(scope.name)
        if found is None:
            raise NotFound(f"Not found: Collection `{scope.name}` doesn't exist!")
        check_same(scope, found)
        return found

    def allow_extras(self, allowed: bool) -> None:
        """Whether calls may be made that no answer needs, such as hedges: not while the router is short of time."""
        self.extras_allowed = allowed

    def breakers(self) -> dict[int, BreakerStatus]:
        """How this router's breaker of each shard stands."""
        return {shard_id: client.guard.status() for shard_id, client in sorted(self._clients.items())}

    def _budget_factor(self, shard_id: int) -> float:
        """What part of their retries and hedges of a shard requests have: less while its breaker is not closed."""
        client = self._clients.get(shard_id)
        return 1.0 if client is None else client.guard.budget_factor

    async def _ask_all(
        self, about: Named, kind: Kind, decode: Callable[[memoryview], T], deadline_s: float, rest: bytes = b""
    ) -> Mapping[int, T]:
        """Ask every shard of a collection the same, about the whole of it. Raises Forbidden for a scope with tenants."""
        check_whole(scope_of(about))

        async def ask(collection: CollectionState, _: bytes) -> Mapping[int, T]:
            body = [target_of(collection).encode() + rest]
            return await self._ask(
                ShardRequest(kind, dict.fromkeys(collection.shard_map.shard_ids, body), decode), deadline_s
            )

        return await self._on_current_state(about, ask)

    async def _ask(self, request: ShardRequest, deadline_s: float) -> Mapping[int, Any]:
        """Ask each shard its own; the answer of every one, or an error that says which did not give one, and why."""
        outcome = await fan_out(self._clients, request, deadline_s, self._terms)
        if outcome.failures:
            raise failure_of(outcome)
        return outcome.replies

    async def _ask_for_enough(self, request: ShardRequest, deadline_s: float, min_coverage: float) -> Outcome:
        """The same, where `min_coverage` (0 to 1) of the shards is enough. One search in so many is timed."""
        terms = self._terms
        if request.kind is Kind.SEARCH:
            self._until_timed -= 1
            if not self._until_timed:
                self._until_timed, terms = TIMED_EVERY, self._timed_terms
        if min_coverage < 1.0:
            terms = self._timed_terms if request.kind is Kind.SEARCH else terms
            terms = replace(terms, policy=replace(terms.policy, min_coverage=min_coverage))
        outcome = await fan_out(self._clients, request, deadline_s, terms)
        if outcome.failures and not is_accepted(outcome, min_coverage):
            raise failure_of(outcome, min_coverage)
        return outcome

    async def _on_current_state(
        self,
        about: Named,
        ask: Callable[[CollectionState, bytes], Awaitable[T]],
        left_s: Callable[[], float] | None = None,
    ) -> T:
        """Ask with the state we know; where it turns out to be old, once more with the newest, of the same collection. `ask`
        gets the collection, and the guard (cluster/tenant_guard.py) within which it has to stay. Everything that is asked of
        points goes through here. `left_s` (of `countdown`): how long the newest state may be waited for.
        """
        scope = scope_of(about)
        try:
            collection = self.collection(scope)
            return await ask(collection, guard_of(scope, collection))
        except (StaleEpoch, NotFound):
            newest = self.catalogue.refresh()
            await (newest if left_s is None else before(left_s(), newest))
            collection = self.collection(scope)
            return await ask(collection, guard_of(scope, collection))

    def _take(self, state: ClusterState) -> None:
        if self._state is not None and state.version <= self._state.version:
            return
        self._state = state
        for shard in state.shards:
            client = self._clients.get(shard.shard_id)
            if client is None:
                client = self._clients[shard.shard_id] = ShardClient(shard.shard_id, state.cluster_id, self._secret)
                self._latencies[shard.shard_id] = Latency()
            address = None if shard.address is None else (shard.address.host, shard.address.port)
            client.retarget(address, shard.incarnation)

    async def _watch(self) -> None:
        while True:
            try:
                self._take(await self._control.cluster_state(self.state.version, POLL_S))
            except asyncio.CancelledError:
                raise
            except Exception as error:
                log.warning("the control plane does not answer (%s); searches and writes go on without it", error)
                await asyncio.sleep(POLL_RETRY_S)


def target_of(collection: CollectionState) -> Target:
    return _target_of(collection.uid, collection.shard_map.epoch)


@lru_cache(maxsize=1024)
def _target_of(uid: str, epoch: int) -> Target:
    return Target(bytes.fromhex(uid), epoch)


def countdown(deadline_s: float) -> Callable[[], float]:
    """How much is left of a deadline that begins now, whenever it is asked: one deadline for all steps of a request."""
    ends_at = monotonic() + deadline_s
    return lambda: max(LEFT_S_MIN, ends_at - monotonic())
