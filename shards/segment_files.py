"""A sealed segment on disk: which files it is made of, how they become durable, and how they are verified.

    segment.json   header: format, shape, and length and CRC32C of every other file; itself checksummed; written last
    vectors.f32    float32 (rows, row dim), as they are searched (shards/vector_layout.py: all vectors of a point)
    keys.bin       uint64 or S17 (rows,)
    order.i64      int64 (rows,): rows sorted by key, stably; of rows with equal keys only the last counts
    versions.u64   uint64 (rows,): LSN of each row's last write; absent where all rows came with the segment's attach
    offsets.u64    uint64 (rows + 1,): ranges in payload.bin
    payload.bin    JSON documents, concatenated
    graph-N.hnsw   hnswlib's own format, of vector number N; absent where its distance has no graph, or no row has it. Its
                   labels count the rows that have the vector

A segment is built in a folder with a temporary suffix and renamed when every byte is durable: a folder under its
final name is whole, or damaged since. `verify` compares every file with the header before anything reads it; what is
in `REBUILDABLE` follows from the other files, so that a segment can do without.
"""

from __future__ import annotations

import json
import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import google_crc32c
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shards.disk import REAL_DISK, Disk
from shards.distance import Distance
from shards.errors import Corrupt
from shards.hnsw import GraphShape
from shards.point_ids import NARROW, WIDE, KeyArray
from shards.schema import VECTORS_MAX, CollectionSpec, HnswSpec
from shards.vector_layout import VectorLayout

FORMAT = 2
HEADER_FILE = "segment.json"
VECTORS, KEYS, ORDER, VERSIONS = "vectors.f32", "keys.bin", "order.i64", "versions.u64"
OFFSETS, PAYLOAD = "offsets.u64", "payload.bin"
GRAPHS = tuple(f"graph-{number}.hnsw" for number in range(VECTORS_MAX))
"""By the number of the vector."""
REBUILDABLE = frozenset({ORDER, *GRAPHS})
"""Follow from keys and vectors."""
SEALED_JSON_BYTES_MAX = 64 * 1024 * 1024
"""Of a file of sealed JSON, which is read whole. The largest are snapshot.json (some 150 bytes a file, up to ten files a
segment) and a manifest (some 80 bytes for each bulk load that it still knows, 200 for each segment).
"""
_READ_BYTES = 8 * 1024 * 1024


class FileSeal(BaseModel):
    """What a file must be."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    byte_count: Annotated[int, Field(ge=0)]
    crc32c: int


class SegmentVector(BaseModel):
    """One vector of a segment's rows; `row_count` of them have it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    size: Annotated[int, Field(ge=1)]
    distance: Distance
    hnsw: HnswSpec
    row_count: Annotated[int, Field(ge=0)]

    @property
    def shape(self) -> GraphShape:
        return GraphShape(self.size, self.distance, self.hnsw)

    @property
    def kind(self) -> tuple[str, int, Distance, int]:
        """What has to be the same in two segments of a collection."""
        return self.name, self.size, self.distance, self.hnsw.m


class SegmentHeader(BaseModel):
    """What a segment is. `live_count`: rows that no later row of the segment superseded; `vectors`: in their order.

    Lengths agree with the counts, so that files of these lengths can be mapped without a further look.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: int = FORMAT
    row_count: Annotated[int, Field(ge=1)]
    live_count: Annotated[int, Field(ge=1)]
    key_bytes: int
    vectors: Annotated[tuple[SegmentVector, ...], Field(max_length=VECTORS_MAX)]
    files: dict[str, FileSeal]

    @property
    def layout(self) -> VectorLayout:
        return VectorLayout.of([(vector.name, vector.size, vector.distance) for vector in self.vectors])

    @property
    def dim(self) -> int:
        """Components of a row."""
        return sum(vector.size for vector in self.vectors)

    def problem_in(self, spec: CollectionSpec) -> str | None:
        """Why this can't be a segment of such a collection, or None."""
        expected = [
            (column.name, column.size, column.distance, spec.hnsw_of(column).m) for column in spec.layout.columns
        ]
        found = [vector.kind for vector in self.vectors]
        if found == expected:
            return None
        return f"it is a segment of {_kinds_in_words(found)}, the collection has {_kinds_in_words(expected)}"

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> SegmentHeader:
        rows = self.row_count
        if self.format != FORMAT:
            raise ValueError(f"it is of format {self.format}")
        if self.key_bytes not in (NARROW.itemsize, WIDE.itemsize) or self.live_count > rows:
            raise ValueError(
                f"{rows} rows, {self.live_count} of them live, can't have keys of {self.key_bytes} bytes"
            )
        if any(vector.row_count > rows for vector in self.vectors):
            raise ValueError(f"more than its {rows} rows have a vector")
        lengths = {
            VECTORS: 4 * rows * self.dim,
            KEYS: self.key_bytes * rows,
            ORDER: 8 * rows,
            OFFSETS: 8 * (rows + 1),
        }
        expected = {**lengths, VERSIONS: 8 * rows} if VERSIONS in self.files else lengths
        graphs = GRAPHS[: len(self.vectors)]
        found = {name: seal.byte_count for name, seal in self.files.items() if name not in (PAYLOAD, *graphs)}
        if found != expected or PAYLOAD not in self.files:
            raise ValueError(
                f"{rows} rows x {self.dim} have other files than {sorted(self.files)} of lengths {found}"
            )
        return self


