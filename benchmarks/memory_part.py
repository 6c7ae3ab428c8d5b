"""Part `memory`: what the model of shards/memory.py predicts, beside what the system says was taken.

Each measurement is a process of its own (this module, with a case's place): it makes a small one first, so that code
and libraries are there, notes its anonymous memory, makes the thing, and notes it again. Mapped files are not
anonymous. Only sizes matter, so vectors are random and graphs are built with a low ef_construction: the data sets are
not used. `python -m benchmarks.memory_part` prints the table.
"""

from __future__ import annotations

import ctypes
import gc
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.bench import JUDGED_DATA, Bench, say
from benchmarks.results import Row, table
from shards import sealing
from shards.batch import PointBatch, encode_batch, make_batch
from shards.distance import Distance
from shards.growing import GrowingSegment, rows_that_fit
from shards.index import SearchPlan
from shards.log_frame import LogOp, OpKind
from shards.memory import growing_parts, history_bytes, parts_of, sealed_parts
from shards.memory_account import size_of
from shards.op_history import NO_OP_ID, OPS_KEPT, OpHistory
from shards.point_ids import UUID_BASE, key_array
from shards.recovery import create_collection, open_collection
from shards.resident import read_resident
from shards.schema import CollectionSpec, HnswSpec, VectorSpec
from shards.sealed import open_segment
from shards.segment_builder import SegmentBuilder
from shards.settings import ShardSettings
from shards.vector_layout import UNNAMED

PART = "memory"
DATA = "random"
ERROR_MAX = 0.1
"""The model's promise: it is at most a tenth off what is measured."""
BATCH = 1_000
WARM_ROWS = 100
HNSW = HnswSpec(ef_construction=32)
SEAL_BYTES = ShardSettings().seal_bytes


class Made(NamedTuple):
    """What was made (it has to live until it is measured), and the model's bytes for it."""

    thing: object
    predicted: int


class Case(NamedTuple):
    """What to make, of how many rows: vectors of `dim` components, each with a payload. `first_key`: of its keys."""

    what: str
    make: Callable[[Case, Path], Made]
    rows: int
    dim: int
    payload_bytes: int = 0
    first_key: int = 10**6

    @property
    def spec(self) -> CollectionSpec:
        return CollectionSpec(vectors={UNNAMED: VectorSpec(size=self.dim, distance=Distance.EUCLID)}, hnsw=HNSW)

    def batches(self) -> Iterator[PointBatch]:
        """The points, at most BATCH at a time."""
        for start in range(0, self.rows, BATCH):
            count = min(BATCH, self.rows - start)
            vectors = np.random.default_rng(start).standard_normal((count, self.dim), np.float32)
            keys = key_array(range(self.first_key + start, self.first_key + start + count))
            yield make_batch(keys, vectors, [b"x" * self.payload_bytes for _ in range(count)])


def make_growing(case: Case, folder: Path) -> Made:
    """A growing segment, full."""
    segment = GrowingSegment(case.rows, case.spec.layout)
    for batch in case.batches():
        segment.append(batch, 1)
    return Made(segment, growing_parts(segment.memory_size).total)


def make_built(case: Case, folder: Path) -> Made:
    """A sealed segment with the graph that was just built, as a seal or a load leaves it."""
    builder = SegmentBuilder(folder / "segment", case.spec, case.rows)
    for batch in case.batches():
        builder.add(batch)
    builder.finish(None)
    segment = open_segment(folder / "segment", 1, builder.graphs)
    return Made(segment, sealed_parts(segment.memory_size, 1).total)


def make_opened(case: Case, folder: Path) -> Made:
    """A sealed segment as a restart opens it (`measured` has had it built), searched once."""
    segment = open_segment(folder / "segment", 1)
    segment.search(np.zeros((1, case.dim), np.float32), SearchPlan(10, 100))
    return Made(segment, sealed_parts(segment.memory_size, 1).total)


def make_history(case: Case, folder: Path) -> Made:
    """The operations that are kept, when many more have come."""
    history = OpHistory()
    for lsn in range(case.rows):
        history.add(b"%016d" % lsn, lsn)
    return Made(history, history_bytes(len(history)))


