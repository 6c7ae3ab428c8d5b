"""What whoever keeps answers needs of the cluster: what an answer depends on, whether that has moved, and a search that asks
only the shards that did.

Keeping them is not this module's affair (deployments/result_cache.py). Invariant: an answer is a right one for a request if
its stamps cover a probe that was sent after the request arrived.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

from cluster.coverage import missing_of
from cluster.fan_out import ShardRequest
from cluster.gather import Outcome
from cluster.generation_probe import GenerationProbe, Stamps
from cluster.point_reads import PointReads
from cluster.requests import Footprint, Origin, SearchAnswer, SearchRequest
from cluster.scope import Named, scope_of
from cluster.shard_calls import PATIENCE, Patience, countdown, target_of
from cluster.shard_search import shard_search
from cluster.state import CatalogueControl, CollectionState
from cluster.tenants import shards_asked, slots_asked
from shards import messages
from shards.errors import StaleEpoch
from shards.generations import Asked
from shards.wire import Kind

SLOTS_MAX = 64
"""A search within more slots than this depends on its shards as a whole: probes stay small."""


class CachedReads(PointReads):
    """See the module. On a router's loop."""

    def __init__(self, control: CatalogueControl, secret: bytes, patience: Patience = PATIENCE) -> None:
        super().__init__(control, secret, patience)
        self._probe = GenerationProbe(self._clients)

    def stamps(self, footprint: Footprint) -> asyncio.Future[Stamps]:
        """How far the footprint has moved, at a moment after now; see GenerationProbe."""
        return self._probe.ask(footprint)

    async def search_moved(
        self,
        about: Named,
        request: SearchRequest,
        kept: Mapping[int, bytes],
        moved: Collection[int],
        deadline_s: float,
    ) -> SearchAnswer:
        """One query's answer, of what was kept of some shards (HITS' bodies) and what the others find now. `request` is
        already narrowed to the scope's tenants.

        Raises StaleEpoch or NotFound where the collection is no longer what it was: then search as usual.
        """
        collection = self.collection(about)
        if {*kept, *moved} != {*shards_asked(collection, request.filter)}:
            raise StaleEpoch(f"collection `{scope_of(about).name}` lives on other shards now")
        left_s = countdown(deadline_s)
        search = shard_search(collection, request, target_of(collection))
        bodies = dict.fromkeys(moved, search.body())
        found = await self._ask(ShardRequest(Kind.SEARCH, bodies, messages.decode_hits), left_s())
        replies = {**found, **{shard_id: messages.decode_hits(memoryview(one)) for shard_id, one in kept.items()}}
        hits, refetched, whole = await self._merged(search, Outcome(replies, {}), left_s)
        origins = () if refetched else [Origin(replies, 0)]
        return SearchAnswer(hits, whole.coverage, origins=origins, missing=missing_of(whole))


def footprint_of(collection: CollectionState, encoded_filter: bytes) -> Footprint:
    """What a search with this filter (b"": none) depends on. Raises BadFilter, LimitExceeded."""
    target = target_of(collection)
    shard_ids = shards_asked(collection, encoded_filter)
    slots = slots_asked(collection, encoded_filter)
    if slots is None or len(slots) > SLOTS_MAX or collection.tenant_field is None:
        return Footprint(Asked(target.uid, target.epoch), shard_ids)
    return Footprint(Asked(target.uid, target.epoch, collection.tenant_field, slots), shard_ids)
