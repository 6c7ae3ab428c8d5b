"""Rows 18 and 23 of the chaos scoreboard, a little of each: that a kept answer is never wrong, whatever happens to Redis."""

from __future__ import annotations

from pathlib import Path

from tests.chaos import cache_interleavings, redis_faults
from tests.chaos.report import in_words

SEED = 20_261


def test_no_kept_answer_is_older_than_a_write_through_another_router(tmp_path: Path) -> None:
    plan = cache_interleavings.InterleavingPlan(SEED, interleavings=400, restarts=1)
    report = cache_interleavings.run(tmp_path, plan)
    assert report.verdict == "passed", in_words(report)


def test_whatever_happens_to_redis_answers_stay_right(tmp_path: Path) -> None:
    plan = redis_faults.RedisPlan(SEED, phase_s=1.5, points=2_000, are_times_judged=False)
    report = redis_faults.run(tmp_path, plan)
    assert report.verdict == "passed", in_words(report)
