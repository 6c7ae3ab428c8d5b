"""Three rows of `make chaos`, small and seeded: kill -9 under writes and searches, recall before and after it, and more
searches than can be answered.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos import kills, overload, recall_cycles
from tests.chaos.real_cluster import RealCluster
from tests.chaos.report import in_words

SEED = 20_261


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    with RealCluster(tmp_path_factory.mktemp("chaos") / "data") as started:
        yield started


def test_killed_shards_lose_nothing(cluster: RealCluster) -> None:
    plan = kills.KillPlan(SEED, kills=3, writes=1_500, parts=1, clients=3, ids_per_client=400, restart=False)
    report = kills.run(cluster, plan)
    print(in_words(report))
    assert report.verdict == "passed", in_words(report)


def test_recall_survives_kills(cluster: RealCluster) -> None:
    plan = recall_cycles.RecallPlan(SEED, cycles=2, restart_every=0, points=3_000, queries=250)
    report = recall_cycles.run(cluster, plan)
    print(in_words(report))
    assert report.verdict == "passed", in_words(report)


def test_overload_is_refused_with_a_time_to_come_back(tmp_path: Path) -> None:
    plan = overload.OverloadPlan(SEED, seconds=4, steady_s=7, requests_max=48, points=3_000, judges_figures=False)
    with RealCluster(tmp_path / "data", sections=plan.sections) as cluster:
        report = overload.run(cluster, plan)
    print(in_words(report))
    assert report.verdict == "passed", in_words(report)
