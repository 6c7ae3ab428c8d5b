"""Hedges cut the tail that one stalling replica makes, and never ask for more than a twentieth besides."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.simulation.replicas import Plan, Simulation

PLAN = Plan(seed=1, stall_fraction=0.1, hedges=True, request_count=4_000)


@pytest.mark.parametrize("seed", range(5))
def test_hedges_cut_the_tail_of_a_replica_that_stalls(seed: int) -> None:
    plan = replace(PLAN, seed=seed)
    without, hedged = Simulation(replace(plan, hedges=False)).run(), Simulation(plan).run()
    assert without.quantile_s(0.99) > plan.stall_s
    assert hedged.quantile_s(0.99) < plan.stall_s / 10
    assert hedged.quantile_s(0.5) < 1.05 * without.quantile_s(0.5)
    assert hedged.extra_fraction <= 0.05
    assert hedged.counts.hedges_won + hedged.counts.hedges_wasted == hedged.counts.hedges_issued


@pytest.mark.parametrize("stall_fraction", [0.0, 0.02, 0.5, 1.0])
def test_however_slow_it_is_a_twentieth_more_is_asked_at_most(stall_fraction: float) -> None:
    report = Simulation(replace(PLAN, stall_fraction=stall_fraction)).run()
    assert report.extra_fraction <= 0.05
    assert len(report.seconds) == PLAN.request_count
    assert report.sent == report.primary + report.counts.hedges_issued


def test_a_seed_repeats_itself() -> None:
    one, two = Simulation(PLAN).run(), Simulation(PLAN).run()
    assert (one.seconds, one.counts) == (two.seconds, two.counts)


def test_with_one_replica_nothing_is_hedged() -> None:
    report = Simulation(replace(PLAN, replica_count=1, stall_fraction=0.01)).run()
    assert report.counts.hedges_issued == report.counts.hedges_refused == 0
    assert report.extra_fraction == 0.0
