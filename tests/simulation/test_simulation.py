"""A few seeds of every simulation; `python -m tests.simulation.run` runs the figures. A red run names its seed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulation.crashes import POINTS, crash_at_point, power_loss
from tests.simulation.failing_disk import failing_operation, full_disk
from tests.simulation.log_mutants import log_mutants


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("point", POINTS)
def test_nothing_is_lost_in_a_crash_at_a_named_point(tmp_path: Path, point: str, seed: int) -> None:
    tally = crash_at_point(seed, tmp_path, point)
    assert tally.injected
    assert tally.acknowledged


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_lost_in_a_power_failure(tmp_path: Path, seed: int) -> None:
    tally = power_loss(seed, tmp_path)
    assert tally.injected
    assert tally.acknowledged


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_log_is_never_silently_wrong(tmp_path: Path, seed: int) -> None:
    tally = log_mutants(seed, tmp_path, 100)
    assert tally.injected == tally.exact + tally.refused + tally.cut + tally.ended == 100
    assert tally.refused


@pytest.mark.parametrize("seed", range(20))
def test_a_failed_write_or_fsync_loses_nothing_and_is_told(tmp_path: Path, seed: int) -> None:
    assert failing_operation(seed, tmp_path).injected


@pytest.mark.parametrize("seed", range(10))
def test_a_full_disk_is_told_and_writes_resume(tmp_path: Path, seed: int) -> None:
    tally = full_disk(seed, tmp_path)
    assert tally.refused
    assert tally.acknowledged
