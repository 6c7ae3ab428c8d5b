"""Which slot a point belongs to.

A slot is `hash(routing key) % SLOT_COUNT`; the routing key is the point's id, or its tenant's name in a collection that
has a tenant field (cluster/tenants.py). Slots are the virtual nodes of consistent hashing made explicit: the
shard map assigns them to shards, and a point never changes its slot. So this hash is part of the format on disk: it
must never change. It is the finaliser of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
generators", 2014) over the id's 64 bits, or over the xor of a UUID's halves; of a name the first 64 bits of its BLAKE2b.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from shards.point_ids import NARROW, KeyArray

SLOT_COUNT = 4096
Slots = npt.NDArray[np.uint16]
_MASK = (1 << 64) - 1
_GOLDEN, _MIX_1, _MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
# An integer and a UUID with the same bits are different points: their slots should differ too.
_UUID_SALT = 0x5851F42D4C957F2D


def slots_of(keys: KeyArray) -> Slots:
    """The slot of each key, uint16 (count,)."""
    if keys.dtype == NARROW:
        bits = keys.astype(np.uint64)
    else:
        octets = np.frombuffer(keys.tobytes(), np.uint8).reshape(-1, 17)
        halves = np.ascontiguousarray(octets[:, 1:]).view(">u8").astype(np.uint64)
        salt = np.where(octets[:, 0] == 1, np.uint64(_UUID_SALT), np.uint64(0))
        bits = halves[:, 0] ^ halves[:, 1] ^ salt
    mixed = bits + np.uint64(_GOLDEN)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(_MIX_1)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(_MIX_2)
    mixed ^= mixed >> np.uint64(31)
    return (mixed % np.uint64(SLOT_COUNT)).astype(np.uint16)


def slot_of_name(name: str) -> int:
    """The slot of a tenant's name. A hash of good spread whatever the names are, as they are often numbered: about 1 us."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little") % SLOT_COUNT
