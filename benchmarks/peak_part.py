"""Part `peak`: the most queries per second that the machine answers, batches and kept answers side by side.

Up to two load generators run at once: batches of a hundred queries, and single queries whose answers are all kept. Batches
are of two kinds: a thousand queries whose answers are kept, too, and the Zipf mix of the part `cache`, drawn in its order, of
which about a fifth has to be searched. Kept answers are validated with the shards each time, or not. A query counts as one
operation, whichever way it came. Each mix has a cluster of its own, so that the Zipf mix always begins with an empty cache.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from benchmarks import cpu_shares, wrk
from benchmarks.batch_part import BATCH
from benchmarks.bench import Bench, running, say
from benchmarks.cache_part import TEN_MINUTES_MS, zipf_bodies
from benchmarks.query_bodies import batch_bodies, in_batches, query_bodies
from benchmarks.results import Row
from deployments import lifecycle
from deployments.cache_settings import CacheSettings
from deployments.data_folder import RunInfo

PART = "peak"
WARM_S = 2.0
CACHES = {
    "validated": CacheSettings(),
    "unvalidated": CacheSettings(staleness_ms=TEN_MINUTES_MS, staleness_ms_max=TEN_MINUTES_MS),
}
KEPT, ZIPF = "kept", "Zipf"


class Mix(NamedTuple):
    """Connections of each load, 0: it is left out; and what the batches are of."""

    batches: int
    singles: int
    kind: str = KEPT

    def named(self, checked: str) -> str:
        """For a row."""
        parts = [f"{checked} answers on {self.singles}"] * bool(self.singles)
        parts += [f"batches ({self.kind}, {checked}) on {self.batches}"] * bool(self.batches)
        return f"{', '.join(parts)} connections"


MIXES = (
    Mix(0, 64),
    Mix(2, 0),
    Mix(1, 16),
    Mix(2, 0, ZIPF),
    Mix(4, 0, ZIPF),
    Mix(2, 16, ZIPF),
)


class Load(NamedTuple):
    """What came of both. Rates in queries/s."""

    batch_rate: float
    single_rate: float
    errors: int
    note: str

    @property
    def rate(self) -> float:
        """All queries that were answered, per second."""
        return self.batch_rate + self.single_rate


def measure(bench: Bench) -> list[Row]:
    """Each mix with each way to keep answers, and the best of them."""
    singles = bench.write_bodies("kept.jsonl", query_bodies(bench.data.queries, bench.ask))
    batches = {
        KEPT: bench.write_bodies("kept-batches.jsonl", batch_bodies(bench.data.queries, bench.ask, BATCH)),
        ZIPF: bench.write_bodies("zipf-batches.jsonl", in_batches(zipf_bodies(bench), BATCH)),
    }
    loads: dict[str, list[Load]] = {}
    for _ in range(bench.scale.rounds):
        for kind, cache in CACHES.items():
            settings = bench.shoal.model_copy(update={"cache": cache})
            for mix in MIXES:
                with running(settings) as info:
                    targets = (
                        wrk.Target(info.url, bench.path + "/batch", batches[mix.kind]),
                        wrk.Target(info.url, bench.path, singles),
                    )
                    wrk.run(targets[1], 16, WARM_S)
                    load = _run(info, targets, mix, bench.scale.run_s)
                say(f"{mix.named(kind)}: {load.rate:,.0f} queries/s; {load.note}")
                loads.setdefault(mix.named(kind), []).append(load)
    rows = [_row(bench, name, runs) for name, runs in loads.items()]
    # A refusal counts as an answer in a rate, and comes quickly.
    sound = [row for row, runs in zip(rows, loads.values(), strict=True) if not any(load.errors for load in runs)]
    best = max(sound or rows, key=lambda row: row.value)
    errors = sum(load.errors for runs in loads.values() for load in runs)
    return [
        *rows,
        bench.row(PART, "the most", best.value, "queries/s", note=best.what),
        bench.row(PART, "errors", errors, "", target=0, bound="at most"),
    ]


def _run(info: RunInfo, targets: tuple[wrk.Target, wrk.Target], mix: Mix, seconds: float) -> Load:
    pids = lifecycle.cluster_processes(info)
    before = cpu_shares.take(pids)
    with ThreadPoolExecutor(len(targets)) as pool:
        running_loads = [
            pool.submit(wrk.run, target, connections, seconds) if connections else None
            for target, connections in zip(targets, (mix.batches, mix.singles), strict=True)
        ]
        batches, singles = (None if one is None else one.result() for one in running_loads)
    after = cpu_shares.take(pids)
    outcomes = [one for one in (batches, singles) if one is not None]
    return Load(
        0.0 if batches is None else batches.rate * BATCH,
        0.0 if singles is None else singles.rate,
        sum(one.errors for one in outcomes),
        cpu_shares.in_words(cpu_shares.shares(before, after, sum(one.cpu_s for one in outcomes))),
    )


def _row(bench: Bench, name: str, runs: list[Load]) -> Row:
    middle = sorted(runs, key=lambda load: load.rate)[len(runs) // 2]
    note = f"{middle.batch_rate:,.0f} of them in batches, {sum(load.errors for load in runs)} errors"
    return bench.row(PART, name, middle.rate, "queries/s", note=note, cpu=middle.note)
