"""Part `cache`: kept answers beside the empty handler, at 16 connections.

Three loads: a thousand queries that are all kept, checked with the shards each time (`validated`) and not (`unvalidated`:
the router allows an answer that was checked within ten minutes), and a Zipf mix (s = 1.1 over 100,000 queries, made of the
data's own vectors with a little noise), drawn once and sent in that order, with the cache and without. Clusters alternate
as in the part `http`. How many were kept is what the router counted itself.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from benchmarks import wrk
from benchmarks.bench import EMPTY, Bench, run_load, running, say
from benchmarks.http_client import Client
from benchmarks.query_bodies import Floats, query_bodies
from benchmarks.results import Row
from deployments import lifecycle
from deployments.cache_settings import CacheSettings
from deployments.config import Settings
from shards.distance import normalised

PART = "cache"
CONNECTIONS = 16
WARM_S = 2.0
VALIDATED_MIN, UNVALIDATED_MIN = 0.65, 0.8
ZIPF_S, ZIPF_QUERIES, ZIPF_DRAWS = 1.1, 100_000, 100_000
ZIPF_RUNS = 4
"""Times `run_s`: one pass over the drawn queries, at the rates that were seen."""
NOISE = 0.05
TEN_MINUTES_MS = 600_000
EMPTY_HANDLER, VALIDATED, UNVALIDATED = "empty handler", "validated answers", "unvalidated answers"
ZIPF, ZIPF_WITHOUT = "Zipf mix", "Zipf mix without the cache"
_COUNTER = re.compile(r'^shoal_cache_(\w+?)_total\{[^}]*?(?:level="(\w+)")?[^}]*\} (\d+)', re.MULTILINE)


def measure(bench: Bench) -> list[Row]:
    """Rates of all, how many answers were kept, and what the targets are about."""
    kept = query_bodies(bench.data.queries, bench.ask)
    drawn = zipf_bodies(bench)
    files = {  # the empty handler gives the answer that the run before it got
        VALIDATED: bench.write_bodies("kept.jsonl", kept),
        EMPTY_HANDLER: bench.data.folder / "kept.jsonl",
        UNVALIDATED: bench.data.folder / "kept.jsonl",
        ZIPF: bench.write_bodies("zipf.jsonl", drawn),
        ZIPF_WITHOUT: bench.data.folder / "zipf.jsonl",
    }
    outcomes: dict[str, list[wrk.Outcome]] = {name: [] for name in files}
    notes: dict[str, str] = {}
    for _ in range(bench.scale.rounds):
        for name, file in files.items():
            outcome, notes[name] = _run(bench, name, file)
            outcomes[name].append(outcome)
    typical = {name: wrk.typical(runs) for name, runs in outcomes.items()}
    rows = [
        bench.row(PART, name, one.rate, "requests/s", note=f"{_latency(one)}, {one.errors} errors; {notes[name]}")
        for name, one in typical.items()
    ]
    empty = typical[EMPTY_HANDLER].rate
    for name, target in (
        (VALIDATED, VALIDATED_MIN),
        (UNVALIDATED, UNVALIDATED_MIN),
        (ZIPF, None),
        (ZIPF_WITHOUT, None),
    ):
        judged = None if target is None else bench.target(target)
        rows.append(
            bench.row(PART, f"{name} beside the empty handler", typical[name].rate / empty, "x empty", target=judged)
        )
    return rows


def _run(bench: Bench, name: str, file: Path) -> tuple[wrk.Outcome, str]:
    """One load on a cluster of its own; the outcome, and what the router says of its cache."""
    is_empty = name == EMPTY_HANDLER
    settings = _settings(bench, name)
    with running(settings, EMPTY if is_empty else lifecycle.APPLICATION) as info, Client(info.url) as client:
        if is_empty:
            client.send("PUT", bench.path, bench.data.folder.joinpath("answer.json").read_bytes())
        elif name == VALIDATED:
            answer = client.send("POST", bench.path, file.read_bytes().split(b"\n", 1)[0])
            bench.data.folder.joinpath("answer.json").write_bytes(answer)
        target = wrk.Target(info.url, bench.path, file)
        if name not in (ZIPF, ZIPF_WITHOUT):
            wrk.run(target, CONNECTIONS, WARM_S)
        before = {} if is_empty else _counters(client)
        seconds = bench.scale.run_s * (ZIPF_RUNS if name in (ZIPF, ZIPF_WITHOUT) else 1)
        outcome, used = run_load(info, target, CONNECTIONS, seconds)
        note = "" if is_empty else _told(before, _counters(client))
    say(f"{name}: {outcome.rate:,.0f}/s, {_latency(outcome)}, {outcome.errors} errors; {note}; {used}")
    return outcome, note


def _settings(bench: Bench, name: str) -> Settings:
    if name == EMPTY_HANDLER:
        return bench.empty
    chosen = {
        UNVALIDATED: CacheSettings(staleness_ms=TEN_MINUTES_MS, staleness_ms_max=TEN_MINUTES_MS),
        ZIPF_WITHOUT: CacheSettings(l1_bytes=0),
    }
    return bench.shoal.model_copy(update={"cache": chosen.get(name, CacheSettings())})


def zipf_bodies(bench: Bench) -> list[bytes]:
    """The drawn queries' bodies, in the order in which they are sent; seeded."""
    rng = np.random.default_rng(1)
    count = min(ZIPF_QUERIES, bench.data.spec.point_count)
    rows = rng.choice(bench.data.spec.point_count, count, replace=False)
    vectors: Floats = np.array(bench.data.vectors)[rows]
    noise = rng.standard_normal(vectors.shape, np.float32) * NOISE / np.sqrt(vectors.shape[1])
    bodies = query_bodies(normalised(vectors + noise.astype(np.float32)), bench.ask)
    shares = np.arange(1, count + 1, dtype=np.float64) ** -ZIPF_S
    drawn = rng.choice(count, ZIPF_DRAWS, p=shares / shares.sum())
    return [bodies[number] for number in drawn.tolist()]


def _counters(client: Client) -> dict[str, int]:
    text = client.send("GET", "/metrics", b"").decode()
    return {f"{name}_{level}".rstrip("_"): int(value) for name, level, value in _COUNTER.findall(text)}


def _told(before: dict[str, int], after: dict[str, int]) -> str:
    spent = {name: after[name] - before.get(name, 0) for name in after}
    hits = spent.get("hits_l1", 0)
    asked = hits + spent.get("hits_shard", 0) + spent.get("misses", 0)
    return f"{hits / asked:.1%} of {asked:,} answers were kept ones" if asked else "no cache"


def _latency(outcome: wrk.Outcome) -> str:
    return f"p50 {outcome.p50_ms:.2f} ms, p99 {outcome.p99_ms:.2f} ms"
