"""Making, listing, revoking and forgetting keys over HTTP."""

from __future__ import annotations

import logging

import pytest

from cluster.api_keys import local_key
from deployments.http_app import HttpApp
from deployments.limits import LimitSettings
from tests.unit.deployments.asgi_client import AsgiClient, Response
from tests.unit.deployments.fake_cluster import FakeCluster

OWN = local_key(b"the folder's secret")
READ_A = {"grants": [{"role": "read", "collection": "a"}], "label": "a page"}


@pytest.fixture
def owner() -> AsgiClient:
    return AsgiClient(HttpApp(FakeCluster(), LimitSettings(), "0", OWN), headers={"api-key": OWN})


def as_bearer_of(key: str, owner: AsgiClient) -> AsgiClient:
    return AsgiClient(owner.app, headers={"authorization": f"Bearer {key}"})


def test_a_key_is_shown_once_and_listed_without_its_secret(owner: AsgiClient) -> None:
    assert owner.call("GET", "/shoal/keys").result == {"keys": []}
    made = owner.call("POST", "/shoal/keys", READ_A).result
    key = made.pop("key")
    assert key.startswith(f"shoal_{made['id']}_")
    assert (made["label"], made["revoked_s"]) == ("a page", None)
    assert made["grants"] == [{"role": "read", "collection": "a", "tenant": None}]
    listed = owner.call("GET", "/shoal/keys")
    assert listed.result == {"keys": [made]}
    assert key.rsplit("_", 1)[1].encode() not in listed.body


def test_two_keys_have_nothing_in_common(owner: AsgiClient) -> None:
    one, other = (owner.call("POST", "/shoal/keys", READ_A).result["key"].split("_") for _ in range(2))
    assert one[1] != other[1]
    assert one[2] != other[2]


def test_the_first_key_closes_the_cluster_and_revoking_it_does_not_open_it(owner: AsgiClient) -> None:
    stranger = AsgiClient(owner.app)
    assert stranger.call("GET", "/collections").status == 200
    made = owner.call("POST", "/shoal/keys", READ_A).result
    assert stranger.call("GET", "/collections").status == 401
    assert as_bearer_of(made["key"], owner).call("GET", "/collections").status == 200
    for _ in range(2):  # to repeat it does no harm
        assert owner.call("POST", "/shoal/keys/revoke", {"id": made["id"]}).result is True
        assert as_bearer_of(made["key"], owner).call("GET", "/collections").status == 401
        assert stranger.call("GET", "/collections").status == 401
    assert owner.call("GET", "/shoal/keys").result["keys"][0]["revoked_s"] > 0
    assert owner.call("DELETE", "/shoal/keys").result is True
    assert stranger.call("GET", "/collections").status == 200


def test_an_admin_makes_keys_too(owner: AsgiClient) -> None:
    admin = as_bearer_of(owner.call("POST", "/shoal/keys", {"grants": [{"role": "admin"}]}).result["key"], owner)
    assert admin.call("POST", "/shoal/keys", READ_A).status == 200
    made = owner.call("POST", "/shoal/keys", {"grants": [{"role": "admin", "collection": "a"}]}).result["key"]
    assert as_bearer_of(made, owner).call("POST", "/shoal/keys", READ_A).status == 403


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"grants": []}, "grants"),
        ({"grants": [{"role": "owner"}]}, "grants[0].role"),
        ({"grants": [{"role": "read", "collection": "a/b"}]}, "collection name cannot contain '/'"),
        ({"grants": [{"role": "read", "collection": ""}]}, "grants[0].collection"),
        ({"grants": [{"role": "read", "tenants": "t"}]}, "unknown field `grants[0].tenants`"),
        ({"grants": [{"role": "read"}], "label": "x" * 201}, "label"),
        ({"grants": [{"role": "read"}], "id": "mine"}, "unknown field `id`"),
    ],
)
def test_what_no_key_can_be(owner: AsgiClient, body: object, said: str) -> None:
    answer = owner.call("POST", "/shoal/keys", body)
    assert answer.status in (400, 422)
    assert said in answer.error
    assert owner.call("GET", "/shoal/keys").result == {"keys": []}


def test_an_unknown_id_is_not_found(owner: AsgiClient) -> None:
    answer = owner.call("POST", "/shoal/keys/revoke", {"id": "3f9a1c22b07e"})
    assert answer.status == 404
    assert "3f9a1c22b07e" in answer.error


def test_no_key_is_ever_logged(owner: AsgiClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        key = owner.call("POST", "/shoal/keys", READ_A).result["key"]
        answers: list[Response] = [
            as_bearer_of(key, owner).call("DELETE", "/collections/b"),
            as_bearer_of(key + "0", owner).call("DELETE", "/collections/b"),
        ]
    secret = key.rsplit("_", 1)[1]
    assert secret not in caplog.text
    assert [answer.status for answer in answers] == [403, 401]
    assert all(secret.encode() not in answer.body for answer in answers)
