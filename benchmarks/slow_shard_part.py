"""Part `slow-shard`: one shard of two stalls for 200 ms again and again, hangs, or is dead: what the others' answers take, and
partial ones.

Three callers, one after the other, each a closed loop over a few connections: of a collection that lives on shard 0 alone (the
others' answers), of one over both shards that takes half of them (`shoal-min-coverage: 0.5`), and of the same that
wants all. Shard 1's process is stopped and continued by signals (`slow`: STALL_S stopped, as long running, and so on;
`hung`: stopped throughout), or killed again and again (`dead`: Ray starts it anew each time, which takes seconds; some answers
may be whole). The bound of a partial answer is `router.straggler_wait_s`, or ten times the p95 of the shard that
answers where that is more, on top of its own time.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from time import monotonic, perf_counter, sleep
from urllib.parse import urlsplit

import numpy as np
import orjson

from benchmarks.bench import Bench, say
from benchmarks.datasets import K
from benchmarks.engine import Engine, engine_cluster, write_points
from benchmarks.query_bodies import Ask, query_bodies
from benchmarks.results import Row
from benchmarks.shard_processes import kill_hard
from deployments.config import RouterSettings
from shards.schema import HnswSpec

PART = "slow-shard"
ALONE, BOTH = "alone", "both"
CONNECTIONS = 4
SICK_SHARD = 1
STALL_S = 0.2
TIMEOUT_S = 5.0
"""Of requests that want every shard: a hung one is not waited for any longer."""
OTHERS_MAX = 2.0
"""p99 of the others' answers beside that when all is well."""
PARTIAL_MARGIN_S = 0.05
HEALTH_MAX_S = 120.0
POLL_S = 0.2


@dataclass(frozen=True)
class _Caller:
    """Who asks: `headers` besides the usual."""

    name: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class _Answers:
    """Seconds of the answers with 200, how many of them were partial, and how many answers had another status."""

    seconds: list[float] = field(default_factory=list)
    partial: int = 0
    refused: int = 0

    def p99_s(self) -> float:
        """TIMEOUT_S where there was no answer."""
        return float(np.quantile(self.seconds, 0.99)) if self.seconds else TIMEOUT_S


CALLERS = (
    _Caller("the other shard alone", f"/collections/{ALONE}/points/query?timeout={TIMEOUT_S:g}"),
    _Caller(
        "half is enough", f"/collections/{BOTH}/points/query?timeout={TIMEOUT_S:g}", {"shoal-min-coverage": "0.5"}
    ),
    _Caller("all are wanted", f"/collections/{BOTH}/points/query?timeout={TIMEOUT_S:g}"),
)


def measure(bench: Bench) -> list[Row]:
    """Load, then every state with every caller."""
    count = bench.scale.engine_points
    parquet = bench.data.folder / f"first-{count}.parquet"
    write_points(parquet, np.arange(count, dtype=np.uint64), bench.data.vectors[:count])
    bodies = query_bodies(bench.data.queries, Ask(K, HnswSpec().ef_search, with_payload=False))
    with engine_cluster(bench, PART) as engine:
        spec = {"vectors": {"size": bench.data.spec.dim, "distance": "Cosine"}}
        engine.ask("PUT", f"/collections/{ALONE}", {**spec, "shard_number": 1})
        _load_into(engine, bench, ALONE, count)
        engine.load(parquet, BOTH)
        for collection in (ALONE, BOTH):
            engine.await_rest(collection, bench.scale.quiet_s)
        found = {}
        for state, sickness in STATES.items():
            with sickness(engine):
                for caller in CALLERS:
                    answers = found[state, caller.name] = _ask(engine, caller, bodies, bench.scale.run_s)
                    say(
                        f"{state}, {caller.name}: {len(answers.seconds)} answers, p99 {1000 * answers.p99_s():.1f} ms,"
                        f" {answers.partial} partial, {answers.refused} refused"
                    )
            _await_health(engine)
        return _rows(bench, found)


