"""Points as a shard hands them out when they are asked for by id."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shards.batch import PointBatch


@dataclass(frozen=True, slots=True)
class Records:
    """versions: uint64 (count,); batch: keys, payloads and vectors (dim 0 where they were not asked for)."""

    versions: npt.NDArray[np.uint64]
    batch: PointBatch
