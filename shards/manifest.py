"""Which sealed segments a collection has on a shard, and up to which LSN they replace the log.

A manifest is one small checksummed file, written under a new number and made visible by an atomic rename. The two
newest are kept, with the log that the older one needs: where the newest is damaged, the older one and the log give
the same points. Rows that died in a sealed segment are kept beside it, as a bitmap that a manifest names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import google_crc32c
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shards.disk import REAL_DISK, Disk
from shards.errors import Corrupt
from shards.segment_files import seal_json, unseal_json

FORMAT = 1
KEPT_COUNT = 2
FILE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
"""What a manifest names lies in the collection's own folder."""
_PREFIX, _SUFFIX = "manifest-", ".json"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SegmentEntry(_Frozen):
    """One segment. `dead_file` names the bitmap of its dead rows, where there are any, `dead_crc32c` its checksum.

    `keys_crc32c`: the checksum of its keys. A segment that was built anew, after damage, has fewer rows under the
    same name: the bitmap is not for those.
    """

    name: Annotated[str, Field(pattern=FILE_NAME)]
    lsn: Annotated[int, Field(ge=0)]
    keys_crc32c: int | None = None
    dead_file: Annotated[str, Field(pattern=FILE_NAME)] | None = None
    dead_crc32c: int = 0


class SessionEntry(_Frozen):
    """A bulk load, by its session in hex, that was committed at `lsn`, and whose segment has been merged away since."""

    session: str
    lsn: Annotated[int, Field(ge=0)]


class Manifest(_Frozen):
    """`applied_lsn`: every op up to it is in the segments. `durable_lsn`: the log's last LSN at the time.

    `history_file` holds the operations that are still recognised when they are repeated (shards/op_history.py).
    `merged_sessions`: loads whose repeated commit is still recognised, though neither log nor segment tells of them.
    """

    format: int = FORMAT
    number: Annotated[int, Field(ge=1)]
    applied_lsn: Annotated[int, Field(ge=0)] = 0
    durable_lsn: Annotated[int, Field(ge=0)] = 0
    segments: tuple[SegmentEntry, ...] = ()
    merged_sessions: tuple[SessionEntry, ...] = ()
    history_file: Annotated[str, Field(pattern=FILE_NAME)] | None = None
    history_crc32c: int = 0


def write_manifest(folder: Path, manifest: Manifest, disk: Disk = REAL_DISK) -> None:
    """Make a manifest the newest one, durably."""
    disk.write_durably(manifest_path(folder, manifest.number), seal_json(manifest.model_dump(mode="json")))


def read_manifests(folder: Path) -> tuple[list[Manifest], list[str]]:
    """The readable manifests, newest first, and what is wrong with the others. Raises Corrupt where none is."""
    readable, problems = [], []
    for number in sorted(manifest_numbers(folder), reverse=True):
        try:
            readable.append(read_manifest(manifest_path(folder, number)))
        except Corrupt as error:
            problems.append(error.message)
    if not readable:
        raise Corrupt(f"{folder} has no readable manifest: {'; '.join(problems) or 'there is none'}")
    return readable, problems


def read_manifest(path: Path) -> Manifest:
    """One manifest. Raises Corrupt, naming the file."""
    try:
        manifest = Manifest.model_validate(unseal_json(path))
    except ValidationError as error:
        raise Corrupt(f"{path} is no manifest of format {FORMAT}: {error.errors()[0]['msg']}") from error
    if path != manifest_path(path.parent, manifest.number):
        raise Corrupt(f"{path} holds manifest {manifest.number}")
    return manifest


def drop_manifests_before(folder: Path, number: int, disk: Disk = REAL_DISK) -> None:
    """Remove manifests with smaller numbers, and the files that belong to them."""
    for old in manifest_numbers(folder):
        if old < number:
            disk.unlink(manifest_path(folder, old))
            for beside in (*folder.glob(f"dead-{old:08d}-*.bits"), *folder.glob(f"ops-{old:08d}.bin")):
                disk.unlink(beside)


def write_dead(
    folder: Path, number: int, segment: str, dead: npt.NDArray[np.bool_], disk: Disk = REAL_DISK
) -> tuple[str, int]:
    """Write a segment's dead rows for manifest `number`; returns the file's name and checksum."""
    name = f"dead-{number:08d}-{segment}.bits"
    content = np.packbits(dead).tobytes()
    disk.write_durably(folder / name, content)
    return name, google_crc32c.value(content)


def read_dead(folder: Path, entry: SegmentEntry, row_count: int) -> npt.NDArray[np.bool_] | None:
    """The dead rows bool (row_count,) that an entry names, or None. Raises Corrupt, naming the file."""
    if entry.dead_file is None:
        return None
    path = folder / entry.dead_file
    content = _read_checked(path, entry.dead_crc32c)
    if len(content) != (row_count + 7) // 8:
        raise Corrupt(f"{path} is damaged: it has {len(content)} bytes for {row_count} rows")
    return np.unpackbits(np.frombuffer(content, np.uint8), count=row_count).view(np.bool_)


def write_history(folder: Path, number: int, content: bytes, disk: Disk = REAL_DISK) -> tuple[str, int]:
    """Write the operations that manifest `number` remembers; returns the file's name and checksum."""
    name = f"ops-{number:08d}.bin"
    disk.write_durably(folder / name, content)
    return name, google_crc32c.value(content)


def read_history(folder: Path, manifest: Manifest) -> bytes:
    """What was written for a manifest, b"" where it names none. Raises Corrupt, naming the file."""
    if manifest.history_file is None:
        return b""
    return _read_checked(folder / manifest.history_file, manifest.history_crc32c)


def _read_checked(path: Path, checksum: int) -> bytes:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise Corrupt(f"{path} is missing") from None
    if google_crc32c.value(content) != checksum:
        raise Corrupt(f"{path} is damaged: its checksum is wrong")
    return content


def manifest_numbers(folder: Path) -> list[int]:
    """The numbers of a collection's manifests, readable or not. A copy that somebody made beside them is none."""
    numbers = (path.name[len(_PREFIX) : -len(_SUFFIX)] for path in folder.glob(f"{_PREFIX}*{_SUFFIX}"))
    return [int(number) for number in numbers if number.isdecimal()]


def manifest_path(folder: Path, number: int) -> Path:
    """Where manifest `number` of a collection lies."""
    return folder / f"{_PREFIX}{number:08d}{_SUFFIX}"
