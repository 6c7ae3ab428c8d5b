"""Part `http`: Shoal beside the empty handler, single queries at 1 to 256 connections.

Shoal stands there twice, with two shards and with one: a query to two costs two graphs' searches, two messages and a merge,
which pays where there are cores for them. So does the empty handler: on Serve's own way, as anybody would deploy it, and on
the short way that Shoal's routers take (benchmarks/empty_app.py). One cluster runs at a time, for an idle one's daemons take
their part of two cores too, and rounds alternate between them: the machine's own ups and downs then meet all. First the
recall of what is asked for is measured, over HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks import wrk
from benchmarks.bench import EMPTY, EMPTY_DIRECT, RECALL_MIN, Bench, run_load, running, say
from benchmarks.datasets import recall
from benchmarks.http_client import Client
from benchmarks.load_part import ensure_loaded
from benchmarks.query_bodies import query_bodies
from benchmarks.results import Row
from deployments import lifecycle
from deployments.config import Settings

PART = "http"
CONNECTIONS = (1, 16, 64, 256)
P50_RATIO_MAX = 1.8
THROUGHPUT_RATIO_MIN = 0.6
STEADY_RATIO_MIN = 0.9
P99_OF_P50_MAX = 10.0
WARM_S = 1.0

SHOAL, ONE_SHARD = "Shoal", "Shoal, 1 shard"
SERVE_EMPTY, DIRECT_EMPTY = "empty handler", "empty handler, short way"

Name = str
Runs = dict[tuple[Name, int], list[wrk.Outcome]]
Typical = Mapping[tuple[Name, int], wrk.Outcome]


@dataclass(frozen=True)
class Measured:
    """What is put under load: `bodies`, a file of what is sent to it; `answer`: what the empty handler answers."""

    settings: Settings
    application: str
    bodies: Path
    answer: bytes = b""


def measure(bench: Bench) -> list[Row]:
    """Recall, then rates and latencies of all, then what the targets are about."""
    single = Bench(bench.data, bench.scale, 1)
    for one in (bench, single):
        ensure_loaded(one)
    measured: dict[Name, Measured] = {}
    rows: list[Row] = []
    for name, one in ((SHOAL, bench), (ONE_SHARD, single)):
        bodies = query_bodies(bench.data.queries, one.ask)
        with running(one.shoal) as shoal, Client(shoal.url) as client:
            found = recall(client.ask_all(bench.path, bodies, one.ask.k), bench.data.truth)
            answer = client.send("POST", bench.path, bodies[0])
        say(f"{name}: recall@10 over HTTP {found:.3f} with ef {one.ask.ef}; bodies of {len(bodies[0])} bytes")
        note = f"ef {one.ask.ef}, answers of {len(answer)} bytes"
        what = "recall@10 over HTTP" + name.removeprefix(SHOAL)
        rows.append(bench.row(PART, what, found, "", target=RECALL_MIN, note=note))
        file = bench.write_bodies(f"queries-{len(measured)}.jsonl", bodies)
        measured[name] = Measured(one.shoal, lifecycle.APPLICATION, file, answer)
    sent, answer = measured[SHOAL].bodies, measured[SHOAL].answer
    measured[SERVE_EMPTY] = Measured(bench.empty, EMPTY, sent, answer)
    measured[DIRECT_EMPTY] = Measured(bench.empty, EMPTY_DIRECT, sent, answer)
    runs, cpu = _alternate(bench, measured)
    typical = {key: wrk.typical(outcomes) for key, outcomes in runs.items()}
    for (name, connections), load in typical.items():
        note = f"p50 {load.p50_ms:.2f} ms, p99 {load.p99_ms:.2f} ms, {load.errors} errors"
        what = f"{name}, {connections} connections"
        rows.append(bench.row(PART, what, load.rate, "requests/s", note=note, cpu=cpu[name, connections]))
    return rows + judge(bench, typical)


def judge(bench: Bench, typical: Typical) -> list[Row]:
    """The figures that have targets, and the same beside the empty handler on the short way."""
    rows: list[Row] = []
    for name in (SHOAL, ONE_SHARD):
        rows += _judge_one(bench, typical, name)
    return rows


def _judge_one(bench: Bench, typical: Typical, name: Name) -> list[Row]:
    suffix = name.removeprefix(SHOAL)
    own = {connections: typical[name, connections] for connections in CONNECTIONS}
    rows: list[Row] = []
    for empty, way in ((SERVE_EMPTY, ""), (DIRECT_EMPTY, ", short way")):
        is_judged = empty == SERVE_EMPTY
        p50 = own[1].p50_ms / typical[empty, 1].p50_ms
        throughput = own[16].rate / typical[empty, 16].rate
        p50_max = bench.target(P50_RATIO_MAX) if is_judged else None
        throughput_min = bench.target(THROUGHPUT_RATIO_MIN) if is_judged else None
        what = f"p50 at 1 connection{way}{suffix}"
        rows.append(bench.row(PART, what, p50, "x empty", target=p50_max, bound="at most"))
        what = f"throughput at 16 connections{way}{suffix}"
        rows.append(bench.row(PART, what, throughput, "x empty", target=throughput_min))
    for connections in (64, 256):
        steady = own[connections].rate / own[16].rate
        what = f"throughput at {connections} connections{suffix}"
        rows.append(bench.row(PART, what, steady, "x at 16", target=bench.target(STEADY_RATIO_MIN)))
    tail, tail_max = own[256].p99_ms / own[256].p50_ms, bench.target(P99_OF_P50_MAX)
    rows.append(bench.row(PART, f"p99 at 256 connections{suffix}", tail, "x p50", target=tail_max, bound="at most"))
    errors = sum(load.errors for load in own.values())
    rows.append(bench.row(PART, f"errors at 1 to 256 connections{suffix}", errors, "", target=0, bound="at most"))
    return rows


def _alternate(bench: Bench, measured: Mapping[Name, Measured]) -> tuple[Runs, dict[tuple[Name, int], str]]:
    runs: Runs = {(name, connections): [] for connections in CONNECTIONS for name in measured}
    cpu: dict[tuple[Name, int], str] = {}
    for _ in range(bench.scale.rounds):
        for name, one in measured.items():
            with running(one.settings, one.application) as info:
                if one.application != lifecycle.APPLICATION:
                    with Client(info.url) as client:
                        client.send("PUT", bench.path, one.answer)
                target = wrk.Target(info.url, bench.path, one.bodies)
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
