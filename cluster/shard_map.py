"""Which shard owns which slot, and how a batch of keys falls into parts by shard.

A shard map gives each of the SLOT_COUNT slots one shard, and has an epoch: every change of owners makes a new map
with a higher one, and a shard refuses callers that used an older one (StaleEpoch). It is written as runs of
neighbouring slots, so its JSON stays small ([[0, 2048], [1, 2048]]) however many slots there are.

It does not decide when owners change. Invariants: the runs cover every slot once, in order; a map never changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from cluster.slots import SLOT_COUNT, Slots, slots_of
from shards.errors import InvalidRequest
from shards.point_ids import KeyArray

SHARD_ID_MAX = 2**16 - 1
"""Owners are stored as uint16."""
EPOCH_MAX = 2**48
"""Of a map that comes from elsewhere. Epochs travel and are logged as uint64: this leaves room for every later one."""

ShardId = Annotated[int, Field(ge=0, le=SHARD_ID_MAX)]
Owners = npt.NDArray[np.uint16]
Runs = tuple[tuple[ShardId, Annotated[int, Field(ge=1)]], ...]
RowsByShard = dict[int, npt.NDArray[np.intp]]


class ShardMap(BaseModel):
    """runs: (shard id, number of slots), from slot 0 on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epoch: Annotated[int, Field(ge=1)]
    runs: Runs

    @model_validator(mode="after")
    def _covers_every_slot(self) -> ShardMap:
        covered = sum(length for _, length in self.runs)
        if covered != SLOT_COUNT:
            raise ValueError(f"the runs of a shard map cover {covered} slots instead of {SLOT_COUNT}")
        return self

    @cached_property
    def shard_ids(self) -> tuple[int, ...]:
        """The shards that own a slot, ascending."""
        return tuple(sorted({shard_id for shard_id, _ in self.runs}))

    @cached_property
    def largest_share(self) -> float:
        """The fraction of all slots that the shard with the most of them owns."""
        owned = dict.fromkeys(self.shard_ids, 0)
        for shard_id, length in self.runs:
            owned[shard_id] += length
        return max(owned.values()) / SLOT_COUNT

    @property
    def owners(self) -> Owners:
        """The shard id of each slot, uint16 (SLOT_COUNT,), read-only; made once."""
        return _owners(self.runs)

    def split_by_shard(self, keys: KeyArray) -> RowsByShard:
        """The rows of `keys` that each shard owns, ascending, intp arrays; shards without a row are left out.

        Cost: microseconds for one key, one hash and one stable radix sort of uint16 for many.
        """
        if len(self.shard_ids) == 1 and len(keys):
            return {self.shard_ids[0]: np.arange(len(keys))}
        return self.split_slots(slots_of(keys)) if len(keys) else {}

    def split_slots(self, slots: Slots) -> RowsByShard:
        """The same, of points whose slots are known: uint16 (count,)."""
        if len(slots) == 0:
            return {}
        owners = self.owners[slots]
        if len(slots) == 1:
            return {int(owners[0]): np.zeros(1, np.intp)}
        rows = np.argsort(owners, kind="stable")
        ordered = owners[rows]
        starts = np.flatnonzero(np.diff(ordered)) + 1
        firsts = ordered[np.concatenate(([0], starts))]
        return dict(zip(firsts.tolist(), np.split(rows, starts), strict=True))


def even_map(shard_ids: Sequence[int], epoch: int) -> ShardMap:
    """One run of slots for each shard, in the order given; their lengths differ by at most 1.

    Runs suffice for balance because a point's slot is a hash: neighbouring slots have nothing else in common.
    Raises InvalidRequest where there is no shard, one is named twice, or there are more shards than slots.
    """
    count = len(shard_ids)
    if not 1 <= count <= SLOT_COUNT or len(set(shard_ids)) != count:
        raise InvalidRequest(
            f"a shard map needs 1 to {SLOT_COUNT} different shards, got {count} ({len(set(shard_ids))} different)"
        )
    length, longer = divmod(SLOT_COUNT, count)
    runs = tuple((shard_id, length + (place < longer)) for place, shard_id in enumerate(shard_ids))
    return ShardMap(epoch=epoch, runs=runs)


# Not cached in the model: pydantic compares all that a model holds, and arrays don't compare to one truth.
@lru_cache(maxsize=256)
def _owners(runs: Runs) -> Owners:
    shard_ids, lengths = zip(*runs, strict=True)
    owners = np.repeat(np.array(shard_ids, np.uint16), lengths)
    owners.flags.writeable = False
    return owners
