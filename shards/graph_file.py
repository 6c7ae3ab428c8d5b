"""hnswlib's file, read and written without hnswlib: is it a graph of this shape, and does every link lead to a row?

hnswlib's loader trusts its bytes: it takes sizes from the file's header and follows links without a look. So the header
is compared with what the segment says before every load (`check_parameters`, one read of 96 bytes). `check_links` goes
through the whole file; it is for bytes whose checksum says nothing, because whoever made them made the checksum, too.

    header   see `_HEADER`
    rows     row_count x (links on layer 0: u16 count, u16 zero, 2m x u32 | vector: dim x float32 | label: u64)
    layers   for each row a u32 byte count, and for each upper layer that it is on: u16 count, u16 zero, m x u32

hnswlib's own writer holds the interpreter until the last byte is written, and ignores what the system says of them; so
`write_graph` does it, from the arrays that hnswlib gives of itself (shards/hnsw.py). `read_graph` reads them again.

Little-endian (hnswlib 0.8, `saveIndex` and `loadIndex` of hnswalg.h).
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shards.errors import Corrupt

_HEADER = struct.Struct("<QQQQQQiIQQQdQ")
"""Offset of layer 0, capacity, rows, bytes a row, label offset, vector offset, top layer (i32), entry point (u32), links
a row on upper layers, on layer 0, m, level factor (f64), ef_construction."""

_READ_BYTES = 8 * 1024 * 1024
_RUN_ROWS = 256
"""Rows that are looked at together for the next one with upper links; one in m has some."""

_BLOCK_ROWS = 16_384
"""Rows whose links are looked at in one step: bounds the heap that this takes to some ten MiB."""


@dataclass(frozen=True, slots=True)
class GraphFileShape:
    """What a graph's file has to be."""

    dim: int
    m: int
    row_count: int

    @property
    def layer_0_bytes(self) -> int:
        return 8 * self.m + 4

    @property
    def upper_layer_bytes(self) -> int:
        return 4 * self.m + 4

    @property
    def row_bytes(self) -> int:
        return self.layer_0_bytes + 4 * self.dim + 8

    @property
    def layers_offset(self) -> int:
        return _HEADER.size + self.row_count * self.row_bytes


def check_parameters(path: Path, shape: GraphFileShape) -> None:
    """Raises Corrupt, naming the file, unless its header and its length are those of a graph of this shape."""
    byte_count = path.stat().st_size
    if byte_count < shape.layers_offset + 4 * shape.row_count:
        raise Corrupt(f"{path} has {byte_count} bytes, too few for {shape.row_count} rows of {shape.row_bytes}")
    with open(path, "rb") as file:
        _check_header(path, file.read(_HEADER.size), shape)


def write_graph(path: Path, state: Mapping[str, Any]) -> None:
    """Write the file of a graph from what hnswlib's `__getstate__` gives. Raises OSError."""
    rows = state["cur_element_count"]
    sizes = (state["element_levels"][:rows].astype(np.uint32)) * np.uint32(state["size_links_per_element"])
    words = sizes // 4 + 1  # each row's byte count, and its links
    ends = np.cumsum(words, dtype=np.int64)
    layers = np.empty(int(ends[-1]) if rows else 0, np.uint32)
    is_link = np.ones(len(layers), np.bool_)
    is_link[ends - words] = False
    layers[ends - words] = sizes
    layers[is_link] = state["link_lists"].view(np.uint32)
    header = _HEADER.pack(
        *(state["offset_level0"], state["max_elements"], rows, state["size_data_per_element"]),
        *(state["label_offset"], state["offset_data"], state["max_level"], state["enterpoint_node"]),
        *(state["max_M"], state["max_M0"], state["M"], state["mult"], state["ef_construction"]),
    )
    with open(path, "wb") as file:
        file.write(header)
        file.write(state["data_level0"].data)
        file.write(layers.data)


