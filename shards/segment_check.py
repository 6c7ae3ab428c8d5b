"""A segment looked at as a whole: checksums, as opening does, and what no checksum tells: whether its files agree.

Opening trusts that whoever wrote a right checksum wrote right content. That holds for a shard's own files, and not for
those that come from elsewhere: so a snapshot that is restored, and `shoal verify`, look here. Reads by mapping, block by
block; on the heap one byte a row, and for a graph nine. Changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shards import segment_files as files
from shards.errors import Corrupt
from shards.graph_file import check_links, check_parameters
from shards.point_ids import NARROW, WIDE
from shards.segment_files import Damage, SegmentHeader, SegmentVector

_BLOCK_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class SegmentCheck:
    """`damages`: what opening notices, too. `contradictions`: whole files that opening would believe, wrongly."""

    header: SegmentHeader
    damages: tuple[Damage, ...]
    contradictions: tuple[Damage, ...]

    @property
    def lost(self) -> tuple[Damage, ...]:
        """Damages that no other file of the segment can replace."""
        return tuple(damage for damage in self.damages if damage.file not in files.REBUILDABLE)


def check_segment(folder: Path) -> SegmentCheck:
    """Everything that is wrong with a segment's files. Raises Corrupt, naming the file, where its header is."""
    header = files.read_header(folder)
    damages = files.verify(folder, header)
    contradictions: list[Damage] = []
    for name, vector in zip(files.GRAPHS, header.vectors, strict=False):
        if name in header.files and _are_whole(damages, name):
            _check_graph(folder / name, vector, damages, contradictions)
    if _are_whole(damages, files.VECTORS) and (problem := _problem_of_gaps(folder, header)) is not None:
        contradictions.append(Damage(files.VECTORS, problem))
    if _are_whole(damages, files.OFFSETS) and (problem := _problem_of_offsets(folder, header)) is not None:
        contradictions.append(Damage(files.OFFSETS, problem))
    if _are_whole(damages, files.KEYS, files.ORDER) and (problem := _problem_of_order(folder, header)) is not None:
        contradictions.append(Damage(files.ORDER, problem))
    return SegmentCheck(header, tuple(damages), tuple(contradictions))


def _are_whole(damages: list[Damage], *names: str) -> bool:
    return not any(damage.file in names for damage in damages)


def _check_graph(path: Path, vector: SegmentVector, damages: list[Damage], contradictions: list[Damage]) -> None:
    shape = vector.shape.file_shape(vector.row_count)
    try:
        check_parameters(path, shape)
    except Corrupt as error:
        damages.append(Damage(path.name, error.message))
        return
    try:
        check_links(path, shape)
    except Corrupt as error:
        contradictions.append(Damage(path.name, error.message))


def _problem_of_gaps(folder: Path, header: SegmentHeader) -> str | None:
    """Whether as many rows have each vector as the header says. What is half a vector a search would meet as NaN."""
    vectors = files.map_array(folder / files.VECTORS, np.dtype(np.float32)).reshape(header.row_count, -1)
    counts = [0] * len(header.vectors)
    for start in range(0, header.row_count, _BLOCK_ROWS):
        block = vectors[start : start + _BLOCK_ROWS]
        if (bad := header.layout.first_bad_row(block)) is not None:
            return f"row {start + bad} holds a NaN or an infinite component"
        for number, column in enumerate(header.layout.columns):
            gaps = column.missing(block)
            counts[number] += len(block) - (0 if gaps is None else int(gaps.sum()))
    for vector, count in zip(header.vectors, counts, strict=True):
        if vector.row_count != count:
            return f"{count} rows have vector {vector.name!r}, the header says {vector.row_count}"
    return None


def _problem_of_offsets(folder: Path, header: SegmentHeader) -> str | None:
    offsets = files.map_array(folder / files.OFFSETS, np.dtype(np.uint64))
    payload_bytes = header.files[files.PAYLOAD].byte_count
    if int(offsets[0]) != 0 or int(offsets[-1]) != payload_bytes:
        return f"it runs from {offsets[0]} to {offsets[-1]}, {files.PAYLOAD} has {payload_bytes} bytes"
    for start in range(0, header.row_count, _BLOCK_ROWS):
        block = offsets[start : start + _BLOCK_ROWS + 1]
        falls = np.flatnonzero(block[1:] < block[:-1])
        if len(falls):
            return f"the payload of row {start + int(falls[0])} ends before it starts"
    return None


def _problem_of_order(folder: Path, header: SegmentHeader) -> str | None:
    keys = files.map_array(folder / files.KEYS, NARROW if header.key_bytes == NARROW.itemsize else WIDE)
    order = files.map_array(folder / files.ORDER, np.dtype(np.int64))
    named = np.zeros(header.row_count, np.bool_)
    live_count = 1
    for start in range(0, header.row_count, _BLOCK_ROWS):
        rows = order[start : start + _BLOCK_ROWS + 1]
        if rows.min() < 0 or rows.max() >= header.row_count:
            return f"it names rows from {rows.min()} to {rows.max()}, of {header.row_count}"
        named[rows] = True
        block = keys[rows]
        is_next_key = block[:-1] != block[1:]
        live_count += int(is_next_key.sum())
        falls = (block[:-1] > block[1:]) | (~is_next_key & (rows[:-1] > rows[1:]))
        if falls.any():
            return f"the keys are not in order at place {start + int(np.argmax(falls))}"
    if not named.all():
        return f"it does not name row {int(np.argmin(named))}"
    return None if live_count == header.live_count else f"{live_count} keys live, the header says {header.live_count}"
