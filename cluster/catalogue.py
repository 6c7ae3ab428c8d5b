"""The catalogue on disk: read with every check, replaced whole, never invented.

One file, `catalogue.json`:

    {"format":1,"crc32c":"0123abcd","catalogue":{...}}

The checksum (CRC-32C, hex) is over the catalogue's own bytes as they stand in the file. The version before is kept as
`catalogue.previous.json`, for a person to compare or put back: taking it by itself could bring back a
deleted collection or lose a new one.

No catalogue at all means a new data folder, unless something else says that there was one (the previous version, a
shard's folder): that, like damaged bytes, is Corrupt and stops the start. An empty catalogue over existing shards
would hide every point.
"""

from __future__ import annotations

import errno
import re
from pathlib import Path

import google_crc32c
from pydantic import ValidationError

from cluster.catalogue_model import Catalogue
from shards.disk import write_durably
from shards.errors import Corrupt, Internal, ShoalError, StorageFull

CATALOGUE_FILE = "catalogue.json"
PREVIOUS_FILE = "catalogue.previous.json"
SHARDS_FOLDER = "shards"
FORMAT = 1

_FORMAT = re.compile(rb'\{"format":(\d{1,9})\b')
_FILE = re.compile(rb'\{"format":\d+,"crc32c":"([0-9a-f]{8})","catalogue":(\{.*\})\}\n', re.DOTALL)


class CatalogueFile:
    """The catalogue of one data folder. One process at a time may hold it (the cluster's lock sees to that)."""

    def __init__(self, data_folder: Path) -> None:
        self._folder = data_folder
        self._path = data_folder / CATALOGUE_FILE
        self._content: bytes | None = None
        self._fenced: str | None = None

    def load(self) -> Catalogue | None:
        """The catalogue; None in a new data folder. Raises Corrupt, naming the file and the reason."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            self._check_new()
            return None
        catalogue = decode_catalogue(content, str(self._path))
        self._content = content
        return catalogue

    def save(self, catalogue: Catalogue) -> None:
        """Make `catalogue` the durable one. After an error the old one still counts: StorageFull where the disk has
        no room, Internal for any other failure. After the latter nothing more is written in this process's life,
        because what the disk holds is no longer known (an fsync that failed must not be repeated).
        """
        if self._fenced is not None:
            raise Internal(f"the catalogue takes no more changes until a restart, since {self._fenced}")
        content = encode_catalogue(catalogue)
        try:
            if self._content is not None:
                write_durably(self._folder / PREVIOUS_FILE, self._content)
            write_durably(self._path, content)
        except OSError as error:
            raise self._failure(error) from error
        self._content = content

    def _failure(self, error: OSError) -> ShoalError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return StorageFull(f"{self._path} can't be written, the disk is full; make room and repeat: {error}")
        self._fenced = f"writing {self._path} failed: {error}"
        return Internal(self._fenced)

    def _check_new(self) -> None:
        previous = self._folder / PREVIOUS_FILE
        shards = self._folder / SHARDS_FOLDER
        for trace in (previous, *(sorted(shards.iterdir()) if shards.exists() else [])):
            if trace.exists():
                raise Corrupt(
                    f"{self._path} is missing, but {trace} shows that there was a catalogue; put the file back"
                    f" (the version before it is {PREVIOUS_FILE}), or use another data folder"
                )


def encode_catalogue(catalogue: Catalogue) -> bytes:
    """The file's bytes."""
    body = catalogue.model_dump_json().encode()
    checksum = google_crc32c.value(body)
    return b'{"format":%d,"crc32c":"%08x","catalogue":%s}\n' % (FORMAT, checksum, body)


def decode_catalogue(content: bytes, name: str) -> Catalogue:
    """The catalogue in a file's bytes; `name` is how errors call the file. Raises Corrupt."""
    hint = f"; put back a good copy (the version before it is {PREVIOUS_FILE})"
    said = _FORMAT.match(content)
    if said is None:
        raise Corrupt(f"{name} does not begin as a catalogue does ({len(content)} bytes){hint}")
    if int(said[1]) != FORMAT:
        raise Corrupt(f"{name} has format {int(said[1])}, this version of Shoal reads format {FORMAT}")
    whole = _FILE.fullmatch(content)
    if whole is None:
        raise Corrupt(f"{name} is cut or was edited: its {len(content)} bytes don't have a catalogue's shape{hint}")
    checksum, body = int(whole[1], 16), whole[2]
    if google_crc32c.value(body) != checksum:
        raise Corrupt(
            f"{name} is damaged: checksum {google_crc32c.value(body):08x}, the file says {checksum:08x}{hint}"
        )
    try:
        return Catalogue.model_validate_json(body)
    except ValidationError as error:
        raise Corrupt(
            f"{name} is whole, but not a catalogue that this version knows: {error.errors()[0]['msg']}"
        ) from error
