"""The payload indexes of a collection on one shard: which fields are declared, and an index of each for every sealed segment.

    fields.json            the declared fields, checksummed
    indexes/<segment>/     one file a field: magic "SHX1" | crc32c u32 | shards/filters/indexes.py's bytes

An index follows from payloads, which it never disagrees with: one that is missing, damaged, or not yet made costs a look at
the payloads instead. So its files are no part of a segment or a manifest, nothing is lost with them, and they are made anew.
"""

from __future__ import annotations

import hashlib
import mmap
from pathlib import Path

import google_crc32c
from pydantic import TypeAdapter, ValidationError

from shards.disk import Disk
from shards.errors import Corrupt
from shards.field_schema import FieldSchema
from shards.filters.indexes import FieldIndex, FieldKinds, Indexes, IndexesBuilder, decode_index, encode_index
from shards.filters.paths import JsonPath, parse_path
from shards.sealed import SealedSegment
from shards.segment_files import seal_json, unseal_json

FIELDS_FILE = "fields.json"
INDEXES_FOLDER = "indexes"
_MAGIC = b"SHX1"
_HEAD_BYTES = 8
_FIELDS = TypeAdapter(dict[str, FieldSchema])

Fields = dict[str, FieldSchema]
"""The declared fields, by path."""


def read_fields(folder: Path) -> Fields:
    """The declared fields of a collection. Raises Corrupt, naming the file."""
    path = folder / FIELDS_FILE
    if not path.exists():
        return {}
    try:
        return _FIELDS.validate_python(unseal_json(path)["fields"])
    except (ValidationError, KeyError) as error:
        raise Corrupt(f"{path} holds no payload fields: {error}") from error


def write_fields(folder: Path, fields: Fields, disk: Disk) -> None:
    """Declare these fields and no others, durably."""
    disk.write_durably(folder / FIELDS_FILE, seal_json({"fields": _FIELDS.dump_python(fields, mode="json")}))


def kinds_of(fields: Fields) -> FieldKinds:
    """What the index builders have to know."""
    return {path: schema.kind for path, schema in fields.items()}


def missing_fields(segment: SealedSegment, fields: Fields) -> FieldKinds:
    """The declared fields that a segment has no index of."""
    return {
        path: schema.kind
        for path, schema in fields.items()
        if (found := segment.indexes.get(parse_path(path))) is None or found.kind is not schema.kind
    }


def open_indexes(folder: Path, segment: SealedSegment, fields: Fields) -> Indexes:
    """Those of a segment's indexes that are there and whole."""
    opened: dict[JsonPath, FieldIndex] = {}
    for path, schema in fields.items():
        try:
            index = _read_index(_index_path(folder, segment.name, path), segment.row_count)
        except (OSError, Corrupt):
            continue
        if index.kind is schema.kind:
            opened[parse_path(path)] = index
    return opened


def build_indexes(folder: Path, segment: SealedSegment, kinds: FieldKinds, disk: Disk) -> Indexes:
    """Make a segment's indexes of these fields, and their files. Two microseconds a row, and one for each field. Raises
    OSError where the files can't be written.
    """
    builder = IndexesBuilder(kinds)
    for row in range(segment.row_count):
        builder.add(segment.payload(row))
    built = builder.finish()
    disk.make_folder(folder / INDEXES_FOLDER / segment.name)
    for text in kinds:
        content = encode_index(built[parse_path(text)])
        checksum = google_crc32c.value(content).to_bytes(4, "little")
        disk.write_durably(_index_path(folder, segment.name, text), _MAGIC + checksum + content)
    return _mapped(folder, segment, kinds, built)


def _mapped(folder: Path, segment: SealedSegment, kinds: FieldKinds, built: Indexes) -> Indexes:
    """The indexes that were just built, over their files' mapped pages instead of the heap where that works."""
    opened = {}
    for text in kinds:
        path = parse_path(text)
        try:
            opened[path] = _read_index(_index_path(folder, segment.name, text), segment.row_count)
        except (OSError, Corrupt):
            opened[path] = built[path]
    return opened


def remove_indexes(folder: Path, segment_name: str, disk: Disk) -> None:
    """A segment is gone."""
    disk.remove_tree(folder / INDEXES_FOLDER / segment_name)


def _index_path(folder: Path, segment_name: str, path: str) -> Path:
    # A path may hold whatever text a payload's names may; it can't be a file's name.
    return folder / INDEXES_FOLDER / segment_name / (hashlib.sha256(path.encode()).hexdigest()[:32] + ".idx")


def _read_index(path: Path, row_count: int) -> FieldIndex:
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""
    view = memoryview(mapped)
    if bytes(view[:4]) != _MAGIC or google_crc32c.value(bytes(view[_HEAD_BYTES:])).to_bytes(4, "little") != view[4:8]:
        raise Corrupt(f"{path} is damaged")
    return decode_index(view[_HEAD_BYTES:], row_count)