def read_graph(path: Path, shape: GraphFileShape) -> dict[str, Any]:
    """What hnswlib's `__getstate__` gave when the file was written, but for its space: the inverse of `write_graph`. The
    caller has verified the file's checksum. Raises Corrupt for a graph of another shape.
    """
    check_parameters(path, shape)
    content = np.empty(path.stat().st_size, np.uint8)
    with open(path, "rb", buffering=0) as file:
        # Not mapped: hnswlib would meet every page for the first time, with the interpreter in its hand.
        for at in range(0, len(content), _READ_BYTES):
            file.readinto(content[at : at + _READ_BYTES].data)
    header = _HEADER.unpack_from(content.data)
    start, _, rows, row_bytes, label_offset, vector_offset, top, entry, m, m0, _, mult, ef = header
    level_0 = content[_HEADER.size : shape.layers_offset]
    labels = level_0.reshape(rows, row_bytes)[:, label_offset:].copy().view(np.uint64).ravel()
    levels, links = _read_layers(content[shape.layers_offset :], shape)
    return {
        "offset_level0": start,
        "max_elements": rows,
        "cur_element_count": rows,
        "size_data_per_element": row_bytes,
        "label_offset": label_offset,
        "offset_data": vector_offset,
        "max_level": top,
        "enterpoint_node": entry,
        "max_M": m,
        "max_M0": m0,
        "M": m,
        "mult": mult,
        "ef_construction": ef,
        "size_links_per_element": shape.upper_layer_bytes,
        "label_lookup_external": labels,
        "label_lookup_internal": np.arange(rows, dtype=np.uint32),
        "element_levels": levels,
        "data_level0": level_0.view(np.int8),
        "link_lists": links,
    }


