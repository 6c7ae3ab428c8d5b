"""What a location may be: no path leaves the folder, no address is called that nobody allowed."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from deployments.snapshot_settings import SnapshotSettings
from deployments.snapshot_sources import FileSource, NamedSource, UrlSource, source_of, within
from shards.errors import DeadlineExceeded, InvalidRequest, ShoalError, Unavailable

DATA = os.urandom(2_500_000)


@pytest.fixture
def settings(tmp_path: Path) -> SnapshotSettings:
    root = tmp_path / "root"
    (root / "inner").mkdir(parents=True)
    (root / "inner" / "one.snapshot").write_bytes(DATA)
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "root-beside").write_bytes(b"secret")
    (root / "leaves").symlink_to(tmp_path / "secret")
    (root / "folder").symlink_to(tmp_path)
    (root / "stays").symlink_to(root / "inner" / "one.snapshot")
    (root / "circle").symlink_to(root / "circle")
    os.mkfifo(root / "pipe")
    return SnapshotSettings(
        folder=root,
        url_prefixes=("https://snapshots.example.org:8080/of/", "http://127.0.0.1:1", "http://127.0.0.1:2/a%20b"),
    )


def read(source: Any) -> bytes:
    async def whole() -> bytes:
        return b"".join([piece async for piece in source.chunks()])

    return asyncio.run(whole())


def test_a_name_is_a_name() -> None:
    for name in ("snapshot-1", "../x", "/etc/passwd"):
        assert source_of(name, None, SnapshotSettings()) == NamedSource(name)


@pytest.mark.parametrize(
    "path", ["inner/one.snapshot", "stays", "inner/../inner/one.snapshot", "inner/%6fne.snapshot"]
)
@pytest.mark.parametrize("host", ["", "localhost"])
def test_a_file_inside_is_read(settings: SnapshotSettings, path: str, host: str) -> None:
    source = source_of(f"file://{host}{settings.folder}/{path}", None, settings)
    assert isinstance(source, FileSource)
    assert read(source) == DATA


OUTSIDE = [
    *(
        "../secret",
        "%2e%2e/secret",
        "..%2fsecret",
        "leaves",
        "folder/secret",
        "circle",
        "missing",
        "inner",
        "pipe",
        "",
    ),
    *(".", "..", "../root-beside", "inner/two.snapshot", "inner/one.snapshot%00", "inner/one.snapshot?x", "one\n"),
]


@pytest.mark.parametrize("path", OUTSIDE)
def test_nothing_else_is(settings: SnapshotSettings, path: str) -> None:
    with pytest.raises(InvalidRequest, match=r"snapshots\.folder"):
        read(source_of(f"file://{settings.folder}/{path}", None, settings))


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "file:///", "file:", "file://elsewhere/x", "file:///proc/self/mem"]
)
def test_nothing_of_the_machine_is(settings: SnapshotSettings, location: str) -> None:
    for chosen in (settings, SnapshotSettings()):
        with pytest.raises(InvalidRequest, match=r"snapshots\.folder"):
            source_of(location, None, chosen)


def test_a_file_that_becomes_a_link_is_not_followed(settings: SnapshotSettings, tmp_path: Path) -> None:
    file = tmp_path / "root" / "inner" / "one.snapshot"
    source = source_of(file.as_uri(), None, settings)
    file.unlink()
    file.symlink_to(tmp_path / "secret")
    with pytest.raises(InvalidRequest, match="can't be read"):
        read(source)


@pytest.mark.parametrize(
    "location",
    [
        *("http://snapshots.example.org:8080/of/x", "https://snapshots.example.org/of/x", "https://[::1]:8080/of/x"),
        *("https://snapshots.example.org:8080.evil.org/of/x", "https://snapshots.example.org:8080/off/x"),
        *("https://snapshots.example.org:8080@evil.org/of/x", "https://evil@snapshots.example.org:8080/of/x"),
        *("https://snapshots.example.org:8080/of/../x", "https://snapshots.example.org:8080/of/%2e%2e/x"),
        *("http://127.0.0.1:1/%252e%252e/x", "http://127.0.0.1:1/x%255cy", "http://127.0.0.1:1/..%5cx"),
        *("http://127.0.0.1:1/..;/x", "http://127.0.0.1:1/a\\b", "http://127.0.0.1:1/a/..b/x"),
        *("http://127.0.0.1:2/a%20bc", "http://127.0.0.1:2/a", "http://127.0.0.1:2/a%2520b/x"),
        *("http://127.0.0.1:11/x", "http://127.0.0.1/x", "http://169.254.169.254/latest", "http://[::1", "http://"),
        *("http://127.0.0.1:1/a b", "http://127.0.0.1:1/\r\nx: y", "ftp://127.0.0.1:1/x", "gopher://x", "x:"),
    ],
)
def test_no_other_address_is_called(settings: SnapshotSettings, location: str) -> None:
    with pytest.raises(InvalidRequest):
        source_of(location, None, settings)


@pytest.mark.parametrize(
    "location",
    [
        *(
            "http://127.0.0.1:1",
            "http://127.0.0.1:1/",
            "http://127.0.0.1:1/a/.b/x%20y?z=..%2f",
            "HTTP://127.0.0.1:1/x",
        ),
        *("http://127.0.0.1:2/a%20b", "http://127.0.0.1:2/a%20b/x", "https://SNAPSHOTS.example.org:8080/of/x"),
    ],
)
def test_what_a_prefix_holds_may_be_called(settings: SnapshotSettings, location: str) -> None:
    assert isinstance(source_of(location, None, settings), UrlSource)


@pytest.mark.parametrize(
    "prefix",
    [
        *(
            "",
            "host",
            "host:80/x",
            "//host/x",
            "/x",
            "ftp://host/",
            "file:///x",
            "http://",
            "http:///x",
            "http://:80/",
        ),
        *("http://user@host/", "http://a:b@host/", "http://host/x?file=", "http://host/?", "http://host/#x"),
        *("http://host:port/", "http://host:99999/", "http://[::1/", "http://host/a\\b", "http://h\u0130st/"),
    ],
)
def test_a_prefix_says_a_whole_server(prefix: str) -> None:
    with pytest.raises(ValidationError, match="url_prefixes"):
        SnapshotSettings(url_prefixes=(prefix,))


def test_none_is_called_by_default() -> None:
    for location in ("http://127.0.0.1:1/x", "https://example.org/x"):
        with pytest.raises(InvalidRequest, match=r"snapshots\.url_prefixes"):
            source_of(location, None, SnapshotSettings())


def test_a_key_that_would_be_more_than_a_header_is_refused(settings: SnapshotSettings) -> None:
    with pytest.raises(InvalidRequest, match="api_key"):
        source_of("http://127.0.0.1:1/x", "a\r\nx: y", settings)


class Server(BaseHTTPRequestHandler):
    """Gives DATA for `/of/good` to whoever has the key; `/of/moved` leads away, `/of/short` ends too early, `/of/crumbs` comes
    byte by byte, `/of/silent` not at all, and `/of/mute` has not even a head; these three until the client goes.
    """

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path == "/of/moved":
            self.send_response(302)
            self.send_header("location", "/of/good")
            self.end_headers()
            return
        if self.path == "/of/mute":
            self.rfile.read(1)
            return
        self.send_response(200 if self.headers["api-key"] == "k" else 403)
        self.send_header("content-length", str(len(DATA)))
        self.end_headers()
        if self.path == "/of/silent":
            self.rfile.read(1)
            return
        if self.path == "/of/crumbs":
            with suppress(OSError):
                while not threading.Event().wait(0.02):
                    self.wfile.write(b"x")
            return
        self.wfile.write(DATA[:1000] if self.path == "/of/short" else DATA)

    def log_message(self, *_: Any) -> None:
        """Nothing: a test is quiet."""


@pytest.fixture
def origin() -> Iterator[str]:
    Server.asked = []
    with HTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def fetch(origin: str, path: str, api_key: str | None = "k") -> bytes:
    source = source_of(origin + path, api_key, SnapshotSettings(url_prefixes=(origin + "/of/",)))
    assert isinstance(source, UrlSource)
    return read(source)


def test_an_allowed_address_is_fetched(origin: str) -> None:
    assert fetch(origin, "/of/good?x=1") == DATA
    assert Server.asked == ["/of/good?x=1"]


@pytest.mark.parametrize(
    ("path", "key", "error", "words"),
    [
        ("/of/good", None, InvalidRequest, "answered 403"),
        ("/of/moved", "k", InvalidRequest, "answered 302"),
        ("/of/short", "k", Unavailable, "did not give out the whole"),
    ],
)
def test_what_goes_wrong_there_is_told(
    origin: str, path: str, key: str | None, error: type[ShoalError], words: str
) -> None:
    with pytest.raises(error, match=words):
        fetch(origin, path, key)
    assert Server.asked == [path], "a redirection is not followed"


@pytest.mark.parametrize("path", ["/of/crumbs", "/of/silent", "/of/mute"])
def test_who_gives_out_too_slowly_is_left(origin: str, path: str) -> None:
    source = source_of(origin + path, "k", SnapshotSettings(url_prefixes=(origin,)))
    assert isinstance(source, UrlSource)

    async def whole() -> None:
        async for piece in within(source.chunks(), 0.5):
            assert set(piece) == set(b"x")

    with pytest.raises(DeadlineExceeded, match=r"within 0\.5 s"):
        asyncio.run(whole())


def test_what_comes_in_time_is_not_changed(origin: str) -> None:
    source = source_of(origin + "/of/good", "k", SnapshotSettings(url_prefixes=(origin,)))
    assert isinstance(source, UrlSource)

    async def whole() -> bytes:
        return b"".join([piece async for piece in within(source.chunks(), 60.0)])

    assert asyncio.run(whole()) == DATA


def test_settings_from_the_environment_are_blank_separated() -> None:
    assert SnapshotSettings.model_validate({"url_prefixes": "http://a/ http://b/"}).url_prefixes == (
        "http://a/",
        "http://b/",
    )
