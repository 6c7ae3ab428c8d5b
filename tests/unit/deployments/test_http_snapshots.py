"""The routes on snapshots: their forms, what they refuse, and that a key sees no more by them than otherwise."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cluster.api_keys import AddKey, Grant, Role, apply_change, new_key
from deployments import http_snapshots
from deployments.http_app import HttpApp
from deployments.limits import LimitSettings
from deployments.router_parts import RouterParts
from deployments.snapshot_settings import SnapshotSettings
from tests.unit.deployments.asgi_client import AsgiClient, Response
from tests.unit.deployments.fake_cluster import FakeCluster, FakeSnapshots

SNAPSHOTS = "/collections/words/snapshots"
RECOVER = SNAPSHOTS + "/recover"


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def client(cluster: FakeCluster, tmp_path: Path) -> AsgiClient:
    (tmp_path / "snapshots").mkdir()
    settings = SnapshotSettings(url_prefixes=("http://127.0.0.1:1/good/",)).within(tmp_path)
    client = AsgiClient(HttpApp(cluster, LimitSettings(), "0", parts=RouterParts(snapshots=settings)))
    assert client.call("PUT", "/collections/words", {"vectors": {"size": 2, "distance": "Dot"}}).result is True
    return client


def test_a_snapshot_is_taken_listed_downloaded_and_deleted(client: AsgiClient) -> None:
    assert client.call("GET", SNAPSHOTS).result == []
    taken = client.call("POST", SNAPSHOTS).result
    assert taken == {
        "name": "snapshot-0",
        "creation_time": "1970-01-01T00:00:01",
        "size": len(FakeSnapshots.DATA),
        "checksum": "ab" * 32,
    }
    assert client.call("GET", SNAPSHOTS).result == [taken]
    file = client.call("GET", SNAPSHOTS + "/snapshot-0")
    assert (file.status, file.body) == (200, FakeSnapshots.DATA)
    assert file.headers["content-length"] == str(len(FakeSnapshots.DATA))
    assert file.headers["content-type"] == "application/x-tar"
    assert file.headers["content-disposition"] == 'attachment; filename="snapshot-0.snapshot"'
    assert client.call("DELETE", SNAPSHOTS + "/snapshot-0").result is True
    assert client.call("GET", SNAPSHOTS).result == []
    for method in ("GET", "DELETE"):
        assert client.call(method, SNAPSHOTS + "/snapshot-0").status == 404


def test_they_outlive_their_collection_and_are_found_by_its_alias(client: AsgiClient, cluster: FakeCluster) -> None:
    cluster.aliases["alias"] = "words"
    taken = client.call("POST", "/collections/alias/snapshots").result
    assert client.call("GET", "/collections/alias/snapshots").result == [taken]
    client.call("DELETE", "/collections/words")
    assert client.call("GET", SNAPSHOTS).result == [taken]
    assert client.call("GET", "/collections/none/snapshots").status == 404
    assert client.call("POST", SNAPSHOTS).status == 404
    assert client.call("PUT", RECOVER, {"location": "snapshot-0"}).result is True
    assert cluster.recovered == [("words", b"snapshot-0")]


def test_wait_false_is_accepted_at_once(client: AsgiClient, cluster: FakeCluster) -> None:
    for method, path, body in (
        ("POST", SNAPSHOTS, None),
        ("PUT", RECOVER, {"location": "snapshot-0"}),
        ("DELETE", SNAPSHOTS + "/none", None),
    ):
        answer = client.call(method, path + "?wait=false", body)
        assert (answer.status, answer.json()["status"], answer.json()["result"]) == (202, "accepted", None)
    assert client.call("POST", "/collections/none/snapshots?wait=false").status == 404
    assert client.call("POST", SNAPSHOTS + "?wait=perhaps").status == 400


def test_time_is_given_generously_unless_it_is_limited(client: AsgiClient, cluster: FakeCluster) -> None:
    client.call("POST", SNAPSHOTS)
    client.call("POST", SNAPSHOTS + "?timeout=7")
    assert cluster.deadlines[-2:] == [LimitSettings().timeout_s_max, 7.0]


def test_so_many_are_recovered_at_once_and_no_more(
    client: AsgiClient, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Response] = []
    real = FakeSnapshots.recover

    async def recover(self: FakeSnapshots, *arguments: Any) -> None:
        """Amid the first, two more are asked for."""
        if not answers:
            another, body = AsgiClient(client.app), {"location": "snapshot-0"}
            answers.append(await asyncio.to_thread(another.call, "PUT", RECOVER, body))
            answers.append(await asyncio.to_thread(another.call, "PUT", RECOVER + "?wait=false", body))
        await real(self, *arguments)

    monkeypatch.setattr(FakeSnapshots, "recover", recover)
    monkeypatch.setattr(http_snapshots, "RECOVERIES_MAX", 1)
    client.call("POST", SNAPSHOTS)
    for _ in range(3):
        assert client.call("PUT", RECOVER, {"location": "snapshot-0"}).result is True
    assert [answer.status for answer in answers] == [409, 409]
    assert "RECOVERIES_MAX" in answers[0].error


def test_a_file_in_the_folder_is_recovered(client: AsgiClient, cluster: FakeCluster, tmp_path: Path) -> None:
    file = tmp_path / "snapshots" / "inner" / "a b.snapshot"
    file.parent.mkdir()
    file.write_bytes(b"x" * 3_000_000)
    body = {"location": file.as_uri(), "priority": "snapshot", "checksum": "AB" * 32, "api_key": None}
    assert client.call("PUT", RECOVER, body).result is True
    (recovered,) = cluster.recovered
    assert recovered == ("words", file.read_bytes())


BAD_BODIES: list[tuple[Any, int, str]] = [
    ({}, 400, "location"),
    ({"location": ""}, 400, "location"),
    ({"location": 7}, 400, "location"),
    ({"location": "x" * 5000}, 400, "location"),
    ({"location": "one", "checksum": "ab"}, 400, "checksum"),
    ({"location": "one", "priority": "mine"}, 400, "priority"),
    ({"location": "one", "wait": True}, 400, "unknown field `wait`"),
    ({"location": "s3://bucket/key"}, 400, "begins with `s3:`"),
    ({"location": "http://127.0.0.1:1/bad/x"}, 400, "snapshots.url_prefixes"),
    ({"location": "file:///etc/passwd"}, 400, "snapshots.folder"),
    ({"location": "../../etc/passwd"}, 404, "Snapshot"),
    ({"location": "http://127.0.0.1:1/good/x"}, 503, "did not give out the whole snapshot"),
]


@pytest.mark.parametrize(("body", "status", "words"), BAD_BODIES)
def test_what_can_t_be_recovered_is_refused_in_words(client: AsgiClient, body: Any, status: int, words: str) -> None:
    answer = client.call("PUT", RECOVER, body)
    assert (answer.status, words in answer.error) == (status, True), answer.body


def test_a_name_that_no_collection_can_have_is_refused(client: AsgiClient) -> None:
    assert client.call("PUT", "/collections/a%3Ab/snapshots/recover", {"location": "one"}).status == 400


def test_a_snapshot_of_a_collection_that_the_caller_may_not_read_is_refused(
    client: AsgiClient, cluster: FakeCluster
) -> None:
    client.call("POST", SNAPSHOTS)
    made = new_key(bytes(range(38)), (Grant(role=Role.ADMIN, collection="mine"),), "", 1)
    cluster.keys = apply_change((), AddKey(made.record))
    owner = AsgiClient(client.app, headers={"api-key": made.text})
    refused = owner.call("PUT", "/collections/mine/snapshots/recover", {"location": "snapshot-0"})
    assert (refused.status, "no read access to collection `words`" in refused.error) == (403, True)
    assert cluster.recovered == []
