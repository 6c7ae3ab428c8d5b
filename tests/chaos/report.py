"""What one run of one row came to, and whether it passed. Pure.

A run passes when it injected the faults that it was to inject, got the acknowledgements that it was to get, and found
nothing wrong. One without a fault has failed, however well everything went: it has shown nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

WRONGS = ("lost", "phantom", "doubled", "resurrected", "damaged")
"""lost: an acknowledged write is not there. phantom: a point that nobody wrote. doubled: one point more than once.
resurrected: a point that an acknowledged delete had removed. damaged: vector or payload are not those of any write.
"""
SHOWN_MAX = 5


@dataclass
class Report:
    """One run. `operations`: requests sent; `acknowledged` and `unknown`: writes of one point each, by their answer."""

    row: int
    what: str
    seed: int
    operations: int = 0
    acknowledged: int = 0
    unknown: int = 0
    faults: int = 0
    wrongs: Counter[str] = field(default_factory=Counter)
    duration_s: float = 0.0
    figures: dict[str, str] = field(default_factory=dict)
    """What else was measured, in words."""
    complaints: list[str] = field(default_factory=list)
    """Why the run failed, each with its evidence."""
    skipped: str = ""
    """Why the row could not be run here, or empty."""

    def require(self, holds: bool, otherwise: str) -> None:
        """Note a condition of passing."""
        if not holds:
            self.complaints.append(otherwise)

    def note_wrongs(self, wrongs: Sequence[Wrong]) -> None:
        """Count what was found wrong; the first few are kept as evidence."""
        for wrong in wrongs:
            self.wrongs[wrong.kind] += 1
            if sum(self.wrongs.values()) <= SHOWN_MAX:
                self.complaints.append(str(wrong))

    @property
    def verdict(self) -> str:
        """`passed`, `FAILED` or `skipped`."""
        if self.skipped:
            return "skipped"
        return "passed" if self.faults and not self.complaints and not self.wrongs.total() else "FAILED"


@dataclass(frozen=True)
class Wrong:
    """One thing that must never be: `kind` is of WRONGS."""

    kind: str
    evidence: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.evidence}"


def in_words(report: Report) -> str:
    """The report for people, a few lines."""
    if report.skipped:
        return f"row {report.row}, {report.what}: skipped: {report.skipped}"
    counts = ", ".join(f"{kind} {report.wrongs[kind]}" for kind in WRONGS)
    lines = [
        f"row {report.row}, {report.what}: seed {report.seed}: {report.verdict} in {report.duration_s:.0f} s",
        f"  operations {report.operations:,}, acknowledged {report.acknowledged:,}, unknown {report.unknown:,},"
        f" faults injected {report.faults:,}",
        f"  {counts}",
        *(f"  {name}: {value}" for name, value in report.figures.items()),
        *(f"  ! {complaint}" for complaint in report.complaints),
    ]
    if not report.faults:
        lines.append("  ! no fault was injected: the run shows nothing")
    return "\n".join(lines)


def to_json(reports: Sequence[Report]) -> str:
    """The reports for programs."""
    rows = [{**vars(report), "wrongs": dict(report.wrongs), "verdict": report.verdict} for report in reports]
    return json.dumps(rows, indent=1)
