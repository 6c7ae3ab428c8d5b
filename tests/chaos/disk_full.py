"""Row 6: the disk fills up under writes. Reads go on, writes are refused with a typed error, and resume with the room.

Each cycle fills the disk (to the last block, or but for a little, so that now the log, now a segment meets the end),
writes until there are refusals, reads, frees the room, and measures until every shard takes writes again. Every other
cycle a shard is killed while the disk is full. Writes are of one point each: a refusal then means that nothing was
done, and the points are compared accordingly.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from deployments.http_client import ClusterClient
from shards.errors import Overloaded, Unavailable
from tests.chaos.clients import Client, Habits
from tests.chaos.inspection import inspect
from tests.chaos.points import PointMaker
from tests.chaos.real_cluster import SHARD_COUNT, RealCluster, read_points, upsert_points
from tests.chaos.report import Report, Wrong
from tests.chaos.small_disk import fill, make_room

COLLECTION = "filled"
DISK_BYTES = 96 * 1024 * 1024
LEFT_BYTES = (0, 256 * 1024, 1024 * 1024)
FULL_STATUS = 507
RESUME_MAX_S = 5.0
RESUME_PATIENCE_S = 60.0
REFUSALS = 40
TRIES_MAX = 20_000
REFILL_TRIES = 250
WRITES_BETWEEN = 1_500
READS = 300
POLL_S = 0.05
TOUCHED_FIRST = 2**40
"""Ids of the writes that show whether a shard takes writes again; no client owns them."""


@dataclass(frozen=True)
class DiskPlan:
    """`cycles`: how often the disk is filled."""

    seed: int
    cycles: int = 12
    dim: int = 32
    ids: int = 4_000


@dataclass
class _Run:
    cluster: RealCluster
    client: Client
    report: Report
    answers: Counter[str] = field(default_factory=Counter)
    """How writes were answered while the disk was full."""
    reads: int = 0
    reads_unanswered: int = 0
    resumed_s: list[float] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.cluster.settings.data_folder


def run(cluster: RealCluster, plan: DiskPlan) -> Report:
    """One run on a cluster whose data folder is a file system of its own, DISK_BYTES large."""
    report = Report(6, "disk full", plan.seed)
    began = time.monotonic()
    cluster.create(COLLECTION, plan.dim)
    maker, random = PointMaker(plan.seed, plan.dim), np.random.default_rng(plan.seed)
    client = Client(COLLECTION, range(plan.ids), maker, random, Habits(0.8, 0.1, 0.05))
    this = _Run(cluster, client, report)
    for cycle in range(plan.cycles):
        try:
            _one_cycle(this, cycle)
        finally:
            make_room(this.folder)
        report.note_wrongs(_inspect_without_touched(this))
    cluster.down()
    cluster.up()
    report.note_wrongs(_inspect_without_touched(this))
    report.operations = client.operations + this.reads
    report.acknowledged, report.unknown = client.fates.acknowledged, client.fates.unknown
    report.duration_s = time.monotonic() - began
    answers = ", ".join(f"{kind} {count:,}" for kind, count in sorted(this.answers.items()))
    report.figures = {
        "writes while full": answers,
        "reads and searches while full": f"{this.reads:,}, {this.reads_unanswered:,} of them not answered",
        "writes again after": f"median {statistics.median(this.resumed_s):.2f} s, longest {max(this.resumed_s):.2f} s",
    }
    others = {kind: count for kind, count in this.answers.items() if kind not in ("done", "refused")}
    report.require(not others, f"writes were answered otherwise than done or refused: {others}")
    report.require(
        set(client.refused) == {FULL_STATUS}, f"refusals by status: {dict(client.refused)}, all must be 507"
    )
    report.require(not this.reads_unanswered, f"{this.reads_unanswered} reads were not answered")
    report.require(
        max(this.resumed_s) <= RESUME_MAX_S,
        f"writes resumed after {max(this.resumed_s):.1f} s, at most {RESUME_MAX_S}",
    )
    return report


def _one_cycle(this: _Run, cycle: int) -> None:
    with this.cluster.client() as connection:
        goal = this.client.fates.acknowledged + WRITES_BETWEEN
        while this.client.fates.acknowledged < goal:
            this.client.step(connection)
        fill(this.folder, LEFT_BYTES[cycle % len(LEFT_BYTES)])
        if _write_until_refused(this, connection):
            this.report.faults += 1
        _read_all(this, connection)
        if cycle % 2:
            shard_id = cycle // 2 % SHARD_COUNT
            this.cluster.kill(shard_id)
            this.cluster.await_answer(COLLECTION, shard_id)
            _read_all(this, connection)
        make_room(this.folder)
        this.resumed_s.append(_await_writes(this, connection))


def _write_until_refused(this: _Run, connection: ClusterClient) -> bool:
    """Write single points until REFUSALS of them were refused.

    Points are overwritten, so seals and merges give room back, and a shard could go on for ever: that room is taken, too.
    """
    client, refused = this.client, 0
    for number in range(TRIES_MAX):
        if number % REFILL_TRIES == REFILL_TRIES - 1:
            fill(this.folder, 0)
        before = (client.fates.acknowledged, client.refused.total())
        point_id = client.ids[int(client.random.integers(len(client.ids)))]
        if point_id in client.fates.open:
            continue
        client.operations += 1
        (client.delete if number % 5 == 4 else client.upsert)(connection, [point_id])
        after = (client.fates.acknowledged, client.refused.total())
        kind = "done" if after[0] > before[0] else "refused" if after[1] > before[1] else "not answered"
        this.answers[kind] += 1
        refused += kind == "refused"
        if refused == REFUSALS:
            return True
    this.report.require(False, f"the disk was filled, but {TRIES_MAX} writes met {refused} refusals")
    return False


def _read_all(this: _Run, connection: ClusterClient) -> None:
    client = this.client
    for number in range(READS):
        this.reads += 1
        try:
            if number % 2:
                client.search(connection)
            else:
                places = client.random.choice(len(client.ids), size=20, replace=False)
                client.read(connection, [client.ids[place] for place in places.tolist()])
        except (Unavailable, Overloaded):
            this.reads_unanswered += 1


def _await_writes(this: _Run, connection: ClusterClient) -> float:
    """Seconds until every shard has taken a write again."""
    began = time.monotonic()
    for shard_id in range(SHARD_COUNT):
        among = range(TOUCHED_FIRST, TOUCHED_FIRST + 64)
        point_id = this.cluster.ids_of_shard(connection, COLLECTION, shard_id, among)[0]
        bodies = this.client.maker.bodies([point_id], [1])
        while True:
            try:
                upsert_points(connection, COLLECTION, bodies)
                break
            except (Unavailable, Overloaded):
                if time.monotonic() > began + RESUME_PATIENCE_S:
                    raise
                time.sleep(POLL_S)
    return time.monotonic() - began


def _inspect_without_touched(this: _Run) -> list[Wrong]:
    """The inspection knows the client's points alone, so those that showed whether writes go on are removed first."""
    ids = [*range(TOUCHED_FIRST, TOUCHED_FIRST + 64)]
    with this.cluster.client() as connection:
        this.cluster.insist(
            lambda: connection.call("POST", f"/collections/{COLLECTION}/points/delete", {"points": ids})
        )
        assert not this.cluster.insist(lambda: read_points(connection, COLLECTION, ids))
    return inspect(this.cluster, [this.client])