def _kinds_in_words(kinds: list[tuple[str, int, Distance, int]]) -> str:
    return ", ".join(f"{name!r} {size} x {distance.value} m={m}" for name, size, distance, m in kinds)


@dataclass(frozen=True, slots=True)
class Damage:
    """One file that is not what its header says."""

    file: str
    reason: str


def seal_file(path: Path, disk: Disk = REAL_DISK) -> FileSeal:
    """Length and checksum of a file as the disk gives it back, after an fsync."""
    disk.fsync_file(path)
    checksum = google_crc32c.Checksum()
    byte_count = 0
    with open(path, "rb") as file:
        while block := file.read(_READ_BYTES):
            checksum.update(block)
            byte_count += len(block)
    return FileSeal(byte_count=byte_count, crc32c=int.from_bytes(checksum.digest(), "big"))


def write_header(folder: Path, header: SegmentHeader, disk: Disk = REAL_DISK) -> None:
    """The last file of a segment."""
    disk.write_durably(folder / HEADER_FILE, seal_json(header.model_dump(mode="json")))


def read_header(folder: Path) -> SegmentHeader:
    """The header. Raises Corrupt, naming the file, where it is missing or damaged."""
    path = folder / HEADER_FILE
    try:
        return SegmentHeader.model_validate(unseal_json(path))
    except ValidationError as error:
        raise Corrupt(f"{path} is not a segment's header of format {FORMAT}: {error.errors()[0]['msg']}") from error


def verify(folder: Path, header: SegmentHeader) -> list[Damage]:
    """Every file of a segment that is missing, short, long, unreadable, or holds other bytes than were written."""
    found = (damage_of(folder, header, name) for name in header.files)
    return [damage for damage in found if damage is not None]


def damage_of(folder: Path, header: SegmentHeader, name: str) -> Damage | None:
    """What is wrong with one file, or None."""
    path, seal = folder / name, header.files[name]
    try:
        if not path.is_file():
            return Damage(name, "it is missing")
        if path.stat().st_size != seal.byte_count:
            return Damage(name, f"it has {path.stat().st_size} bytes instead of {seal.byte_count}")
        if seal_of(path) != seal.crc32c:
            return Damage(name, "its checksum is wrong")
    except OSError as error:
        return Damage(name, f"it can't be read: {error.strerror or error}")
    return None


def check_rows(folder: Path, header: SegmentHeader) -> None:
    """Raises Corrupt, naming the file, unless everything that can't be made anew is what the header says."""
    for name in header.files:
        damage = None if name in REBUILDABLE else damage_of(folder, header, name)
        if damage is not None:
            raise Corrupt(f"{folder / name} is damaged: {damage.reason}")


def seal_of(path: Path) -> int:
    """CRC32C of a file. Read, not mapped: of a bad sector a mapping makes a signal that ends the process, not an OSError."""
    checksum = google_crc32c.Checksum()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(_READ_BYTES):
            checksum.update(block)
    return int.from_bytes(checksum.digest(), "big")


def map_array(path: Path, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """A file's content as a read-only array over mapped pages (reclaimable: not a copy on the heap)."""
    if path.stat().st_size == 0:
        return np.zeros(0, dtype)
    with open(path, "rb") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype)


def map_keys(folder: Path, header: SegmentHeader) -> KeyArray:
    """A segment's keys, over mapped pages."""
    return map_array(folder / KEYS, NARROW if header.key_bytes == NARROW.itemsize else WIDE)


def seal_json(content: dict[str, Any]) -> bytes:
    """JSON that carries its own checksum."""
    text = json.dumps(content, sort_keys=True)
    return json.dumps({"crc32c": google_crc32c.value(text.encode()), "content": content}, indent=1).encode()


def unseal_json(path: Path) -> dict[str, Any]:
    """The content that `seal_json` wrote. Raises Corrupt, naming the file."""
    try:
        with open(path, "rb") as file:
            if (byte_count := os.fstat(file.fileno()).st_size) > SEALED_JSON_BYTES_MAX:
                raise Corrupt(
                    f"{path} is damaged: it has {byte_count} bytes; the limit SEALED_JSON_BYTES_MAX is"
                    f" {SEALED_JSON_BYTES_MAX}"
                )
            sealed = json.loads(file.read(SEALED_JSON_BYTES_MAX))
        content: dict[str, Any] = sealed["content"]
        if not isinstance(content, dict):
            raise Corrupt(f"{path} is damaged: its content is no object")
        checksum = google_crc32c.value(json.dumps(content, sort_keys=True).encode())
        if checksum != sealed["crc32c"]:
            raise Corrupt(f"{path} is damaged: its checksum is {checksum}, it says {sealed['crc32c']}")
    except FileNotFoundError:
        raise Corrupt(f"{path} is missing") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Corrupt(f"{path} is damaged: {error}") from error
    return content