def _read_layers(content: npt.NDArray[np.uint8], shape: GraphFileShape) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The level of each row, int32, and the links above layer 0 without the byte counts between them, int8.

    Where the next byte count stands is known from the one before it, so they are found run by run: most rows have none.
    """
    words = content.view(np.uint32)
    levels = np.zeros(shape.row_count, np.int32)
    is_link = np.zeros(len(words), np.bool_)
    step = shape.upper_layer_bytes // 4
    row = at = 0
    while row < shape.row_count:
        run = words[at : at + shape.row_count - row]
        ends = np.flatnonzero(run[:_RUN_ROWS])
        if not len(ends):
            row, at = row + len(run[:_RUN_ROWS]), at + len(run[:_RUN_ROWS])
            continue
        row, at = row + int(ends[0]), at + int(ends[0])
        levels[row] = int(words[at]) // shape.upper_layer_bytes
        is_link[at + 1 : at + 1 + step * int(levels[row])] = True
        at += 1 + step * int(levels[row])
        row += 1
    return levels, words[is_link].view(np.int8)


def check_links(path: Path, shape: GraphFileShape) -> None:
    """Raises Corrupt, naming the file, unless hnswlib can follow every link in it. Reads all of it, by mapping."""
    check_parameters(path, shape)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        problem = _problem_of_rows(mapped, shape) or _problem_of_layers(mapped, shape)
    if problem is not None:
        raise Corrupt(f"{path} is no graph of {shape.row_count} rows: {problem}")


def _check_header(path: Path, content: bytes, shape: GraphFileShape) -> None:
    start, capacity, rows, row_bytes, label_offset, vector_offset, top, entry, *links, _, _ = _HEADER.unpack(content)
    expected: dict[str, tuple[object, object]] = {
        "rows": (rows, shape.row_count),
        "links a row": (tuple(links), (shape.m, 2 * shape.m, shape.m)),
        "bytes a row": (row_bytes, shape.row_bytes),
        "offsets": (
            (start, vector_offset, label_offset),
            (0, shape.layer_0_bytes, shape.layer_0_bytes + 4 * shape.dim),
        ),
        "room for its rows": (capacity >= rows, True),
        "an entry point among its rows": (entry < rows and top >= 0, True),
    }
    for what, (found, wanted) in expected.items():
        if found != wanted:
            raise Corrupt(
                f"{path} is another graph than the segment's: its header says {what}: {found}, not {wanted}"
            )


def _problem_of_rows(mapped: mmap.mmap, shape: GraphFileShape) -> str | None:
    """What is wrong with layer 0 or with the labels."""
    labelled = np.zeros(shape.row_count, np.bool_)
    for start in range(0, shape.row_count, _BLOCK_ROWS):
        count = min(_BLOCK_ROWS, shape.row_count - start)
        offset = _HEADER.size + start * shape.row_bytes
        rows = np.frombuffer(mapped[offset : offset + count * shape.row_bytes], np.uint8).reshape(count, -1)
        if (problem := _problem_of_links(rows[:, : shape.layer_0_bytes], shape.row_count)) is not None:
            return f"on layer 0 {problem}"
        labels = np.ascontiguousarray(rows[:, -8:]).view(np.uint64).ravel()
        if labels.max() >= shape.row_count:
            return f"it has a label {labels.max()}"
        labelled[labels] = True
    return None if labelled.all() else f"row {int(np.argmin(labelled))} has no label"


def _problem_of_layers(mapped: mmap.mmap, shape: GraphFileShape) -> str | None:
    """What is wrong above layer 0. A link on a layer has to lead to a row that is on it."""
    top, entry = struct.unpack_from("<iI", mapped, 48)
    levels = np.zeros(shape.row_count, np.int64)
    places: list[tuple[int, int]] = []
    at = shape.layers_offset
    for row in range(shape.row_count):
        if at + 4 > len(mapped):
            return f"it ends before the layers of row {row}"
        (byte_count,) = struct.unpack_from("<I", mapped, at)
        at += 4
        if byte_count:
            levels[row], rest = divmod(byte_count, shape.upper_layer_bytes)
            if rest or at + byte_count > len(mapped):
                return f"row {row} has {byte_count} bytes of layers"
            places.append((at, int(levels[row])))
            at += byte_count
    if at != len(mapped):
        return f"{len(mapped) - at} bytes stand behind it"
    if not levels.max() == levels[entry] == top:
        return f"its top layer is {levels.max()}, its header says {top} and enters on {levels[entry]}"
    for place, level_count in places:
        content = np.frombuffer(mapped[place : place + level_count * shape.upper_layer_bytes], np.uint8)
        layers = content.reshape(level_count, -1)
        problem = _problem_of_links(layers, shape.row_count) or _problem_of_levels(layers, levels)
        if problem is not None:
            return f"above layer 0 {problem}"
    return None


def _problem_of_links(content: npt.NDArray[np.uint8], row_count: int) -> str | None:
    """`content`: lists of links, uint8 (lists, bytes of a list)."""
    words = np.ascontiguousarray(content).view(np.uint32)
    counts, links = words[:, 0], words[:, 1:]
    if counts.max() > links.shape[1]:  # a mark of deletion in the upper half shows here as well
        return f"a row says {counts.max()} links, {links.shape[1]} fit"
    used = links[_used(counts, links.shape[1])]
    return f"a link leads to row {used.max()}" if used.size and used.max() >= row_count else None


def _problem_of_levels(layers: npt.NDArray[np.uint8], levels: npt.NDArray[np.int64]) -> str | None:
    words = np.ascontiguousarray(layers).view(np.uint32)
    for layer, (count, *links) in enumerate(words.tolist(), 1):
        low = [link for link in links[:count] if levels[link] < layer]
        if low:
            return f"a link on layer {layer} leads to row {low[0]}, which is not on it"
    return None


def _used(counts: npt.NDArray[Any], width: int) -> npt.NDArray[np.bool_]:
    used: npt.NDArray[np.bool_] = np.arange(width) < counts[:, None]
    return used
