"""Every route has its sentence, every body its example, and the examples are one story that a new cluster takes."""

from __future__ import annotations

from cluster.api_keys import local_key
from deployments.http_app import ALL_ROUTES, HttpApp
from deployments.limits import LimitSettings
from deployments.openapi import BODIES
from deployments.openapi_words import EXAMPLES, SUMMARIES
from tests.unit.deployments.asgi_client import AsgiClient
from tests.unit.deployments.fake_cluster import FakeCluster

KEY = local_key(b"the folder's secret")


def test_every_body_has_an_example() -> None:
    assert sorted(BODIES.keys() - EXAMPLES.keys()) == []
    assert sorted(EXAMPLES.keys() - BODIES.keys()) == []


def test_only_routes_have_sentences() -> None:
    routes = {f"{method} {path}" for path, methods in ALL_ROUTES.items() for method in methods}
    assert sorted(SUMMARIES.keys() - routes) == []
    assert len(set(SUMMARIES.values())) >= len(SUMMARIES) - 1, "two health checks say the same"


def test_the_examples_are_taken_in_their_order() -> None:
    client = AsgiClient(HttpApp(FakeCluster(), LimitSettings(), "1", own_key=KEY), headers={"api-key": KEY})
    for route, example in EXAMPLES.items():
        method, path = route.split()
        answer = client.call(method, path.format(collection="articles") + "?wait=true", example)
        known = 404 if route == "POST /shoal/keys/revoke" else 200  # the key of the example is nobody's
        assert answer.status == known, (route, answer.body)
        if route.endswith(("/query", "/search", "/scroll")):
            assert b'"id":1' in answer.body, (route, answer.body)
