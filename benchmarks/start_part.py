"""Part `start`: from `up` on the loaded folder to the first right answer, beside the same stack with the empty
handler; `down`.

Starts alternate. Nothing else runs meanwhile; the loaded files are in the system's cache, as the benchmark has just
read them.
"""

from __future__ import annotations

from statistics import median
from time import perf_counter

import numpy as np

from benchmarks.bench import EMPTY, Bench, say
from benchmarks.datasets import Ids
from benchmarks.graphs import search_ids
from benchmarks.http_client import Client
from benchmarks.query_bodies import found_ids, query_bodies
from benchmarks.results import Row
from deployments import lifecycle
from deployments.config import Settings

PART = "start"
EXTRA_MAX_S = 5.0
DOWN_MAX_S = 10.0


def measure(bench: Bench) -> list[Row]:
    """Medians of the starts, the longest of the ends."""
    right, _ = search_ids(bench.shard_graphs, bench.data.queries[:1], bench.ask.ef)
    ups: dict[str, list[float]] = {"empty handler": [], "Shoal": []}
    downs: list[float] = []
    for _ in range(bench.scale.starts):
        ups["empty handler"].append(_start(bench, bench.empty, EMPTY, None)[0])
        up_s, down_s = _start(bench, bench.shoal, lifecycle.APPLICATION, right)
        ups["Shoal"].append(up_s)
        downs.append(down_s)
        say(f"up: empty {ups['empty handler'][-1]:.1f} s, Shoal {up_s:.1f} s; down {down_s:.1f} s")
    empty_s, shoal_s = median(ups["empty handler"]), median(ups["Shoal"])
    extra_max_s, down_max_s = bench.target(EXTRA_MAX_S), bench.target(DOWN_MAX_S)
    note = f"{bench.data.spec.point_count:,} points"
    return [
        bench.row(PART, "empty handler, up to the first answer", empty_s, "s"),
        bench.row(PART, "Shoal, up to the first right answer", shoal_s, "s", note=note),
        bench.row(
            PART, "Shoal beyond the empty handler", shoal_s - empty_s, "s", target=extra_max_s, bound="at most"
        ),
        bench.row(PART, "down, the longest", max(downs), "s", target=down_max_s, bound="at most"),
    ]


def _start(bench: Bench, settings: Settings, application: str, right: Ids | None) -> tuple[float, float]:
    """Seconds to the first answer (which must be `right`, if given), and to the end."""
    body = query_bodies(bench.data.queries[:1], bench.ask)[0]
    began = perf_counter()
    info = lifecycle.up(settings, application)
    try:
        with Client(info.url) as client:
            answer = client.send("POST", bench.path, body)
        up_s = perf_counter() - began
        if right is not None and not np.array_equal(found_ids(answer, bench.ask.k), right):
            raise RuntimeError(f"the first answer of the cluster is not what its graphs say: {answer[:300]!r}")
    finally:
        began = perf_counter()
        lifecycle.down(settings)
        down_s = perf_counter() - began
    return up_s, down_s
