"""What `location` of a recovery may be: the name of a snapshot, a file in one folder, an address that is allowed.

Whoever may recover names the location, so nothing about it is trusted. A file has to lie inside the folder of
`snapshots.folder` once every link is followed, and to be a plain one; a refusal says the same of a file that is elsewhere
and of one that is not there. An address is fetched only where it begins with one of `snapshots.url_prefixes` (host and
port compared whole, the path by its segments, and nothing in it that servers read in several ways), without following
redirections. Both are read in pieces.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from time import perf_counter
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from deployments.snapshot_settings import SnapshotSettings
from shards.errors import DeadlineExceeded, InvalidRequest, Unavailable

PIECE_BYTES = 1024 * 1024
FETCH_S = 60.0
"""How long another server may be silent."""
GATHER_S = 1.0
"""How long a piece is gathered of what another server sends in crumbs."""


class NamedSource(NamedTuple):
    """A snapshot that the cluster keeps. Compared with the names that there are, never made a path."""

    name: str


class FileSource(NamedTuple):
    """A snapshot that is a file of this machine; its path has no link in it."""

    path: Path

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Its bytes. Raises InvalidRequest where it can't be read."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise InvalidRequest(f"the file of `location` can't be read: {error.strerror}") from None
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise InvalidRequest("the file of `location` is no plain file")
            async for piece in _pieces(file.read):
                yield piece


class UrlSource(NamedTuple):
    """A snapshot that another server gives out, for the key that it may ask for."""

    url: SplitResult
    api_key: str | None

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Its bytes. Raises InvalidRequest where the server refuses, Unavailable where it can't be reached."""
        kind = HTTPSConnection if self.url.scheme == "https" else HTTPConnection
        connection = kind(self.url.netloc, timeout=FETCH_S)
        try:
            await asyncio.to_thread(connection.connect)
            # The inner one of the two comes before the response is closed: closing waits for the thread that reads.
            with (
                _hanging_up(connection.sock) as line,
                await asyncio.to_thread(self._ask, connection) as response,
                _hanging_up(line),
            ):
                if response.status != 200:
                    refusal = f"{self.url.netloc} answered {response.status} instead of giving out the snapshot"
                    raise InvalidRequest(refusal)
                async for piece in _pieces(partial(_gather, response)):
                    yield piece
                if response.length:  # what the other server said that would still come
                    raise OSError(f"{response.length} bytes are missing")
        except (OSError, HTTPException) as error:
            raise Unavailable(f"{self.url.netloc} did not give out the whole snapshot: {error}") from error
        finally:
            connection.close()

    def _ask(self, connection: HTTPConnection) -> HTTPResponse:
        target = self.url.path + (f"?{self.url.query}" if self.url.query else "")
        connection.request("GET", target, headers={} if self.api_key is None else {"api-key": self.api_key})
        return connection.getresponse()


Source = NamedSource | FileSource | UrlSource


def source_of(location: str, api_key: str | None, settings: SnapshotSettings) -> Source:
    """What a location names. Raises InvalidRequest, with the setting's name, where it is not allowed."""
    if ":" not in location:
        return NamedSource(location)
    try:
        url = urlsplit(location)
        scheme, path = url.scheme, unquote(url.path, errors="strict")
    except ValueError:
        raise InvalidRequest(f"`location` {location[:200]!r} is neither a snapshot's name nor an address") from None
    if scheme == "file":
        return _file(url, path, settings.folder)
    if scheme in ("http", "https"):
        if not location.isascii() or not location.isprintable() or " " in location:
            raise InvalidRequest("`location` is no address: it has characters that none has")
        if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
            raise InvalidRequest("`api_key` has characters that no key has")
        if not any(_begins_with(url, path, prefix) for prefix in settings.url_prefixes):
            raise InvalidRequest(
                "`location` is at an address that this cluster does not fetch from; the setting snapshots.url_prefixes"
                " lists those that it does"
            )
        return UrlSource(url, api_key)
    raise InvalidRequest(f"`location` begins with `{scheme[:40]}:`; give a snapshot's name, file:// or http(s)://")


def _file(url: SplitResult, path: str, folder: Path | None) -> FileSource:
    refusal = InvalidRequest(
        "`location` is no file inside the folder that the setting snapshots.folder names (by default `snapshots` in the"
        " data folder)"
    )
    if folder is None or url.netloc not in ("", "localhost") or url.query or url.fragment or "\0" in path:
        raise refusal
    try:
        root, file = folder.resolve(strict=True), Path(path).resolve(strict=True)
    except (OSError, RuntimeError):  # missing, not to be read, or links in a circle
        raise refusal from None
    if root not in file.parents or not file.is_file():
        raise refusal
    return FileSource(file)


def _begins_with(url: SplitResult, path: str, prefix: str) -> bool:
    """`path`: the address' own, unquoted once."""
    allowed = urlsplit(prefix)
    if (url.scheme, url.netloc.lower()) != (allowed.scheme, allowed.netloc.lower()) or "@" in url.netloc:
        return False
    if "\\" in path or "%" in path or any(segment.startswith("..") for segment in path.split("/")):
        return False  # `%2e`, `..;` and `..\\` lead upwards on some servers
    folder = unquote(allowed.path)
    return path == folder or path.startswith(folder.rstrip("/") + "/")


async def _pieces(read: Callable[[int], bytes]) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(read, PIECE_BYTES):
        yield piece


def _gather(response: HTTPResponse, byte_count: int) -> bytes:
    """What comes until it is so much, or GATHER_S are over; nothing where no more comes."""
    give_up_at = perf_counter() + GATHER_S
    gathered = bytearray()
    while len(gathered) < byte_count and (piece := response.read1(byte_count - len(gathered))):
        gathered += piece
        if perf_counter() >= give_up_at:
            break
    return bytes(gathered)


@contextmanager
def _hanging_up(line: socket.socket) -> Iterator[socket.socket]:
    """Ends a connection, so that a thread which still waits for something on it gets it back."""
    try:
        yield line
    finally:
        with suppress(OSError):  # the other side was first
            line.shutdown(socket.SHUT_RDWR)


async def within(chunks: AsyncGenerator[bytes, None], deadline_s: float) -> AsyncGenerator[bytes, None]:
    """The same chunks, all of them within `deadline_s`, what is done with them included. Raises DeadlineExceeded."""
    give_up_at = asyncio.get_running_loop().time() + deadline_s
    try:
        while True:
            try:
                async with asyncio.timeout_at(give_up_at):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise DeadlineExceeded(f"the snapshot was not read whole within {deadline_s:g} s") from None
            yield chunk
    finally:
        await chunks.aclose()
