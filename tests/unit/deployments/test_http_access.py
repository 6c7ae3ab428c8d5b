"""Every route against every role and scope, and who counts as whom.

What each route needs is written down here once more: a route without a line here, or with another need, is a mistake in
one of the two places. `tenants`: grants for one tenant's points will do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from cluster.api_keys import AddKey, Grant, NewKey, RevokeKey, Role, apply_change, local_key, new_key
from deployments.http_access import presented_key
from deployments.http_app import (
    ALIASES_ROUTE,
    COLLECTION_ROUTES,
    INDEX_ROUTE,
    POINT_ROUTE,
    ROUTES,
    SNAPSHOT_ROUTE,
    HttpApp,
)
from deployments.limits import LimitSettings
from tests.unit.deployments.asgi_client import AsgiClient, Response
from tests.unit.deployments.fake_cluster import FakeCluster

OWN = local_key(b"the folder's secret")
NEEDS = """
    GET    /                                  nothing
    GET    /healthz                           nothing
    GET    /livez                             nothing
    GET    /readyz                            nothing
    GET    /metrics                           read everywhere
    GET    /telemetry                         read everywhere
    GET    /openapi.json                      read anywhere
    GET    /docs                              nothing
    GET    /cluster                           read everywhere
    GET    /shoal/state                       admin everywhere
    GET    /shoal/keys                        admin everywhere
    POST   /shoal/keys                        admin everywhere
    DELETE /shoal/keys                        admin everywhere
    POST   /shoal/keys/revoke                 admin everywhere
    POST   /shoal/cache/clear                 admin everywhere
    GET    /collections                       read anywhere
    GET    /aliases                           read anywhere
    POST   /collections/aliases               admin everywhere
    GET    /collections/a                     read a tenants
    PATCH  /collections/a                     admin a
    GET    /collections/a/aliases             read a
    PUT    /collections/a                     admin a
    DELETE /collections/a                     admin a
    GET    /collections/a/exists              read a tenants
    GET    /collections/a/cluster             read a
    PUT    /collections/a/points              write a tenants
    POST   /collections/a/points              read a tenants
    POST   /collections/a/points/delete       write a tenants
    POST   /collections/a/points/count        read a tenants
    POST   /collections/a/points/scroll       read a tenants
    PUT    /collections/a/points/vectors      write a tenants
    POST   /collections/a/points/vectors/delete  write a tenants
    POST   /collections/a/points/payload      write a tenants
    PUT    /collections/a/points/payload      write a tenants
    POST   /collections/a/points/payload/delete  write a tenants
    POST   /collections/a/points/payload/clear  write a tenants
    POST   /collections/a/points/batch        write a tenants
    PUT    /collections/a/index               write a
    DELETE /collections/a/index/n             write a
    POST   /collections/a/points/query        read a tenants
    POST   /collections/a/points/query/batch  read a tenants
    POST   /collections/a/points/search       read a tenants
    GET    /collections/a/points/7            read a tenants
    GET    /collections/a/snapshots           read a
    POST   /collections/a/snapshots           admin a
    GET    /collections/a/snapshots/one       read a
    DELETE /collections/a/snapshots/one       admin a
    PUT    /collections/a/snapshots/recover   admin a
