"""A Python process that holds one hnswlib graph and nothing else, for the memory of the part `million`.

`python -m benchmarks.bare_index GRAPH DIM ROWS` loads the graph and prints its own anonymous bytes before and after.
"""

from __future__ import annotations

import json
import os
import sys

import hnswlib

from benchmarks.shard_processes import memory_of


def main(path: str, dim: int, rows: int) -> None:
    """Load, measure, print."""
    before = memory_of(os.getpid()).anonymous
    index = hnswlib.Index(space="ip", dim=dim)
    index.load_index(path, max_elements=rows)
    assert index.get_current_count() == rows
    print(json.dumps({"before": before, "after": memory_of(os.getpid()).anonymous}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
