"""Part `graphs`: hnswlib alone on one core, at several ef, over one graph of all points and over the shards' own
graphs.
"""

from __future__ import annotations

from statistics import median

from benchmarks.bench import Bench, say
from benchmarks.graphs import EF_LADDER, search
from benchmarks.results import Row

PART = "graphs"
EF_STEP = 2
"""Every other ef of the ladder will do for a table."""


def measure(bench: Bench) -> list[Row]:
    """A row for each ef and kind of graph, and for the ef that the other parts ask for."""
    rows = []
    chosen = bench.ask.ef
    for ef in sorted({*EF_LADDER[1::EF_STEP], chosen}):
        for name, graphs in (
            ("one graph", [bench.single]),
            (f"{len(bench.shard_graphs)} shard graphs", bench.shard_graphs),
        ):
            found = [search(graphs, bench.data, ef) for _ in range(bench.scale.rounds)]
            note = f"recall@10 {found[0].recall:.3f}" + (
                ", asked for below" if ef == chosen and graphs is bench.shard_graphs else ""
            )
            rate = median(one.rate for one in found)
            rows.append(bench.row(PART, f"hnswlib, one core, {name}, ef {ef}", rate, "queries/s", note=note))
            say(f"{rows[-1].what}: {rate:,.0f}/s, {note}")
    return rows
