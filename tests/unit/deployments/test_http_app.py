"""The application's shell: routes, bodies, errors that no handler foresaw, and what ASGI servers send besides."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from deployments.http_app import HttpApp
from deployments.limits import LimitSettings
from shards.errors import Corrupt, DeadlineExceeded, MemoryExhausted, QueueFull, ShardUnavailable
from tests.unit.deployments.asgi_client import AsgiClient
from tests.unit.deployments.fake_cluster import FakeCluster

COLLECTION = {"vectors": {"size": 2, "distance": "Dot"}}


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def client(cluster: FakeCluster) -> AsgiClient:
    client = AsgiClient(HttpApp(cluster, LimitSettings(body_bytes_max=500), "9.9.9"))
    assert client.call("PUT", "/collections/c", COLLECTION).result is True
    return client


def test_root_names_the_service(client: AsgiClient) -> None:
    about = client.call("GET", "/").json()
    assert about["title"] == "shoal"
    assert about["version"].startswith("1.19.")
    assert about["shoal_version"] == "9.9.9"


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz"])
def test_health_is_plain_text(client: AsgiClient, path: str) -> None:
    answer = client.call("GET", path)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain")


def test_readyz_tells_the_shard_that_fails(client: AsgiClient, cluster: FakeCluster) -> None:
    cluster.problem = ShardUnavailable("shard 0 at a secret address does not answer")
    answer = client.call("GET", "/readyz")
    assert answer.status == 503
    assert answer.body.startswith(b"not ready: shard 0 does not answer (shard_unavailable); 1 of 1 searches failed")
    assert b"secret" not in answer.body
    assert answer.headers["retry-after"] == "2"
    assert client.call("GET", "/healthz").status == 200


def test_an_answer_is_two_messages_with_its_length(client: AsgiClient) -> None:
    answer = client.call("POST", "/collections/c/points/query", {"query": [1, 2]})
    assert [message["type"] for message in client.sent] == ["http.response.start", "http.response.body"]
    assert int(answer.headers["content-length"]) == len(answer.body)
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"result", "status", "time", "shoal"}


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/collections/", "/collections/c/nothing", "/collections/c/points/1/2", "//", "/collectionsx/c"],
)
def test_unknown_paths(client: AsgiClient, path: str) -> None:
    answer = client.call("GET", path)
    assert answer.status == 404
    assert path in answer.error


def test_a_trailing_slash_names_the_same_collection(client: AsgiClient) -> None:
    assert client.call("GET", "/collections/c/").status == 200


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/collections/c/points/query", "POST"),
        ("POST", "/collections/c", "GET, PUT, PATCH, DELETE"),
        ("POST", "/collections/c/aliases", "GET"),
        ("DELETE", "/collections/c/points/7", "GET"),
        ("HEAD", "/", "GET"),
    ],
)
def test_wrong_methods_say_the_right_ones(client: AsgiClient, method: str, path: str, allow: str) -> None:
    answer = client.call(method, path)
    assert answer.status == 405
    assert answer.headers["allow"] == allow


def test_a_body_in_pieces(client: AsgiClient) -> None:
    pieces = [b'{"que', b'ry": [1,', b" 2]}"]
    messages: list[Any] = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages.append({"type": "http.request", "body": b"", "more_body": False})
    assert client.call_with("POST", "/collections/c/points/query", messages).result == {"points": []}


def test_a_body_over_the_limit_is_refused_before_its_end(client: AsgiClient) -> None:
    messages: list[Any] = [{"type": "http.request", "body": b"x" * 300, "more_body": True}] * 2
    answer = client.call_with("POST", "/collections/c/points/query", messages)
    assert answer.status == 413
    assert "body_bytes_max of 500" in answer.error
    assert answer.headers["connection"] == "close"


def test_a_body_at_the_limit_passes(client: AsgiClient) -> None:
    assert client.call("POST", "/collections/c/points/query", b'{"query": [1, 2]}'.ljust(500)).status == 200


def test_a_client_that_leaves_gets_no_answer(client: AsgiClient) -> None:
    messages: list[Any] = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
    assert client.call_with("POST", "/collections/c/points/query", messages).status == 0


def test_cancellation_passes_through(client: AsgiClient, cluster: FakeCluster) -> None:
    cluster.problem = asyncio.CancelledError()  # type: ignore[assignment]
    with pytest.raises(asyncio.CancelledError):
        client.call("POST", "/collections/c/points/count", {})
    assert client.sent == []


@pytest.mark.parametrize("problem", [ZeroDivisionError("secret"), Corrupt("secret/segment.bin at offset 7")])
def test_our_own_mistakes_are_logged_and_not_told(
    client: AsgiClient, cluster: FakeCluster, caplog: pytest.LogCaptureFixture, problem: Exception
) -> None:
    cluster.problem = problem
    with caplog.at_level(logging.ERROR):
        answer = client.call("POST", "/collections/c/points/count", {})
    assert answer.status == 500
    assert "secret" not in answer.error
    assert "Traceback" not in answer.error
    request_id = answer.headers["x-request-id"]
    assert request_id in answer.error
    assert request_id in caplog.text
    assert "secret" in caplog.text


@pytest.mark.parametrize(
    ("problem", "status", "retry_after"),
    [
        (ShardUnavailable("shard 0 is away"), 503, None),
        (DeadlineExceeded("too late"), 408, None),
        (QueueFull("full", 1.2), 503, "2"),
        (MemoryExhausted("no room"), 507, "1"),
    ],
)
def test_errors_of_the_cluster_have_their_codes(
    client: AsgiClient, cluster: FakeCluster, problem: Exception, status: int, retry_after: str | None
) -> None:
    cluster.problem = problem
    answer = client.call("POST", "/collections/c/points/count", {})
    assert answer.status == status
    assert answer.error == str(problem)
    assert answer.headers.get("retry-after") == retry_after


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"query": [1, 2', b"\xff\xfe", b'{"query": [1, 2]} x'])
def test_malformed_json_is_a_clear_400(client: AsgiClient, body: bytes) -> None:
    answer = client.call("POST", "/collections/c/points/query", body)
    assert answer.status == 400
    assert answer.error.startswith("Format error in JSON body: ")


def test_deep_nesting_is_refused(client: AsgiClient) -> None:
    answer = client.call("POST", "/collections/c/points/query", b'{"query": ' + b"[" * 240 + b"]" * 240 + b"}")
    assert answer.status == 400


@pytest.mark.parametrize("text", ["0", "-1", "x", "nan", "inf", "99999", "", "5e-324", "1e3", "0.0001", "1_0"])
def test_bad_timeouts_are_refused(client: AsgiClient, text: str) -> None:
    answer = client.call("POST", f"/collections/c/points/count?timeout={text}", {})
    assert answer.status == 400
    assert f"timeout={text}" in answer.error


@pytest.mark.parametrize(
    ("given", "allowed"),
    [
        *(("ordering=wek", "weak, medium, strong"), ("ordering=", "weak, medium, strong")),
        *(
            ("consistency=some", "majority, quorum, all"),
            ("consistency=0", "1 or more"),
            ("consistency=-1", "1 or more"),
        ),
        *(("consistency=1.5", "1 or more"), ("wait=yes", "true, false"), ("wait=", "true, false")),
    ],
)
@pytest.mark.parametrize(
    "route", ["POST /collections/c/points/count", "PUT /collections/c/points", "GET /collections"]
)
def test_parameters_that_can_not_be_are_refused_on_every_route(
    client: AsgiClient, route: str, given: str, allowed: str
) -> None:
    method, path = route.split()
    answer = client.call(method, f"{path}?timeout=5&{given}", {"points": [{"id": 1, "vector": [1, 2]}]})
    assert (answer.status, given in answer.error, allowed in answer.error) == (400, True, True)


@pytest.mark.parametrize(
    "given",
    ["ordering=weak&wait=true", "ordering=medium", "ordering=strong", "consistency=all&ordering=no&ordering=weak"],
)
def test_parameters_that_may_be_are_taken(client: AsgiClient, given: str) -> None:
    body = {"points": [{"id": 1, "vector": [1, 2]}]}
    assert client.call("PUT", f"/collections/c/points?{given}", body).status == 200
    for consistency in ("majority", "quorum", "all", "1", "03", "17"):
        answer = client.call("POST", f"/collections/c/points/count?consistency={consistency}&timeout=0.5", {})
        assert answer.result == {"count": 1}


def test_timeout_and_its_default_reach_the_cluster(client: AsgiClient, cluster: FakeCluster) -> None:
    client.call("POST", "/collections/c/points/count?consistency=majority&timeout=7", {})
    client.call("POST", "/collections/c/points/count", {})
    assert cluster.deadlines[-2:] == [7.0, 60.0]


def test_lifespan_and_websockets_are_answered(cluster: FakeCluster) -> None:
    app = HttpApp(cluster, LimitSettings(), "0")

    def drive(kind: str, events: list[str]) -> list[str]:
        waiting, sent = [{"type": event} for event in events], []

        async def receive() -> dict[str, str]:
            return waiting.pop(0)

        async def send(message: Any) -> None:
            sent.append(message["type"])

        asyncio.run(app({"type": kind}, receive, send))
        return sent

    assert drive("lifespan", ["lifespan.startup", "lifespan.shutdown"]) == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
    assert drive("websocket", ["websocket.connect"]) == ["websocket.close"]
