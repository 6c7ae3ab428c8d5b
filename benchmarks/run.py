"""`python -m benchmarks.run`, or `make bench`: measures, prints the table, and keeps it as JSON.

    --part NAME     one part only, may be repeated: load, graphs, http, batch, cache, start, memory (in this order); the
                    engine's own parts run only when they are named: writes, churn, filters, million, phases, rebuild,
                    slow-shard, peak, mixed
    --data NAME     one data set only, may be repeated: glove, clusters-384, clusters-1536
    --write-s N     seconds of the parts `writes` and `mixed` (default 600, 15 with --quick)
    --quick         a tenth of the points, one short round of everything: to see that it runs, not to quote
    --scratch DIR   where data, graphs, clusters and results lie (default ./shoal-bench)

`load` makes what http, batch, cache, start, phases and peak search; without it they take what an earlier run has loaded.
The other parts load what they need; `http` loads the points once more, into one shard, the first time. Everything but those
takes about half an hour on two cores. docs/benchmarks.md tells what each part measures and what came out.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import (
    batch_part,
    cache_part,
    churn_part,
    filters_part,
    graphs_part,
    http_part,
    load_part,
    memory_part,
    million_part,
    mixed_part,
    peak_part,
    phases_part,
    rebuild_part,
    slow_shard_part,
    start_part,
    writes_part,
    wrk,
)
from benchmarks.bench import CORES, Bench, Scale
from benchmarks.datasets import prepare, specs
from benchmarks.relative import relative_rows
from benchmarks.results import Row, table, to_json, verdict

PARTS: dict[str, Callable[[Bench], list[Row]]] = {
    "load": load_part.measure,
    "graphs": graphs_part.measure,
    "http": http_part.measure,
    "batch": batch_part.measure,
    "cache": cache_part.measure,
    "start": start_part.measure,
    "memory": memory_part.measure,
}
ENGINE_PARTS: dict[str, Callable[[Bench], list[Row]]] = {
    "writes": writes_part.measure,
    "churn": churn_part.measure,
    "filters": filters_part.measure,
    "million": million_part.measure,
    "phases": phases_part.measure,
    "rebuild": rebuild_part.measure,
    "peak": peak_part.measure,
    "mixed": mixed_part.measure,
    "slow-shard": slow_shard_part.measure,
}
ALL_PARTS = {**PARTS, **ENGINE_PARTS}
NEED_WRK = frozenset({"http", "batch", "cache", "churn", "filters", "peak", "phases"})


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what was asked for."""
    chosen = _parse(arguments)
    if NEED_WRK.intersection(chosen.part):
        wrk.check_installed()
    rows: list[Row] = []
    began = datetime.now(UTC)
    for name in chosen.data:
        spec = specs(chosen.quick)[name]
        print(f"{name}: {spec.point_count:,} vectors of {spec.dim} dimensions", flush=True)
        scale = Scale.of(chosen.quick)
        bench = Bench(prepare(spec, chosen.scratch), replace(scale, write_s=chosen.write_s or scale.write_s))
        for part in chosen.part:
            print(f"{name}, {part}", flush=True)
            rows += ALL_PARTS[part](bench)
            _keep(rows, chosen, began)
    rows += relative_rows(rows)
    file = _keep(rows, chosen, began)
    print(f"\n{table(rows)}\n\n{verdict(rows)}\n{file}")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run", description="Measure Shoal and what it is built on."
    )
    names = list(specs(quick=False))
    parser.add_argument("--part", action="append", choices=[*ALL_PARTS], help="only this part (may be repeated)")
    parser.add_argument("--data", action="append", choices=names, help="only this data set (may be repeated)")
    parser.add_argument("--write-s", type=float, help="seconds of the part `writes`")
    parser.add_argument("--quick", action="store_true", help="less of everything, to see that it runs")
    parser.add_argument(
        "--scratch", type=Path, default=Path("shoal-bench"), help="where everything lies (%(default)s)"
    )
    chosen = parser.parse_args(arguments)
    chosen.part = [part for part in ALL_PARTS if part in (chosen.part or PARTS)]
    chosen.data = [name for name in names if chosen.data is None or name in chosen.data]
    chosen.scratch = chosen.scratch.absolute()
    return chosen


def _keep(rows: list[Row], chosen: argparse.Namespace, began: datetime) -> Path:
    """The rows so far, under the time of the run's start: a run that is cut short keeps what it has."""
    folder = chosen.scratch / "results"
    folder.mkdir(parents=True, exist_ok=True)
    file: Path = folder / f"{began:%Y%m%d-%H%M%S}.json"
    about: dict[str, object] = {
        "began": began.isoformat(),
        "cores": CORES,
        "machine": platform.machine(),
        "python": platform.python_version(),
        "parts": chosen.part,
        "data": chosen.data,
        "quick": chosen.quick,
    }
    file.write_text(to_json(rows, about))
    return file


if __name__ == "__main__":
    main()
