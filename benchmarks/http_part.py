"""Part `http`: Shoal beside the empty handler, single queries at 1 to 256 connections.

Both clusters run side by side, one idle while the other is measured, and short runs alternate between them: the
machine's own ups and downs then meet both. First the recall of what is asked for is measured, over HTTP.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks import wrk
from benchmarks.bench import EMPTY, RECALL_MIN, Bench, run_load, running, say
from benchmarks.datasets import recall
from benchmarks.http_client import Client
from benchmarks.query_bodies import query_bodies
from benchmarks.results import Row
from deployments.data_folder import RunInfo

PART = "http"
CONNECTIONS = (1, 16, 64, 256)
P50_RATIO_MAX = 2.2
THROUGHPUT_RATIO_MIN = 0.5
STEADY_RATIO_MIN = 0.9
WARM_S = 1.0

Name = str
Runs = dict[tuple[Name, int], list[wrk.Outcome]]


def measure(bench: Bench) -> list[Row]:
    """Recall, then rates and latencies of both, then what the targets are about."""
    bodies = query_bodies(bench.data.queries, bench.ask)
    file = bench.write_bodies("queries.jsonl", bodies)
    with running(bench.shoal) as shoal, running(bench.empty, EMPTY) as empty:
        with Client(shoal.url) as client, Client(empty.url) as other:
            found = recall(client.ask_all(bench.path, bodies, bench.ask.k), bench.data.truth)
            answer = client.send("POST", bench.path, bodies[0])
            other.send("PUT", bench.path, answer)
        sizes = f"bodies of {len(bodies[0])} bytes, answers of {len(answer)}"
        say(f"recall@10 over HTTP {found:.3f} with ef {bench.ask.ef}; {sizes}")
        runs, cpu = _alternate(bench, {"empty handler": empty, "Shoal": shoal}, file)
    note = f"ef {bench.ask.ef}, answers of {len(answer)} bytes"
    rows = [bench.row(PART, "recall@10 over HTTP", found, "", target=RECALL_MIN, note=note)]
    typical = {key: wrk.typical(outcomes) for key, outcomes in runs.items()}
    for (name, connections), one in typical.items():
        note = f"p50 {one.p50_ms:.2f} ms, p99 {one.p99_ms:.2f} ms, {one.errors} errors"
        what = f"{name}, {connections} connections"
        rows.append(bench.row(PART, what, one.rate, "requests/s", note=note, cpu=cpu[name, connections]))
    return rows + judge(bench, typical)


def judge(bench: Bench, typical: dict[tuple[Name, int], wrk.Outcome]) -> list[Row]:
    """The figures that have targets."""
    shoal = {connections: typical["Shoal", connections] for connections in CONNECTIONS}
    empty = {connections: typical["empty handler", connections] for connections in CONNECTIONS}
    p50 = shoal[1].p50_ms / empty[1].p50_ms
    throughput = shoal[16].rate / empty[16].rate
    p50_max, throughput_min = bench.target(P50_RATIO_MAX), bench.target(THROUGHPUT_RATIO_MIN)
    rows = [
        bench.row(PART, "p50 at 1 connection", p50, "x empty", target=p50_max, bound="at most"),
        bench.row(PART, "throughput at 16 connections", throughput, "x empty", target=throughput_min),
    ]
    for connections in (64, 256):
        steady = shoal[connections].rate / shoal[16].rate
        what = f"throughput at {connections} connections"
        rows.append(bench.row(PART, what, steady, "x at 16", target=bench.target(STEADY_RATIO_MIN)))
    errors = sum(one.errors for one in shoal.values())
    rows.append(bench.row(PART, "errors at 1 to 256 connections", errors, "", target=0, bound="at most"))
    return rows


def _alternate(bench: Bench, clusters: dict[Name, RunInfo], file: Path) -> tuple[Runs, dict[tuple[Name, int], str]]:
    runs: Runs = {(name, connections): [] for connections in CONNECTIONS for name in clusters}
    cpu: dict[tuple[Name, int], str] = {}
    targets = {name: wrk.Target(info.url, bench.path, file) for name, info in clusters.items()}
    for target in targets.values():
        wrk.run(target, 16, WARM_S)
    for _ in range(bench.scale.rounds):
        for connections in CONNECTIONS:
            for name, info in clusters.items():
                outcome, used = run_load(info, targets[name], connections, bench.scale.run_s)
                runs[name, connections].append(outcome)
                cpu[name, connections] = used
                say(
                    f"{name}, {connections} connections: {outcome.rate:,.0f}/s, p50 {outcome.p50_ms:.2f} ms, "
                    f"p99 {outcome.p99_ms:.2f} ms, {outcome.errors} errors; {used}"
                )
    return runs, cpu
