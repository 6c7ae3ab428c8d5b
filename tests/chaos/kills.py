"""Row 1: kill -9 of shards under upserts, overwrites, deletes, reads and searches of several clients.

Shards are killed in turn, each as soon as it answers again; now and then both at once, and now and then the new
process while it still recovers. The run goes in parts: after each all clients stop, and every point is compared;
at the end once more, after `down` and `up`.
"""

from __future__ import annotations

import statistics
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from tests.chaos.clients import Client, Habits
from tests.chaos.inspection import inspect
from tests.chaos.points import PointMaker
from tests.chaos.real_cluster import PATIENCE_S, SHARD_COUNT, RealCluster
from tests.chaos.report import Report

COLLECTION = "killed"
BOTH_AT_ONCE, AGAIN_IN_RECOVERY = 0.15, 0.15
PAUSE_MAX_S = 0.3
"""Before a kill, so that kills meet every stage of a seal."""
POLL_S = 0.05
HABITS = Habits(hasty=0.3)


@dataclass(frozen=True)
class KillPlan:
    """How much of everything. `writes`: acknowledged writes of one point that the run must reach; `restart`: whether
    the cluster goes down and up for the last comparison.
    """

    seed: int
    kills: int = 200
    writes: int = 100_000
    parts: int = 10
    clients: int = 6
    ids_per_client: int = 4_000
    dim: int = 64
    restart: bool = True


@dataclass
class _Run:
    cluster: RealCluster
    plan: KillPlan
    clients: list[Client]
    random: np.random.Generator
    enough: threading.Event = field(default_factory=threading.Event)
    recoveries_s: list[float] = field(default_factory=list)

    @property
    def acknowledged(self) -> int:
        return sum(client.fates.acknowledged for client in self.clients)


def run(cluster: RealCluster, plan: KillPlan) -> Report:
    """One run on a cluster that is up; its collection must not exist yet."""
    report = Report(1, "kill -9 of shards under writes and searches", plan.seed)
    began = time.monotonic()
    cluster.create(COLLECTION, plan.dim)
    this = _Run(cluster, plan, _make_clients(plan), np.random.default_rng(plan.seed))
    kills_before, inspect_s = cluster.kills, 0.0
    for part in range(1, plan.parts + 1):
        _one_part(this, kills_before + plan.kills * part // plan.parts, plan.writes * part // plan.parts)
        inspecting = time.monotonic()
        report.note_wrongs(inspect(cluster, this.clients))
        inspect_s += time.monotonic() - inspecting
    if plan.restart:
        cluster.down()
        cluster.up()
        report.note_wrongs(inspect(cluster, this.clients))
    report.operations = sum(client.operations for client in this.clients)
    report.acknowledged = this.acknowledged
    report.unknown = sum(client.fates.unknown for client in this.clients)
    report.faults = cluster.kills - kills_before
    report.duration_s = time.monotonic() - began
    compared, ids = plan.parts + plan.restart, plan.clients * plan.ids_per_client
    living = sum(1 for client in this.clients for _ in client.fates.living())
    unanswered = sum(client.unanswered_reads for client in this.clients)
    report.figures = {
        "recovery": f"median {statistics.median(this.recoveries_s):.1f} s, longest {max(this.recoveries_s):.1f} s",
        "compared": f"{compared} times {ids:,} ids, {living:,} of them points at the end; {inspect_s:.0f} s",
        "reads and searches without an answer": f"{unanswered:,}",
        "segments at the end": str(cluster.segment_count(COLLECTION)),
    }
    report.require(report.faults >= plan.kills, f"{report.faults} kills of {plan.kills}")
    report.require(report.acknowledged >= plan.writes, f"{report.acknowledged} acknowledged writes of {plan.writes}")
    return report


def _make_clients(plan: KillPlan) -> list[Client]:
    maker = PointMaker(plan.seed, plan.dim)
    return [
        Client(
            COLLECTION,
            range(number * plan.ids_per_client, (number + 1) * plan.ids_per_client),
            maker,
            np.random.default_rng([plan.seed, number]),
            HABITS,
        )
        for number in range(plan.clients)
    ]


def _one_part(this: _Run, kills: int, writes: int) -> None:
    """Let the clients work, and kill, until there are so many kills and so many acknowledged writes."""
    this.enough.clear()
    with ThreadPoolExecutor(len(this.clients)) as pool:
        working = [pool.submit(client.work, this.cluster.client(), this.enough) for client in this.clients]
        try:
            while this.cluster.kills < kills:
                _kill_some(this)
                _raise_what_ended(working)
            _await_writes(this, writes, working)
        finally:
            this.enough.set()
    for future in working:
        future.result()


def _kill_some(this: _Run) -> None:
    time.sleep(this.random.uniform(0, PAUSE_MAX_S))
    victim = this.cluster.kills % SHARD_COUNT
    victims = [victim]
    if this.random.random() < BOTH_AT_ONCE:
        victims.append((victim + 1) % SHARD_COUNT)
    if this.random.random() < AGAIN_IN_RECOVERY:
        victims.append(victim)  # `kill` waits until the new process has the folder, so it dies early in its recovery
    for shard_id in victims:
        if not this.cluster.kill(shard_id):
            raise RuntimeError(f"shard {shard_id} had no process within {PATIENCE_S:.0f} s (seed {this.plan.seed})")
    for shard_id in sorted(set(victims)):
        this.recoveries_s.append(this.cluster.await_answer(COLLECTION, shard_id))


def _await_writes(this: _Run, writes: int, working: list[Future[None]]) -> None:
    """Until so many writes are acknowledged; a standstill of PATIENCE_S ends the run."""
    best, since = this.acknowledged, time.monotonic()
    while this.acknowledged < writes:
        _raise_what_ended(working)
        time.sleep(POLL_S)
        if this.acknowledged > best:
            best, since = this.acknowledged, time.monotonic()
        if time.monotonic() > since + PATIENCE_S:
            raise RuntimeError(f"no write was acknowledged for {PATIENCE_S:.0f} s (seed {this.plan.seed})")


def _raise_what_ended(working: list[Future[None]]) -> None:
    for future in working:
        if future.done():
            future.result()
