"""Part `batch`: a hundred queries a request, beside what all cores could do if each ran hnswlib alone on the same
graphs.

hnswlib's rate is measured between the runs, while the cluster idles. Its rate over one graph of all points, at the
same recall, stands beside it: that is what a cluster of one shard would be measured against.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

from benchmarks import wrk
from benchmarks.bench import CORES, RECALL_MIN, Bench, run_load, running, say
from benchmarks.datasets import recall
from benchmarks.graphs import search, smallest_ef
from benchmarks.http_client import Client
from benchmarks.query_bodies import batch_bodies
from benchmarks.results import Row

PART = "batch"
BATCH = 100
CONNECTIONS = (1, 2, 4)
SHARE_MIN = 0.75
WARM_S = 1.0


@dataclass(frozen=True)
class Alone:
    """hnswlib's rates, one a round: one core, all cores, and one core over a graph of all points."""

    single_ef: int
    one_core: list[float] = field(default_factory=list)
    all_cores: list[float] = field(default_factory=list)
    single_graph: list[float] = field(default_factory=list)

    def measure(self, bench: Bench) -> None:
        """One more round."""
        ef = bench.ask.ef
        self.one_core.append(search(bench.shard_graphs, bench.data, ef).rate)
        self.all_cores.append(search(bench.shard_graphs, bench.data, ef, CORES).rate)
        self.single_graph.append(search([bench.single], bench.data, self.single_ef).rate)


def measure(bench: Bench) -> list[Row]:
    """Recall, hnswlib's rates, Shoal's at each number of connections, and the ratio of the best."""
    bodies = batch_bodies(bench.data.queries, bench.ask, BATCH)
    path = bench.path + "/batch"
    alone = Alone(smallest_ef([bench.single], bench.data, RECALL_MIN))
    runs: dict[int, list[wrk.Outcome]] = {connections: [] for connections in CONNECTIONS}
    cpu: dict[int, str] = {}
    with running(bench.shoal) as info:
        with Client(info.url) as client:
            found = recall(client.ask_all(path, bodies, bench.ask.k), bench.data.truth[: len(bodies) * BATCH])
        target = wrk.Target(info.url, path, bench.write_bodies("batches.jsonl", bodies))
        wrk.run(target, 2, WARM_S)
        for _ in range(bench.scale.rounds):
            alone.measure(bench)
            say(
                f"hnswlib, one core: {alone.one_core[-1]:,.0f} queries/s, {CORES} threads: {alone.all_cores[-1]:,.0f}"
            )
            for connections in CONNECTIONS:
                outcome, cpu[connections] = run_load(info, target, connections, bench.scale.run_s)
                runs[connections].append(outcome)
                rate = f"{outcome.rate * BATCH:,.0f} queries/s, {outcome.errors} errors"
                say(f"batches, {connections} connections: {rate}; {cpu[connections]}")
    recall_row = bench.row(PART, "recall@10 over HTTP", found, "", target=RECALL_MIN, note=f"ef {bench.ask.ef}")
    typical = {connections: wrk.typical(outcomes) for connections, outcomes in runs.items()}
    return [recall_row, *_alone_rows(bench, alone), *_shoal_rows(bench, typical, cpu), *judge(bench, typical, alone)]


def judge(bench: Bench, typical: Mapping[int, wrk.Outcome], alone: Alone) -> list[Row]:
    """The best rate as a share of what all cores could do."""
    connections, best = max(typical.items(), key=lambda item: item[1].rate)
    rate, note = best.rate * BATCH, f"at {connections} connections"
    target = bench.target(SHARE_MIN)
    shards, single = CORES * median(alone.one_core), CORES * median(alone.single_graph)
    errors = sum(one.errors for one in typical.values())
    return [
        bench.row(PART, "best share of all cores", rate / shards, "x hnswlib", target=target, note=note),
        bench.row(PART, "the same, of one graph's rate", rate / single, "x hnswlib", note=note),
        bench.row(PART, "errors", errors, "", target=0, bound="at most"),
    ]


def _alone_rows(bench: Bench, alone: Alone) -> list[Row]:
    shards = f"{len(bench.shard_graphs)} shard graphs, ef {bench.ask.ef}"
    rates = {
        f"hnswlib, one core, {shards}": alone.one_core,
        f"hnswlib, {CORES} threads, {shards}": alone.all_cores,
        f"hnswlib, one core, one graph, ef {alone.single_ef}": alone.single_graph,
    }
    return [bench.row(PART, what, median(found), "queries/s") for what, found in rates.items()]


def _shoal_rows(bench: Bench, typical: Mapping[int, wrk.Outcome], cpu: Mapping[int, str]) -> list[Row]:
    rows = []
    for connections, one in typical.items():
        what = f"Shoal, batches of {BATCH}, {connections} connections"
        note = f"p50 {one.p50_ms:.1f} ms a batch, {one.errors} errors"
        rows.append(bench.row(PART, what, one.rate * BATCH, "queries/s", note=note, cpu=cpu[connections]))
    return rows
