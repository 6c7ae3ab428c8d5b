"""Part `http`: Shoal beside the empty handler, single queries at 1 to 256 connections.

The empty handler stands there twice: on Serve's own way, as anybody would deploy it, and on the short way that Shoal's
routers take (benchmarks/empty_app.py). One cluster runs at a time, for an idle one's daemons take their part of two
cores too, and rounds alternate between them: the machine's own ups and downs then meet all. First the recall of what is
asked for is measured, over HTTP.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks import wrk
from benchmarks.bench import EMPTY, EMPTY_DIRECT, RECALL_MIN, Bench, run_load, running, say
from benchmarks.datasets import recall
from benchmarks.http_client import Client
from benchmarks.query_bodies import query_bodies
from benchmarks.results import Row
from deployments import lifecycle

PART = "http"
CONNECTIONS = (1, 16, 64, 256)
P50_RATIO_MAX = 2.2
THROUGHPUT_RATIO_MIN = 0.5
STEADY_RATIO_MIN = 0.9
WARM_S = 1.0

SHOAL, SERVE_EMPTY, DIRECT_EMPTY = "Shoal", "empty handler", "empty handler, short way"
APPLICATIONS = {SERVE_EMPTY: EMPTY, DIRECT_EMPTY: EMPTY_DIRECT, SHOAL: lifecycle.APPLICATION}

Name = str
Runs = dict[tuple[Name, int], list[wrk.Outcome]]


def measure(bench: Bench) -> list[Row]:
    """Recall, then rates and latencies of both, then what the targets are about."""
    bodies = query_bodies(bench.data.queries, bench.ask)
    file = bench.write_bodies("queries.jsonl", bodies)
    with running(bench.shoal) as shoal, Client(shoal.url) as client:
        found = recall(client.ask_all(bench.path, bodies, bench.ask.k), bench.data.truth)
        answer = client.send("POST", bench.path, bodies[0])
    sizes = f"bodies of {len(bodies[0])} bytes, answers of {len(answer)}"
    say(f"recall@10 over HTTP {found:.3f} with ef {bench.ask.ef}; {sizes}")
    runs, cpu = _alternate(bench, file, answer)
    note = f"ef {bench.ask.ef}, answers of {len(answer)} bytes"
    rows = [bench.row(PART, "recall@10 over HTTP", found, "", target=RECALL_MIN, note=note)]
    typical = {key: wrk.typical(outcomes) for key, outcomes in runs.items()}
    for (name, connections), one in typical.items():
        note = f"p50 {one.p50_ms:.2f} ms, p99 {one.p99_ms:.2f} ms, {one.errors} errors"
        what = f"{name}, {connections} connections"
        rows.append(bench.row(PART, what, one.rate, "requests/s", note=note, cpu=cpu[name, connections]))
    return rows + judge(bench, typical)


def judge(bench: Bench, typical: dict[tuple[Name, int], wrk.Outcome]) -> list[Row]:
    """The figures that have targets, and the same beside the empty handler on the short way."""
    shoal = {connections: typical[SHOAL, connections] for connections in CONNECTIONS}
    rows: list[Row] = []
    for name, way in ((SERVE_EMPTY, ""), (DIRECT_EMPTY, ", short way")):
        is_judged = name == SERVE_EMPTY
        p50 = shoal[1].p50_ms / typical[name, 1].p50_ms
        throughput = shoal[16].rate / typical[name, 16].rate
        p50_max = bench.target(P50_RATIO_MAX) if is_judged else None
        throughput_min = bench.target(THROUGHPUT_RATIO_MIN) if is_judged else None
        rows += [
            bench.row(PART, f"p50 at 1 connection{way}", p50, "x empty", target=p50_max, bound="at most"),
            bench.row(PART, f"throughput at 16 connections{way}", throughput, "x empty", target=throughput_min),
        ]
    for connections in (64, 256):
        steady = shoal[connections].rate / shoal[16].rate
        what = f"throughput at {connections} connections"
        rows.append(bench.row(PART, what, steady, "x at 16", target=bench.target(STEADY_RATIO_MIN)))
    errors = sum(one.errors for one in shoal.values())
    rows.append(bench.row(PART, "errors at 1 to 256 connections", errors, "", target=0, bound="at most"))
    return rows


def _alternate(bench: Bench, file: Path, answer: bytes) -> tuple[Runs, dict[tuple[Name, int], str]]:
    runs: Runs = {(name, connections): [] for connections in CONNECTIONS for name in APPLICATIONS}
    cpu: dict[tuple[Name, int], str] = {}
    for _ in range(bench.scale.rounds):
        for name, application in APPLICATIONS.items():
            settings = bench.shoal if name == SHOAL else bench.empty
            with running(settings, application) as info:
                if name != SHOAL:
                    with Client(info.url) as client:
                        client.send("PUT", bench.path, answer)
                target = wrk.Target(info.url, bench.path, file)
                wrk.run(target, 16, WARM_S)
                for connections in CONNECTIONS:
                    outcome, used = run_load(info, target, connections, bench.scale.run_s)
                    runs[name, connections].append(outcome)
                    cpu[name, connections] = used
                    say(
                        f"{name}, {connections} connections: {outcome.rate:,.0f}/s, p50 {outcome.p50_ms:.2f} ms, "
                        f"p99 {outcome.p99_ms:.2f} ms, {outcome.errors} errors; {used}"
                    )
    return runs, cpu
