"""What was measured, as rows with their targets: a table for people, JSON for programs. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, TypedDict

Bound = Literal["at least", "at most"]
HEADINGS = ("data", "part", "what", "measured", "unit", "target", "reached", "note")


class RowOptions(TypedDict, total=False):
    """The fields of a Row that have defaults."""

    target: float | None
    bound: Bound
    note: str
    cpu: str


@dataclass(frozen=True)
class Row:
    """One figure. `bound` says on which side of `target` it has to be, where there is one. `cpu` says
    which processes used how much while it was measured.
    """

    data: str
    part: str
    what: str
    value: float
    unit: str
    target: float | None = None
    bound: Bound = "at least"
    note: str = ""
    cpu: str = ""

    @property
    def reached(self) -> bool | None:
        if self.target is None:
            return None
        return self.value >= self.target if self.bound == "at least" else self.value <= self.target


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table whose columns are also aligned for a terminal."""
    cells = [HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADINGS))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in cells
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def verdict(rows: Sequence[Row]) -> str:
    """One sentence: how many targets were reached, and which were not."""
    judged = [row for row in rows if row.reached is not None]
    missed = [f"{row.data} {row.part}: {row.what}" for row in judged if not row.reached]
    text = f"{len(judged) - len(missed)} of {len(judged)} targets reached"
    return text + ("." if not missed else "; missed: " + "; ".join(missed) + ".")


def to_json(rows: Sequence[Row], about: dict[str, object]) -> str:
    """The rows and what they were measured with."""
    return json.dumps({"about": about, "rows": [{**asdict(row), "reached": row.reached} for row in rows]}, indent=1)


def number(value: float) -> str:
    """Three or four digits that count: 0.953, 12.3, 4,608."""
    magnitude = abs(value)
    if magnitude >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if magnitude >= 10 else f"{value:.3f}"


def _cells(row: Row) -> tuple[str, ...]:
    target = "" if row.target is None else f"{row.bound} {number(row.target)}"
    reached = {None: "", True: "yes", False: "NO"}[row.reached]
    return (row.data, row.part, row.what, number(row.value), row.unit, target, reached, row.note)