"""
ROUTE_NEEDS = {(method, path): need for method, path, *need in map(str.split, NEEDS.strip().splitlines())}
IDS = {route: " ".join(route) for route in ROUTE_NEEDS}
SCOPES = {
    "everywhere": {},
    "over a": {"collection": "a"},
    "over b": {"collection": "b"},
    "in a tenant": {"tenant": "t"},
    "over a in a tenant": {"collection": "a", "tenant": "t"},
}
ORDER = ["read", "write", "admin"]


def make(number: int, *grants: Grant) -> NewKey:
    return new_key(number.to_bytes(6, "big") + hashlib.sha256(b"%d" % number).digest(), grants, "", 1)


KEYS = {
    (role, scope): make(number, Grant(role=Role(role), **limits))  # type: ignore[arg-type]
    for number, (role, (scope, limits)) in enumerate((role, item) for role in ORDER for item in SCOPES.items())
}
OVER_NAMES = make(101, *(Grant(role=Role.ADMIN, collection=name) for name in ("aliases", "to-b")))
REVOKED = make(100, Grant(role=Role.ADMIN))


def all_routes() -> Iterator[tuple[str, str]]:
    for path, methods in ROUTES.items():
        yield from ((method, path) for method in methods)
    for rest, methods in COLLECTION_ROUTES.items():
        yield from ((method, f"/collections/a/{rest}".rstrip("/")) for method in methods)
    yield from ((method, "/collections/a/points/7") for method in POINT_ROUTE)
    yield from ((method, "/collections/a/index/n") for method in INDEX_ROUTE)
    yield from ((method, "/collections/a/snapshots/one") for method in SNAPSHOT_ROUTE)
    own = ALIASES_ROUTE.keys() - COLLECTION_ROUTES[""].keys()
    yield from ((method, "/collections/aliases") for method in own)


def ask(method: str, path: str, headers: dict[str, str], closed: bool = True) -> Response:
    """Ask a cluster with the collections a and b and every key (if `closed`)."""
    cluster = FakeCluster()
    app = HttpApp(cluster, LimitSettings(), "0", OWN)
    for name in ("a", "b"):
        body = {"vectors": {"size": 2, "distance": "Dot"}}
        assert AsgiClient(app).call("PUT", f"/collections/{name}", body).result is True
    cluster.held["a"] = cluster.held["a"].model_copy(update={"tenant_field": "org"})
    cluster.aliases = {"to-a": "a", "to-b": "b"}
    if closed:
        for made in (*KEYS.values(), REVOKED, OVER_NAMES):
            cluster.keys = apply_change(cluster.keys, AddKey(made.record))
        cluster.keys = apply_change(cluster.keys, RevokeKey(REVOKED.record.id, 2))
    return AsgiClient(app, headers=headers).call(method, path)


def is_allowed(need: list[str], role: str, scope: str) -> bool:
    if need == ["nothing"]:
        return True
    least, where, *within = need
    fits = {"everywhere": ["everywhere"], "a": ["everywhere", "over a"], "anywhere": [*SCOPES]}[where]
    if within:
        fits = [*fits, "in a tenant", "over a in a tenant"]
    return ORDER.index(role) >= ORDER.index(least) and scope in fits


def test_every_route_has_its_need() -> None:
    assert sorted(all_routes()) == sorted(ROUTE_NEEDS)


@pytest.mark.parametrize(("route", "need"), ROUTE_NEEDS.items(), ids=IDS.values())
def test_a_route_lets_in_whom_it_should_and_nobody_else(route: tuple[str, str], need: list[str]) -> None:
    for (role, scope), made in KEYS.items():
        answer = ask(*route, {"api-key": made.text})
        if is_allowed(need, role, scope):
            assert answer.status not in (401, 403), (role, scope)
        else:
            assert answer.status == 403, (role, scope)
            assert made.record.id in answer.error
            assert ("to points of tenant `t` does not include this" in answer.error) is ("tenant" in scope)
    assert ask(*route, {"api-key": OWN}).status not in (401, 403)


@pytest.mark.parametrize(("route", "need"), ROUTE_NEEDS.items(), ids=IDS.values())
def test_strangers_get_nothing_but_the_open_routes(route: tuple[str, str], need: list[str]) -> None:
    good = KEYS["admin", "everywhere"].text
    strangers = [
        *({}, {"api-key": ""}, {"api-key": good[:-1]}, {"api-key": REVOKED.text}, {"x-api-key": good}),
        *({"authorization": good}, {"authorization": f"Basic {good}"}, {"cookie": f"api-key={good}"}),
        {"api-key": local_key(b"another folder's secret")},
    ]
    for headers in strangers:
        answer = ask(*route, headers)
        if need == ["nothing"]:
            assert answer.status == 200
            continue
        assert answer.status == 401
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert b"`api-key`" in answer.body
        assert good[:-1].encode() not in answer.body


@pytest.mark.parametrize(("route", "need"), ROUTE_NEEDS.items(), ids=IDS.values())
def test_an_open_cluster_asks_for_a_key_only_where_keys_are_made(route: tuple[str, str], need: list[str]) -> None:
    guarded = route[1].startswith("/shoal/keys")
    for headers in ({}, {"api-key": "any"}, {"api-key": KEYS["read", "over b"].text}):
        assert (
            ask(*route, headers, closed=False).status == 401 if guarded else ask(*route, headers, False).status != 401
        )
    assert ask(*route, {"api-key": OWN}, closed=False).status not in (401, 403)


@pytest.mark.parametrize(
    "header", [{"api-key": "{}"}, {"authorization": "Bearer {}"}, {"authorization": "bearer  {} "}]
)
def test_a_key_may_come_in_either_header(header: dict[str, str]) -> None:
    headers = {name: value.format(KEYS["read", "over a"].text) for name, value in header.items()}
    assert ask("GET", "/collections/a", headers).status == 200


def test_paths_that_do_not_exist_are_told_to_those_with_a_key_alone() -> None:
    for method, path in (
        ("GET", "/nothing"),
        ("PATCH", "/"),
        ("GET", "/collections/a/nothing"),
        ("POST", "/cluster"),
    ):
        assert ask(method, path, {}).status == 401
        assert ask(method, path, {"api-key": KEYS["read", "over b"].text}).status in (404, 405)
        assert ask(method, path, {}, closed=False).status in (404, 405)


def test_a_refusal_does_not_tell_whether_a_collection_exists() -> None:
    key = {"api-key": KEYS["read", "over a"].text}
    there, missing = (ask("GET", f"/collections/{name}/exists", key) for name in ("b", "none"))
    assert (there.status, missing.status) == (403, 403)
    assert there.error.replace("`b`", "") == missing.error.replace("`none`", "")


@pytest.mark.parametrize(
    ("scope", "names"),
    [
        *(("everywhere", ["a", "b"]), ("over a", ["a"]), ("over b", ["b"])),
        *(("in a tenant", ["a"]), ("over a in a tenant", ["a"])),
    ],
)
def test_the_list_of_collections_shows_what_the_caller_may_see(scope: str, names: list[str]) -> None:
    found = ask("GET", "/collections", {"api-key": KEYS["read", scope].text}).result
    assert [item["name"] for item in found["collections"]] == names


@pytest.mark.parametrize(
    ("scope", "names"),
    [
        *(("everywhere", ["to-a", "to-b"]), ("over a", ["to-a"]), ("over b", ["to-b"])),
        *(("in a tenant", ["to-a"]), ("over a in a tenant", ["to-a"])),
    ],
)
def test_the_list_of_aliases_shows_what_the_caller_may_see(scope: str, names: list[str]) -> None:
    found = ask("GET", "/aliases", {"api-key": KEYS["read", scope].text}).result
    assert [item["alias_name"] for item in found["aliases"]] == names


def test_an_alias_is_a_name_of_its_own() -> None:
    own = {"api-key": OVER_NAMES.text}
    assert ask("GET", "/collections/to-b", own).status == 200
    assert ask("GET", "/collections/b", own).status == 403
    assert ask("GET", "/collections/to-a", {"api-key": KEYS["admin", "over a"].text}).status == 403
    found = ask("GET", "/aliases", own).result["aliases"]
    assert [item["alias_name"] for item in found] == ["to-b"]


def test_a_collection_that_is_called_aliases_gives_no_right_to_change_aliases() -> None:
    own = {"api-key": OVER_NAMES.text}
    assert ask("GET", "/collections/aliases", own).status == 404
    assert ask("POST", "/collections/aliases", own).status == 403


def test_the_state_for_loads_has_no_hashes() -> None:
    answer = ask("GET", "/shoal/state", {"api-key": OWN})
    assert "keys" not in answer.result
    assert KEYS["read", "over a"].record.digest.encode() not in answer.body


def test_headers_are_searched_whatever_their_case_and_the_api_key_counts_first() -> None:
    assert presented_key([]) is None
    assert presented_key([(b"Api-Key", b"x")]) == b"x"
    assert presented_key([(b"AUTHORIZATION", b"BEARER y"), (b"other-7", b"z")]) == b"y"
    assert presented_key([(b"Authorization", b"Bearer y"), (b"api-key", b"x")]) == b"x"
    assert presented_key([(b"api-kez", b"x"), (b"authorization", b"Basic y")]) is None
