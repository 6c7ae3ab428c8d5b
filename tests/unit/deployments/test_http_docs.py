"""The API's description of itself: every route is in it, what it refers to is there, and the page needs nothing else."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from deployments.http_app import ALL_ROUTES, HttpApp
from deployments.limits import LimitSettings
from deployments.openapi import BODIES
from tests.unit.deployments.asgi_client import AsgiClient
from tests.unit.deployments.fake_cluster import FakeCluster


@pytest.fixture
def client() -> AsgiClient:
    return AsgiClient(HttpApp(FakeCluster(), LimitSettings(), "9.9.9"))


@pytest.fixture
def document(client: AsgiClient) -> Any:
    return client.call("GET", "/openapi.json").json()


def test_every_route_is_described(document: Any) -> None:
    assert document["openapi"] == "3.1.0"
    assert document["info"]["version"] == "9.9.9"
    described = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    assert described == {f"{method} {path}" for path, methods in ALL_ROUTES.items() for method in methods}
    assert described >= BODIES.keys()
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    assert all(operation["summary"] for operation in operations)
    assert len({operation["operationId"] for operation in operations}) == len(operations)


def test_what_is_referred_to_is_there(document: Any) -> None:
    schemas = document["components"]["schemas"]
    named = re.findall(r'"\$ref": ?"([^"]+)"', json.dumps(document))
    assert named
    assert {name.removeprefix("#/components/schemas/") for name in named} <= schemas.keys()


def test_bodies_and_parameters_are_described(document: Any) -> None:
    change = document["paths"]["/collections/{collection}"]["patch"]
    assert [parameter["name"] for parameter in change["parameters"]] == ["collection"]
    (schema,) = change["requestBody"]["content"]["application/json"].values()
    assert schema == {"$ref": "#/components/schemas/UpdateCollectionBody"}
    body = document["components"]["schemas"]["UpdateCollectionBody"]
    assert body["additionalProperties"] is False
    assert {"metadata", "optimizers_config", "params"} <= body["properties"].keys()


def test_the_page_needs_no_network(client: AsgiClient) -> None:
    page = client.call("GET", "/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    text = page.body.decode()
    assert 'fetch("openapi.json")' in text
    assert "//" not in text.replace("<!doctype html>", "")
    assert "innerHTML" not in text
