"""The larger vectors beside the small ones: no ratio to the stack beneath may be worse than half of the 50-d data's.
Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.results import Row

BASE = "glove"
HALF = 0.5


@dataclass(frozen=True)
class Ratio:
    """A row of every data set that is compared. `ascending`: more is better."""

    part: str
    what: str
    ascending: bool


RATIOS = (
    Ratio("http", "p50 at 1 connection", ascending=False),
    Ratio("http", "throughput at 16 connections", ascending=True),
    Ratio("batch", "best share of all cores", ascending=True),
    Ratio("load", "load beside one graph", ascending=True),
)


def relative_rows(rows: Sequence[Row]) -> list[Row]:
    """For each data set but the base: its ratios as a fraction of those of the base, 1 for as good; empty without it."""
    found = {(row.data, row.part, row.what): row for row in rows}
    others = sorted({row.data for row in rows} - {BASE})
    compared = []
    for data in others:
        for ratio in RATIOS:
            base, own = (found.get((name, ratio.part, ratio.what)) for name in (BASE, data))
            if base is None or own is None or not base.value or not own.value:
                continue
            fraction = own.value / base.value if ratio.ascending else base.value / own.value
            what = f"{ratio.what}, beside {BASE}"
            compared.append(Row(data, ratio.part, what, fraction, f"x {BASE}", HALF))
    return compared
