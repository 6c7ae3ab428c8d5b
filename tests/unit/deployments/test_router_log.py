"""Lines of a router's log: about what, in which form, and under which request id."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.scope import Scope
from deployments import router_log
from deployments.http_app import HttpApp
from deployments.http_client import ClusterClient
from deployments.http_message import Reply, Request
from deployments.limits import LimitSettings
from deployments.log_settings import LogSettings
from deployments.observability import ObserveSettings
from deployments.router_log import LOG_FILE, SLOW_LINES_PER_S, LineFormatter, given_id, start_log
from deployments.router_parts import RouterParts
from tests.http_server import Entrance, serving_cluster
from tests.unit.deployments.asgi_client import AsgiClient
from tests.unit.deployments.fake_cluster import FakeCluster

SLOW = LogSettings(format="json", slow_ms=0.0001)
BUSY = "/collections/words/points/count"


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def logged(tmp_path: Path) -> Iterator[Path]:
    """The log's file, written as JSON."""
    levels = {name: logging.getLogger(name).level for name in router_log.PACKAGES}
    handler = start_log(tmp_path, SLOW, "r1")
    try:
        yield tmp_path / LOG_FILE
    finally:
        handler.close()
        for name, level in levels.items():
            logging.getLogger(name).removeHandler(handler)
            logging.getLogger(name).setLevel(level)


def client_of(cluster: FakeCluster, log: LogSettings, **headers: str) -> AsgiClient:
    client = AsgiClient(HttpApp(cluster, LimitSettings(), "0", None, RouterParts(observe=ObserveSettings(log=log))))
    client.call("PUT", "/collections/words", {"vectors": {"size": 2, "distance": "Dot"}})
    client.headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return client


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_slow_request_is_logged_with_its_id(cluster: FakeCluster, logged: Path) -> None:
    answer = client_of(cluster, SLOW, x_request_id="mine-1").call("POST", BUSY, {})
    line = lines(logged)[-1]
    assert answer.headers["x-request-id"] == line["request_id"] == "mine-1"
    assert (line["message"], line["level"], line["router"]) == ("slow request", "WARNING", "r1")
    assert (line["route"], line["status"], line["collection"]) == (
        "POST /collections/{collection}/points/count", 200, "words"
    )  # fmt: skip
    assert line["ms"] > 0


def test_an_overload_does_not_fill_the_disk(cluster: FakeCluster, logged: Path) -> None:
    client = client_of(cluster, SLOW)
    log = client.app.observed.log  # type: ignore[attr-defined]
    request = Request(Scope("words"), "", b"", b"", 100.0)
    before = len(lines(logged))
    for _ in range(25):
        log.finish(request, Reply(b""), "GET /", 200.5)
    assert len(lines(logged)) == before + SLOW_LINES_PER_S
    log.finish(request, Reply(b""), "GET /", 201.5)
    assert lines(logged)[-1]["slow_requests_untold"] == 25 - SLOW_LINES_PER_S


def test_ids_are_made_where_none_is_given(cluster: FakeCluster, logged: Path) -> None:
    client = client_of(cluster, SLOW)
    made = [client.call("POST", BUSY, {}).headers["x-request-id"] for _ in range(3)]
    assert len(set(made)) == 3
    assert [line["request_id"] for line in lines(logged)[-3:]] == made


def test_a_fast_request_leaves_no_line_and_an_id_only_if_given(cluster: FakeCluster, logged: Path) -> None:
    fast = LogSettings(slow_ms=None)
    assert "x-request-id" not in client_of(cluster, fast).call("POST", BUSY, {}).headers
    given = client_of(cluster, fast, x_request_id="mine")
    assert given.call("POST", BUSY, {}).headers["x-request-id"] == "mine"
    assert given.call("GET", "/nothing/here").headers["x-request-id"] == "mine"
    assert lines(logged) == []


@pytest.mark.parametrize("bad", ["", "a b", "x" * 129, "a\nb", "a\u00e9", '"'])
def test_an_id_that_no_log_should_hold_is_passed_over(bad: str) -> None:
    assert given_id([(b"x-request-id", bad.encode())]) == ""


def test_a_failure_is_logged_with_its_trace(cluster: FakeCluster, logged: Path) -> None:
    client = client_of(cluster, LogSettings(), x_request_id="mine-2")
    cluster.problem = ZeroDivisionError("a secret")
    answer = client.call("POST", BUSY, {})
    line = lines(logged)[-1]
    assert (answer.status, answer.headers["x-request-id"]) == (500, "mine-2")
    assert "mine-2" in answer.error
    assert (line["level"], line["request_id"]) == ("ERROR", "mine-2")
    assert "ZeroDivisionError: a secret" in line["trace"]


def test_a_search_tells_its_phases(tmp_path: Path, logged: Path) -> None:
    entrance = Entrance(observe=ObserveSettings(log=SLOW))
    with serving_cluster(tmp_path / "shards", 1, entrance=entrance) as url, ClusterClient(url) as client:
        client.call("PUT", "/collections/words", {"vectors": {"size": 2, "distance": "Dot"}})
        client.call("POST", "/collections/words/points/query", {"query": [1.0, 2.0]})
    line = next(line for line in lines(logged) if line.get("route", "").endswith("/query"))
    phases = [line[f"{name}_ms"] for name in ("parse", "queue", "scatter", "gather", "merge", "encode")]
    assert sum(phases) == pytest.approx(line["ms"], abs=0.01)


def test_text_is_one_line_whatever_it_says() -> None:
    record = logging.LogRecord("deployments.x", logging.INFO, "x.py", 1, "it said %s", ("a\nb",), None)
    record.fields = {"a": "two words", "b": 3, "c": 'say "x"'}
    line = LineFormatter("text", "r1").format(record)
    assert line.endswith(r' INFO deployments.x it said a\nb router=r1 a="two words" b=3 c="say \"x\""')
    assert "\n" not in line


def test_a_large_file_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router_log, "FILE_BYTES_MAX", 10)
    monkeypatch.setattr(router_log, "PACKAGES", ("nobody.uses.this",))
    file = tmp_path / LOG_FILE
    file.parent.mkdir()
    file.write_text("a line that is long\n")
    start_log(tmp_path, LogSettings(), "r1").close()
    assert file.with_name("routers.log.1").read_text() == "a line that is long\n"
    assert file.read_text() == ""