def _load_into(engine: Engine, bench: Bench, collection: str, count: int) -> None:
    """Points by upserts, for a collection that `shoal load` would spread over every shard."""
    for start in range(0, count, 1000):
        ids = range(start, min(start + 1000, count))
        points = [{"id": row, "vector": np.array(bench.data.vectors[row])} for row in ids]
        engine.ask("PUT", f"/collections/{collection}/points?wait=true", {"points": points})


def _ask(engine: Engine, caller: _Caller, bodies: list[bytes], seconds: float) -> _Answers:
    ends_at = monotonic() + seconds

    def loop(number: int) -> _Answers:
        parts, answers = urlsplit(engine.info.url), _Answers()
        assert parts.hostname is not None
        connection = HTTPConnection(parts.hostname, parts.port, timeout=60.0)
        place = number
        while monotonic() < ends_at:
            began = perf_counter()
            connection.request("POST", caller.path, bodies[place % len(bodies)], caller.headers)
            response = connection.getresponse()
            answer = response.read()
            if response.status == 200:
                answers.seconds.append(perf_counter() - began)
                answers.partial += orjson.loads(answer)["shoal"]["coverage"] < 1.0
            else:
                answers.refused += 1
            place += CONNECTIONS
        connection.close()
        return answers

    total = _Answers()
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        for one in threads.map(loop, range(CONNECTIONS)):
            total.seconds += one.seconds
            total.partial += one.partial
            total.refused += one.refused
    return total


# What the shard suffers from


@contextmanager
def _well(engine: Engine) -> Iterator[None]:
    yield


@contextmanager
def _slow(engine: Engine) -> Iterator[None]:
    pid = engine.pids()[SICK_SHARD]
    with _again_and_again(lambda healed: _stall(pid, healed)):
        yield


def _stall(pid: int, healed: threading.Event) -> None:
    os.kill(pid, signal.SIGSTOP)
    try:
        healed.wait(STALL_S)
    finally:
        os.kill(pid, signal.SIGCONT)
    healed.wait(STALL_S)


@contextmanager
def _hung(engine: Engine) -> Iterator[None]:
    pid = engine.pids()[SICK_SHARD]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@contextmanager
def _dead(engine: Engine) -> Iterator[None]:
    def kill(healed: threading.Event) -> None:
        pid = engine.pids().get(SICK_SHARD)
        if pid is not None:
            kill_hard(pid, engine.settings.data_folder)
        healed.wait(0.1)

    with _again_and_again(kill):
        yield


@contextmanager
def _again_and_again(step: Callable[[threading.Event], None]) -> Iterator[None]:
    healed = threading.Event()

    def run() -> None:
        while not healed.is_set():
            step(healed)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        healed.set()
        thread.join()


STATES = {"well": _well, "slow": _slow, "hung": _hung, "dead": _dead}


def _await_health(engine: Engine) -> None:
    """Until both collections are counted again: a shard that was hung is left alone until its probes are well."""
    ends_at = monotonic() + HEALTH_MAX_S
    for collection in (ALONE, BOTH):
        while True:
            try:
                engine.count(collection)
                break
            except RuntimeError:
                if monotonic() > ends_at:
                    raise
                sleep(POLL_S)


def _rows(bench: Bench, found: dict[tuple[str, str], _Answers]) -> list[Row]:
    others, half, whole = (caller.name for caller in CALLERS)
    usual_s = found["well", others].p99_s()
    bound_s = RouterSettings().straggler_wait_s + found["well", half].p99_s() + PARTIAL_MARGIN_S
    rows = []
    for state in STATES:
        for name in (others, half, whole):
            answers = found[state, name]
            note = f"{len(answers.seconds):,} answers, {answers.partial:,} partial, {answers.refused:,} refused"
            target = bound_s * 1000 if name == half and state != "well" else None
            rows.append(
                bench.row(
                    PART,
                    f"{state}: p99, {name}",
                    answers.p99_s() * 1000,
                    "ms",
                    note=note,
                    target=target,
                    bound="at most",
                )
            )
        if state != "well":
            beside = found[state, others].p99_s() / usual_s
            rows.append(
                bench.row(
                    PART, f"{state}: p99, {others}, beside well", beside, "x", target=OTHERS_MAX, bound="at most"
                )
            )
    return rows