def make_collection(case: Case, folder: Path) -> Made:
    """A collection that was written through its log and sealed on the way, up to a full growing segment."""
    create_collection(folder / "collection", "0" * 32, case.spec)
    collection = open_collection(folder / "collection", "0" * 32, ShardSettings()).collection
    for batch in case.batches():
        collection.commit([LogOp(OpKind.UPSERT, NO_OP_ID, encode_batch(batch))], 1)
        while collection.frozen:
            sealing.install(collection, sealing.build(collection, collection.frozen[0]))
            sealing.record(collection, sealing.plan_manifest(collection))
    return Made(collection, parts_of(size_of(collection)).total)


def _full(dim: int) -> int:
    return rows_that_fit(SEAL_BYTES, dim)


CASES = (
    Case("growing, full", make_growing, _full(50), 50),
    Case("growing, full", make_growing, _full(50), 50, 200),
    Case("growing, full, UUIDs", make_growing, _full(50), 50, 200, UUID_BASE),
    Case("growing, full", make_growing, _full(384), 384),
    Case("growing, full", make_growing, _full(384), 384, 1_000),
    Case("sealed, just built", make_built, 50_000, 50, 200),
    Case("sealed, opened", make_opened, 50_000, 50, 200),
    Case("sealed, opened, small", make_opened, 5_000, 50, 200),
    Case("sealed, just built", make_built, 20_000, 384, 1_000),
    Case("sealed, opened", make_opened, 20_000, 384, 1_000),
    Case("collection, 2 sealed and a full growing", make_collection, 3 * (_full(50) // BATCH * BATCH), 50, 200),
    Case("history", make_history, 3 * OPS_KEPT, 0),
)


def measure(bench: Bench) -> list[Row]:
    """The part of a run: once, for it needs no data."""
    return measure_all() if bench.data.spec.name == JUDGED_DATA else []


def measure_all() -> list[Row]:
    """A row for each case: how far off the model is."""
    rows = []
    for number, case in enumerate(CASES):
        with tempfile.TemporaryDirectory(prefix="shoal-memory-") as folder:
            if case.make is make_opened:
                _child(number, Path(folder), "build")
            predicted, measured = _child(number, Path(folder), "measure")
        ratio = predicted / measured
        what = f"{case.what}, {case.rows:,} x {case.dim}" + f", payload {case.payload_bytes} B" * bool(
            case.payload_bytes
        )
        note = f"predicted {predicted / 2**20:.1f} MiB, measured {measured / 2**20:.1f} MiB, ratio {ratio:.3f}"
        rows.append(Row(DATA, PART, what, abs(ratio - 1), "off", ERROR_MAX, "at most", note))
        say(f"{what}: {note}")
    return rows


def _child(number: int, folder: Path, order: str) -> tuple[int, int]:
    command = [sys.executable, "-m", "benchmarks.memory_part", str(number), str(folder), order]
    predicted, measured = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return predicted, measured


def measured(case: Case, folder: Path) -> tuple[int, int]:
    """The model's bytes for a case, and by how much the anonymous memory of this process grew."""
    with tempfile.TemporaryDirectory(prefix="shoal-memory-") as warm:
        small = case._replace(rows=WARM_ROWS)
        if case.make is make_opened:
            make_built(small, Path(warm))
        case.make(small, Path(warm))
    before = _anonymous_bytes()
    made = case.make(case, folder)
    return made.predicted, _anonymous_bytes() - before


def _anonymous_bytes() -> int:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed, but not yet given back, is no growth
    resident = read_resident()
    assert resident is not None, "this system does not say what is resident"
    return resident.anonymous_bytes


def main(arguments: list[str]) -> None:
    """The table; or with a case's place, a folder and an order, one measurement as JSON."""
    if not arguments:
        print(table(measure_all()))
        return
    case, folder = CASES[int(arguments[0])], Path(arguments[1])
    if arguments[2] == "build":
        make_built(case, folder)
        print("[0, 0]")
        return
    print(json.dumps(measured(case, folder)))


if __name__ == "__main__":
    main(sys.argv[1:])
