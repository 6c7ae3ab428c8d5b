"""A snapshot as one file: a plain tar, without compression, whose entries and their order its first entry tells. Pure.

    description.json          the SnapshotContent (snapshot_model.py)
    shard-<id>/<path>         the files of each part

Any tar program reads it. Written, equal contents give equal bytes, for their checksum is told before the file is: no
times, owners or modes of anybody. Read, nothing is taken on trust: an entry is a file (no link, no folder, no extended
header), it has the name and the length that the description gives to its place, and after the last one there are zeros.
"""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from typing import NamedTuple

from cluster.snapshot_model import DESCRIPTION_ENTRY, Entry, SnapshotContent, decode_content, entries
from shards.errors import DamagedSnapshot

BLOCK = tarfile.BLOCKSIZE
END = bytes(2 * BLOCK)
DESCRIPTION_BYTES_MAX = 16 * 1024 * 1024


class Piece(NamedTuple):
    """Bytes of a file, at an offset of it."""

    entry: Entry
    offset: int
    content: bytes


def header(name: str, byte_count: int) -> bytes:
    """An entry's header: one block, for the names and the lengths that parts have."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = byte_count, 0o644
    block = info.tobuf(tarfile.GNU_FORMAT)
    assert len(block) == BLOCK, f"{name} is too long a name"
    return block


def padding(byte_count: int) -> bytes:
    """What fills a file's last block."""
    return bytes(-byte_count % BLOCK)


def encode_content(content: SnapshotContent) -> bytes:
    """The first entry, with its header."""
    encoded = content.model_dump_json().encode()
    return header(DESCRIPTION_ENTRY, len(encoded)) + encoded + padding(len(encoded))


def archive_bytes(content: SnapshotContent) -> int:
    """The length of the whole file."""
    files = sum(
        len(header(entry.name, entry.byte_count)) + entry.byte_count + len(padding(entry.byte_count))
        for entry in entries(content)
    )
    return len(encode_content(content)) + files + len(END)


class ArchiveReader:
    """Bytes in, pieces of files out; `content` is known once the first entry is whole. Raises DamagedSnapshot."""

    def __init__(self) -> None:
        self.content: SnapshotContent | None = None
        self._pending = bytearray()
        self._read_bytes = 0
        self._entry = Entry(DESCRIPTION_ENTRY, 0, -1, "")
        self._offset = 0
        self._in_file = False
        self._expected: Sequence[Entry] = ()
        self._next = 0

    def feed(self, received: bytes) -> list[Piece]:
        """The pieces of files in what has been received now. The description comes alone: feed on from `content`."""
        self._pending += received
        pieces: list[Piece] = []
        while self._step(pieces):
            pass
        return pieces

    def finish(self) -> None:
        """The file ends here. Raises where it is not whole."""
        if self.content is None or self._in_file or self._next < len(self._expected):
            raise DamagedSnapshot(f"the file ends too early, after {self._read_bytes + len(self._pending)} bytes")

    def _step(self, pieces: list[Piece]) -> bool:
        if self.content is None:
            return self._read_description()
        if self._in_file:
            return self._read_file(pieces)
        if self._next == len(self._expected):
            self._check_zeros(self._take(len(self._pending)))
            return False
        if len(self._pending) < BLOCK:
            return False
        entry = self._expected[self._next]
        self._check_header(self._take(BLOCK), entry.name, entry.byte_count)
        self._entry, self._offset, self._in_file = entry, 0, True
        self._next += 1
        return True

    def _read_description(self) -> bool:
        if len(self._pending) < BLOCK:
            return False
        byte_count = self._check_header(bytes(self._pending[:BLOCK]), DESCRIPTION_ENTRY, None)
        if byte_count > DESCRIPTION_BYTES_MAX:
            raise DamagedSnapshot(f"{DESCRIPTION_ENTRY} has {byte_count} bytes; {DESCRIPTION_BYTES_MAX} is the limit")
        whole = BLOCK + byte_count + len(padding(byte_count))
        if len(self._pending) < whole:
            return False
        encoded = self._take(whole)
        self.content = decode_content(encoded[BLOCK : BLOCK + byte_count])
        self._expected = list(entries(self.content))
        return True

    def _read_file(self, pieces: list[Piece]) -> bool:
        left = self._entry.byte_count - self._offset
        if left == 0:
            fill = len(padding(self._entry.byte_count))
            if len(self._pending) < fill:
                return False
            self._check_zeros(self._take(fill))
            if self._entry.byte_count == 0:
                pieces.append(Piece(self._entry, 0, b""))
            self._in_file = False
            return True
        if not self._pending:
            return False
        content = self._take(min(left, len(self._pending)))
        pieces.append(Piece(self._entry, self._offset, content))
        self._offset += len(content)
        return True

    def _take(self, byte_count: int) -> bytes:
        taken = bytes(self._pending[:byte_count])
        del self._pending[:byte_count]
        self._read_bytes += byte_count
        return taken

    def _check_header(self, block: bytes, name: str, byte_count: int | None) -> int:
        """The length of the entry that a header begins, once it is the one that is expected."""
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        except (tarfile.HeaderError, UnicodeDecodeError, ValueError) as error:
            raise DamagedSnapshot(f"where {name} should begin, at {self._read_bytes}, is no entry: {error}") from None
        if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or info.size < 0:
            raise DamagedSnapshot(f"{info.name[:200]!r} is no plain file; a snapshot has nothing else")
        if info.name != name or byte_count not in (None, info.size):
            raise DamagedSnapshot(
                f"{info.name[:200]!r} with {info.size} bytes is not what the description says, which is {name}"
                + (f" with {byte_count}" if byte_count is not None else "")
            )
        return info.size

    def _check_zeros(self, content: bytes) -> None:
        if content.strip(b"\0"):
            raise DamagedSnapshot(f"there is something that belongs to no entry before offset {self._read_bytes}")
