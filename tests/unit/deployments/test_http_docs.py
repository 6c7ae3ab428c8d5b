"""The API's description of itself: every route is in it, what it refers to is there, and the page needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from deployments.http_app import ALL_ROUTES, HttpApp
from deployments.limits import LimitSettings
from deployments.openapi import BODIES, GUARDED_ROUTES, OPEN_ROUTES, describe
from deployments.openapi_words import EXAMPLES
from tests.node_program import node
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
    assert all(re.match(r"[^/]*\w", operation["summary"]) for operation in operations)
    assert {tag["name"] for tag in document["tags"]} == {tag for one in operations for tag in one["tags"]}
    assert len({operation["operationId"] for operation in operations}) == len(operations)


def test_what_is_referred_to_is_there(document: Any) -> None:
    schemas = document["components"]["schemas"]
    named = re.findall(r'"\$ref": ?"([^"]+)"', json.dumps(document))
    assert named
    assert {name.removeprefix("#/components/schemas/") for name in named} <= schemas.keys()


def test_bodies_and_parameters_are_described(document: Any) -> None:
    change = document["paths"]["/collections/{collection}"]["patch"]
    assert [parameter["name"] for parameter in change["parameters"]] == ["collection", "timeout"]
    described = change["requestBody"]["content"]["application/json"]
    assert described["schema"] == {"$ref": "#/components/schemas/UpdateCollectionBody"}
    assert described["example"] == EXAMPLES["PATCH /collections/{collection}"]
    body = document["components"]["schemas"]["UpdateCollectionBody"]
    assert body["additionalProperties"] is False
    assert {"metadata", "optimizers_config", "params"} <= body["properties"].keys()


def test_forms_that_pydantic_does_not_check_are_described(document: Any) -> None:
    schemas = document["components"]["schemas"]
    assert {"$ref": "#/components/schemas/Filter"} in schemas["ScrollBody"]["properties"]["filter"]["anyOf"]
    assert schemas["PointBody"]["properties"]["id"]["anyOf"][0]["maximum"] == 2**64 - 1
    assert schemas["QueryBody"]["properties"]["prefetch"]["enum"] == [None, [], {}]
    index = schemas["FieldIndexBody"]
    assert index["required"] == ["field_name", "field_schema"]
    assert "default" not in index["properties"]["field_schema"]
    (ids,) = schemas["HasIdCondition"]["properties"].values()
    assert ids["items"]["anyOf"][1] == {"type": "string", "format": "uuid"}


def test_query_parameters_are_described(document: Any) -> None:
    def names(method: str, below: str) -> list[str]:
        described = document["paths"][f"/collections/{{collection}}{below}"][method]
        return [one["name"] for one in described["parameters"] if one["in"] == "query"]

    assert names("put", "/points") == names("post", "/points/batch") == names("delete", "/index/{field}")
    assert names("put", "/points") == ["timeout", "wait", "ordering"]
    assert names("post", "/points/query") == names("get", "/points/{id}") == ["timeout", "consistency"]
    assert names("put", "") == ["timeout"]
    assert names("get", "/exists") == []


def test_what_needs_a_key_says_so(document: Any) -> None:
    roles = {(path, route.role, route.guarded) for path, methods in ALL_ROUTES.items() for route in methods.values()}
    assert {path for path, role, _guarded in roles if role is None} == OPEN_ROUTES
    assert {path for path, _role, guarded in roles if guarded} == GUARDED_ROUTES

    def asks(described: Any) -> set[str]:
        return {path for path, methods in described["paths"].items() for one in methods.values() if one["security"]}

    assert asks(document) == GUARDED_ROUTES
    handlers = {
        path: {method: route.handler for method, route in methods.items()} for path, methods in ALL_ROUTES.items()
    }
    assert asks(describe(handlers, "1", has_keys=True)) == ALL_ROUTES.keys() - OPEN_ROUTES


def test_the_page_needs_no_network(client: AsgiClient) -> None:
    page = client.call("GET", "/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    text = page.body.decode()
    assert 'fetch("openapi.json"' in text
    assert "//" not in text.replace("<!doctype html>", "")
    assert "innerHTML" not in text


def test_the_page_is_allowed_its_own_script_and_style_alone(client: AsgiClient) -> None:
    """A browser runs and applies what has the hash that the policy names, and sends to the cluster alone."""
    page = client.call("GET", "/docs")
    policy = page.headers["content-security-policy"]
    for tag in ("style", "script"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page.body.decode(), re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy


def test_the_page_s_script_is_javascript(client: AsgiClient, tmp_path: Path) -> None:
    (text,) = re.findall(r"<script>(.*?)</script>", client.call("GET", "/docs").body.decode(), re.DOTALL)
    (tmp_path / "page.js").write_text(text)
    checked = subprocess.run([node(), "--check", tmp_path / "page.js"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
