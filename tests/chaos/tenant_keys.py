"""Row 22: two tenants' requests side by side, some of them cancelled, and no key finds or changes what is not its own.

The story is that of tests/tenant_keys_story.py, over three shards (threads of this process, real sockets, real logs) and a
router with a result cache. The tenant field is declared at the start in one half of the requests, and late in the other.
"""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import uvloop

from tests.chaos.report import Report
from tests.tenant_keys_story import Story, over_shards

SHARDS = 3


@dataclass(frozen=True)
class TenantPlan:
    """`requests`: of all kinds, at least."""

    seed: int
    requests: int = 100_000


def run(folder: Path, plan: TenantPlan) -> Report:
    """Play it; the report's faults are the cancelled requests."""
    report = Report(22, "tenants interleaved, requests cancelled at random", plan.seed)
    began = time.monotonic()
    reads = 0
    for is_late in (False, True):
        story = uvloop.run(_play(folder / ("late" if is_late else "early"), plan, is_late, report))
        report.operations += story.request_count
        report.faults += story.cancelled_count
        reads += story.read_count
    report.duration_s = time.monotonic() - began
    report.require(reads > plan.requests / 2, f"only {reads} answers were compared")
    report.figures = {"answers compared": f"{reads:,}", "cancelled": f"{report.faults:,}"}
    return report


async def _play(folder: Path, plan: TenantPlan, is_late: bool, report: Report) -> Story:
    async with over_shards(folder, SHARDS) as (coordinator, parts):
        story = Story(coordinator, plan.seed + is_late, parts)
        await story.begin(is_late)
        try:
            while story.request_count < plan.requests / 2:
                await story.step()
        except AssertionError as error:
            traceback.print_exc()
            report.complaints.append(f"an answer was not what it had to be: {str(error)[:500]}")
    return story
