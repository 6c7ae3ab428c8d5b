"""Points whose vector and payload follow from seed, id and version: whoever reads one can say whether it is whole. Pure.

Vectors are float32 in [-1, 1), compared bit for bit. The collections of these points are Euclid's: Shoal stores their
vectors as they came.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
WORDS = ("shoal", "reef", "tide", "drift", "kelp", "fathom", "ebb", "squall")
WORDS_MAX = 40


@dataclass(frozen=True)
class PointMaker:
    """Makes the points of one run."""

    seed: int
    dim: int

    def vectors(self, ids: Sequence[int], versions: Sequence[int]) -> Floats:
        """One row a point, float32 (n, dim)."""
        seed = _mixed(np.array([self.seed], np.uint64))
        heads = _mixed(np.array(ids, np.uint64) ^ _mixed(np.array(versions, np.uint64) ^ seed))
        columns = np.arange(1, self.dim + 1, dtype=np.uint64) * _GOLDEN
        bits = _mixed(heads[:, None] + columns[None, :]) >> np.uint64(40)
        return (bits.astype(np.float32) / np.float32(2**23)) - np.float32(1)

    def payload(self, point_id: int, version: int) -> dict[str, Any]:
        """Of a length that differs from version to version."""
        number = int(_mixed(np.array([(point_id * 1_000_003 + version) % 2**63], np.uint64))[0])
        words = " ".join(WORDS[(number >> shift) % len(WORDS)] for shift in range(number % WORDS_MAX))
        return {"id": point_id, "v": version, "text": words}

    def bodies(self, ids: Sequence[int], versions: Sequence[int]) -> list[dict[str, Any]]:
        """The points as the API takes them."""
        rows = self.vectors(ids, versions).tolist()
        return [
            {"id": point_id, "vector": row, "payload": self.payload(point_id, version)}
            for point_id, version, row in zip(ids, versions, rows, strict=True)
        ]

    def version_of(self, point: dict[str, Any]) -> int | None:
        """The version that a point read with payload and vector is, or None where it is not whole."""
        payload = point.get("payload")
        if not isinstance(payload, dict) or not isinstance(payload.get("v"), int):
            return None
        point_id, version = point["id"], payload["v"]
        if version < 0 or payload != self.payload(point_id, version):
            return None
        # As float32: an answer has the shortest text that gives the same float32 back.
        found = np.array(point["vector"], np.float32)
        return version if np.array_equal(found, self.vectors([point_id], [version])[0]) else None


def _mixed(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64 (Steele, Lea, Flood, 2014), which scatters neighbouring numbers."""
    with np.errstate(over="ignore"):
        mixed = numbers + _GOLDEN
        mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX_1
        mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX_2
    return mixed ^ (mixed >> np.uint64(31))
