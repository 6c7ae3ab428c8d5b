"""Parquet files with damaged and invented bytes: each is read or refused in words, and the process that reads them lives.

They are read in a process of their own, because what could go wrong is native code: `python -m tests.hostile.parquet SEED
COUNT` prints one line of JSON, and a crash is its exit code.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from deployments.loading.bad_rows import BadRow
from deployments.loading.source import open_source
from shards.errors import ShoalError
from shards.schema import CollectionSpec, VectorSpec

_DIM = 4
_WAIT_S = 150.0
_NUMBERS = (b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\0\0\0\x80", b"\0\0\0\0")
_REPOSITORY = Path(__file__).parents[2]


def read_mutants(seed: int, count: int) -> dict[str, int]:
    """How many mutants were read, refused, and failed otherwise (by the kind of error), in a process of its own."""
    command = [sys.executable, "-m", "tests.hostile.parquet", str(seed), str(count)]
    done = subprocess.run(command, cwd=_REPOSITORY, capture_output=True, text=True, timeout=_WAIT_S, check=False)
    if done.returncode != 0:
        return {f"exit code {done.returncode}: {done.stderr[-300:]}": 1}
    told: dict[str, int] = json.loads(done.stdout)
    return told


def _main(seed: int, count: int) -> None:
    chance = random.Random(seed)
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mutant.parquet"
        for number in range(count):
            if number % 50 == 0:
                good = _good(chance, path)
            path.write_bytes(_mutant(chance, good))
            outcomes[_read(path)] += 1
    print(json.dumps(outcomes))


def _good(chance: random.Random, path: Path) -> bytes:
    rows = 40
    vectors = pa.array([[chance.random()] * _DIM for _ in range(rows)], pa.list_(pa.float32(), _DIM))
    table = pa.table({"id": list(range(rows)), "word": [f"w{n % 5}" for n in range(rows)], "vector": vectors})
    pq.write_table(table, path, row_group_size=16, compression=chance.choice(["none", "snappy", "zstd", "gzip"]))
    return path.read_bytes()


def _mutant(chance: random.Random, good: bytes) -> bytes:
    """Every second change hits the footer, which says where everything is and how large it becomes."""
    mutant = bytearray(good)
    footer_bytes = int.from_bytes(good[-8:-4], "little") + 8
    for _ in range(chance.randint(1, 2)):
        if len(mutant) <= footer_bytes:
            break
        place = chance.randrange(len(mutant) - footer_bytes if chance.random() < 0.5 else 4, len(mutant) - 8)
        match chance.randrange(10):
            case 0:
                del mutant[place:]
            case 1:
                mutant[place:place] = mutant[place : place + chance.randint(1, 64)]
            case 2:
                mutant[-8:-4] = chance.choice(_NUMBERS)
            case 3 | 4:
                mutant[place : place + 4] = chance.choice(_NUMBERS)
            case _:
                mutant[place] ^= 1 << chance.randrange(8)
    return bytes(mutant)


def _read(path: Path) -> str:
    def skip(bad_row: BadRow) -> None:
        str(bad_row)

    try:
        spec = CollectionSpec(vectors={"": VectorSpec.model_validate({"size": _DIM, "distance": "Cosine"})})
        for _batch in open_source(path).batches(8, spec, skip):
            pass
    except ShoalError as error:
        return "refused" if error.message else "refused without words"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:120]}"
    return "read"


if __name__ == "__main__":
    _main(int(sys.argv[1]), int(sys.argv[2]))
