"""Pages of points over HTTP: by id, by a field's values, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from deployments.http_app import HttpApp
from deployments.limits import LimitSettings
from tests.unit.deployments.asgi_client import AsgiClient
from tests.unit.deployments.fake_cluster import FakeCluster

SCROLL = "/collections/c/points/scroll"
TEXT_ID = "936da01f-9abd-4d9d-80c7-02af85c822a8"
PAYLOADS: dict[Any, Any] = {
    0: {"n": 3, "at": "2024-05-17T12:30:00Z"},
    5: {"n": [1.5, 3, 3.0], "at": ["1970-01-01T00:00:01", "no date"]},
    7: {"n": True, "at": None},
    2**64 - 1: {"n": "3", "deep": [{"n": -2}]},
    TEXT_ID: {"n": 2},
}


@pytest.fixture
def client() -> AsgiClient:
    limits = LimitSettings(scroll_limit_max=50, filter_conditions_max=3, filter_depth_max=2)
    client = AsgiClient(HttpApp(FakeCluster(), limits, "0"))
    client.call("PUT", "/collections/c", {"vectors": {"size": 1, "distance": "Dot"}})
    points = [{"id": key, "vector": [1], "payload": payload} for key, payload in PAYLOADS.items()]
    assert client.call("PUT", "/collections/c/points", {"points": points[::-1]}).status == 200
    return client


def ids(client: AsgiClient, **body: object) -> list[Any]:
    return [point["id"] for point in client.call("POST", SCROLL, body).result["points"]]


def test_pages_follow_each_other_in_the_order_of_ids(client: AsgiClient) -> None:
    found, offset, pages = [], None, 0
    while pages == 0 or offset is not None:
        page = client.call("POST", SCROLL, {"limit": 2, "offset": offset}).result
        found += [point["id"] for point in page["points"]]
        offset, pages = page["next_page_offset"], pages + 1
    assert found == list(PAYLOADS)
    assert pages == 3


def test_a_page_shows_what_is_asked_for(client: AsgiClient) -> None:
    assert client.call("POST", SCROLL).result["points"][0] == {"id": 0, "payload": PAYLOADS[0]}
    page = client.call("POST", SCROLL, {"limit": 1, "with_payload": ["n"], "with_vector": True}).result
    assert page == {"points": [{"id": 0, "payload": {"n": 3}, "vector": [1]}], "next_page_offset": 5}
    page = client.call(
        "POST", SCROLL, {"offset": TEXT_ID.upper(), "with_payload": False, "with_vectors": False}
    ).result
    assert page == {"points": [{"id": TEXT_ID}], "next_page_offset": None}


def test_a_filter_leaves_points_out_of_pages_and_of_the_next_offset(client: AsgiClient) -> None:
    body = {"limit": 1, "filter": {"must": {"key": "n", "match": {"value": 3}}}}
    page = client.call("POST", SCROLL, body).result
    assert (page["points"][0]["id"], page["next_page_offset"]) == (0, 5)
    assert client.call("POST", SCROLL, {**body, "offset": 5}).result["next_page_offset"] is None


@pytest.mark.parametrize(
    ("order_by", "expected"),
    [
        ("n", [(5, 1.5), (TEXT_ID, 2), (0, 3), (5, 3)]),
        ({"key": "n"}, [(5, 1.5), (TEXT_ID, 2), (0, 3), (5, 3)]),
        ({"key": '"n"', "direction": "desc", "start_from": 2}, [(TEXT_ID, 2), (5, 1.5)]),
        ({"key": "n", "direction": "asc", "start_from": 2.5}, [(0, 3), (5, 3)]),
        ({"key": "deep[].n", "direction": None, "start_from": None}, [(2**64 - 1, -2)]),
        ("at", [(5, 1_000_000), (0, 1715949000000000)]),
        ({"key": "at", "start_from": "2000-01-01"}, [(0, 1715949000000000)]),
        ({"key": "at", "direction": "desc", "start_from": "2000-01-01T00:00:00+02:00"}, [(5, 1_000_000)]),
        ("absent", []),
    ],
)
def test_the_order_of_a_fields_values(client: AsgiClient, order_by: Any, expected: list[Any]) -> None:
    page = client.call("POST", SCROLL, {"order_by": order_by}).result
    assert [(point["id"], point["order_value"]) for point in page["points"]] == expected
    assert page["next_page_offset"] is None
    cut = client.call("POST", SCROLL, {"order_by": order_by, "limit": 1}).result
    assert cut == {"points": page["points"][:1], "next_page_offset": None}


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"limit": 0}, 422, "limit: Input should be greater than or equal to 1, got 0"),
        ({"limit": 51}, 422, "limit is 51; the limit scroll_limit_max is 50"),
        ({"limit": "1"}, 400, "limit"),
        ({"offset": -1}, 400, "offset: value -1 is not a valid point ID"),
        ({"offset": 1, "order_by": "n"}, 400, "`offset` can't be combined with `order_by`"),
        ({"order_by": "a..b"}, 400, "order_by: 'a..b' is no JSON path"),
        ({"order_by": {"key": "a["}}, 400, "order_by.key: 'a[' is no JSON path"),
        ({"order_by": {"key": "a", "direction": "up"}}, 400, "direction"),
        ({"order_by": {"key": "a", "start_from": "soon"}}, 400, "order_by.start_from is neither a number nor a date"),
        ({"order_by": {"key": "a", "start_from": True}}, 400, "order_by.start_from"),
        ({"order_by": {"key": "a", "start_from": 10**400}}, 400, "order_by.start_from"),
        ({"order_by": {"key": "a", "values": 1}}, 400, "values"),
        ({"order_by": {"direction": "asc"}}, 400, "key"),
        ({"filter": {"must": [{"key": "n"}]}}, 400, "filter.must[0]: exactly one of match"),
        ({"filter": {"must": [{"has_id": []}] * 4}}, 422, "the limit filter_conditions_max"),
        ({"filter": {"must": {"must": {"must": []}}}}, 422, "the limit filter_depth_max"),
        ({"filter": []}, 400, "filter: an object is needed"),
        ({"with_payload": "n"}, 400, "with_payload is neither"),
        ({"with_vector": ["image"]}, 400, "Not existing vector name error: image"),
        ({"shard_key": "a"}, 400, "`shard_key` is not supported"),
        ({"page": 1}, 400, "unknown field `page`"),
    ],
)
def test_bad_scrolls(client: AsgiClient, body: dict[str, Any], status: int, said: str) -> None:
    answer = client.call("POST", SCROLL, body)
    assert (answer.status, said in answer.error) == (status, True), answer.error


def test_limits_are_inclusive(client: AsgiClient) -> None:
    assert ids(client, limit=50, filter={"must": [{"has_id": [0, 5]}, {"must": [{"has_id": [5, 7]}]}]}) == [5]


def test_a_collection_that_is_not_there(client: AsgiClient) -> None:
    assert client.call("POST", "/collections/d/points/scroll", {}).status == 404
    assert client.call("GET", SCROLL).status == 405
