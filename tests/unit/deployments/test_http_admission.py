"""Admission at the HTTP surface: what is refused says when to come back, what waits gets its turn, nothing leaks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cluster.api_keys import AddKey, Grant, Role, apply_change, new_key
from cluster.requests import SearchAnswer, SearchRequest
from deployments import admission as admission_module
from deployments.admission import Admission
from deployments.admission_settings import AdmissionSettings
from deployments.cache_counts import CacheCounts
from deployments.cache_key import Arrival
from deployments.degradation import Level
from deployments.http_app import ALL_ROUTES, HttpApp
from deployments.http_message import Reply
from deployments.limits import LimitSettings
from deployments.result_cache import Answer, Question
from deployments.router_parts import RouterParts
from deployments.waiting_line import Waiter
from shards.errors import QueueFull, RateLimited, ShardUnavailable
from tests.unit.deployments.asgi_client import AsgiClient
from tests.unit.deployments.fake_cluster import FakeCluster

QUERY = json.dumps({"query": [1.0, 2.0]}).encode()
POINTS = json.dumps({"points": [{"id": number, "vector": [1, 2]} for number in range(100)]}).encode()
DEADLINE_S = 10.0


class SlowCluster(FakeCluster):
    """Searches wait until they are let go of, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = asyncio.Semaphore(0)
        self.under_way = 0

    async def search(self, name: str, request: SearchRequest, deadline_s: float) -> SearchAnswer:
        self.under_way += 1
        try:
            await self.turns.acquire()
            return await super().search(name, request, deadline_s)
        finally:
            self.under_way -= 1


class Router:
    """An application, asked as a connection asks it."""

    def __init__(self, cluster: FakeCluster, admission: Admission) -> None:
        self.cluster = cluster
        self.admission = admission
        self.app = HttpApp(cluster, LimitSettings(), "0", parts=RouterParts(admission=admission))

    async def ask(self, method: str, path: str, body: bytes = b"", query: bytes = b"") -> Reply:
        call = self.app.admit(method, path, query, [], admission_module.perf_counter())
        return await self.app.answer(call, body)

    async def query(self, query: bytes = b"") -> Reply:
        return await self.ask("POST", "/collections/words/points/query", QUERY, query)


def run(settings: AdmissionSettings, scenario: Callable[[Router, Any], Awaitable[None]]) -> Admission:
    """The scenario with a router over a SlowCluster that has a collection of one point."""
    admission = Admission(settings)

    async def main() -> None:
        cluster = SlowCluster()
        router = Router(cluster, admission)
        await router.ask("PUT", "/collections/words", b'{"vectors": {"size": 2, "distance": "Dot"}}')
        await router.ask("PUT", "/collections/words/points", b'{"points": [{"id": 1, "vector": [1, 2]}]}')
        async with asyncio.timeout(DEADLINE_S):
            await scenario(router, cluster)

    asyncio.run(main())
    assert (admission.line.held_count, admission.line.ongoing_weight) == (0, 0), "nothing is left in the line"
    return admission


async def start(router: Router, cluster: SlowCluster, count: int, under_way: int) -> list[asyncio.Task[Reply]]:
    tasks = [asyncio.create_task(router.query()) for _ in range(count)]
    for _ in range(10_000):
        if cluster.under_way == under_way:
            break
        await asyncio.sleep(0)
    assert cluster.under_way == under_way
    return tasks


def test_a_full_router_refuses_before_the_body_and_says_when_to_come_back() -> None:
    async def scenario(router: Router, cluster: SlowCluster) -> None:
        tasks = await start(router, cluster, count=3, under_way=2)
        with pytest.raises(QueueFull, match="already holds 3 requests") as refused:
            await router.query()
        assert refused.value.retry_after_s == 1.0
        for path in ("/healthz", "/cluster", "/metrics", "/collections", "/collections/words"):
            assert (await router.ask("GET", path)).status == 200, "people can look at it all the same"
        cluster.turns.release()
        assert (await tasks[0]).status == 200
        tasks.append(asyncio.create_task(router.query()))
        for _ in range(3):
            cluster.turns.release()
        assert [reply.status for reply in await asyncio.gather(*tasks)] == [200] * 4

    admission = run(AdmissionSettings(requests_max=3, ongoing_cost_max=2), scenario)
    assert (admission.counts.admitted, admission.counts.waited, admission.counts.refused_full) == (5, 2, 1)


def test_a_refusal_is_a_503_with_an_integer_retry_after() -> None:
    admission = Admission(AdmissionSettings(requests_max=1, ongoing_cost_max=1))
    client = AsgiClient(HttpApp(FakeCluster(), LimitSettings(), "0", parts=RouterParts(admission=admission)))
    client.call("PUT", "/collections/words", {"vectors": {"size": 2, "distance": "Dot"}})
    assert admission.line.enter(1.0)
    for method, path in (("POST", "query"), ("PUT", ""), ("POST", "delete"), ("POST", "scroll"), ("GET", "7")):
        answer = client.call(method, f"/collections/words/points/{path}".rstrip("/"), {})
        assert (answer.status, answer.headers["retry-after"]) == (503, "1"), path
        assert "try again later" in answer.error
    admission.line.leave(1.0, 0.0)
    assert client.call("POST", "/collections/words/points/query", {"query": [1, 2]}).status == 200


def test_every_route_on_points_is_limited_and_no_other() -> None:
    for path, methods in ALL_ROUTES.items():
        for method, route in methods.items():
            assert (route.cost > 0) == ("/points" in path), f"{method} {path}"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_client_that_goes_away_gives_its_place_back(order: tuple[int, int]) -> None:
    async def scenario(router: Router, cluster: SlowCluster) -> None:
        tasks = await start(router, cluster, count=3, under_way=1)
        for number in order:
            tasks[number].cancel()
        await asyncio.wait(tasks[:2])
        assert tasks[0].cancelled()
        assert tasks[1].cancelled()
        cluster.turns.release()
        assert (await tasks[2]).status == 200

    run(AdmissionSettings(requests_max=5, ongoing_cost_max=1), scenario)


def test_one_that_is_given_its_turn_as_it_goes_away_gives_it_on() -> None:
    async def main() -> None:
        admission = Admission(AdmissionSettings(requests_max=5, ongoing_cost_max=1))
        first, second, third = (admission.check(1.0) for _ in range(3))
        assert (first.begin(), second.begin(), third.begin()) == (True, False, False)
        second_waits, third_waits = (asyncio.create_task(one.wait(DEADLINE_S)) for one in (second, third))
        await asyncio.sleep(0)
        first.leave(0.0, succeeded=True)  # it is the second's turn now, which does not know yet
        second_waits.cancel()
        await asyncio.wait([second_waits])
        second.leave(0.0, succeeded=False)
        await third_waits
        third.leave(0.0, succeeded=True)
        assert admission.line.held_count == 0

    asyncio.run(main())


def test_a_request_that_ends_as_the_next_in_line_goes_away_is_answered() -> None:
    async def scenario(router: Router, cluster: SlowCluster) -> None:
        first, second, third = await start(router, cluster, count=3, under_way=1)
        cluster.turns.release()
        second.cancel()
        assert (await first).status == 200
        await asyncio.wait([second])
        cluster.turns.release()
        assert (await third).status == 200

    run(AdmissionSettings(requests_max=5, ongoing_cost_max=1), scenario)


def test_one_that_goes_away_as_its_time_passes_does_not_count_as_refused() -> None:
    async def main() -> None:
        admission = Admission(AdmissionSettings(requests_max=5, ongoing_cost_max=1))
        first, second = admission.check(1.0), admission.check(1.0)
        assert (first.begin(), second.begin()) == (True, False)
        waits = asyncio.create_task(second.wait(0.0))
        await asyncio.sleep(0)
        waits.cancel()
        admission._tick()
        await asyncio.wait([waits])
        second.leave(0.0, succeeded=False)
        assert (admission.counts.refused_late, admission.line.held_count) == (0, 1)
        first.leave(0.0, succeeded=True)

    asyncio.run(main())


def test_a_mistake_as_others_get_their_turn_costs_nobody_an_answer() -> None:
    def mistaken(may_begin: bool) -> bool:
        raise ValueError(may_begin)

    async def scenario(router: Router, cluster: SlowCluster) -> None:
        (first,) = await start(router, cluster, count=1, under_way=1)
        router.admission.line.wait(Waiter(admission_module.perf_counter(), float("inf"), 1.0, mistaken))
        cluster.turns.release()
        assert (await first).status == 200

    run(AdmissionSettings(requests_max=5, ongoing_cost_max=1), scenario)


def test_a_request_whose_time_passes_in_line_is_told_so() -> None:
    async def scenario(router: Router, cluster: SlowCluster) -> None:
        (first,) = await start(router, cluster, count=1, under_way=1)
        late = await router.query(b"timeout=0.05")
        assert late.status == 408
        assert b"waited in line for all of its 0.05 s" in late.body
        cluster.turns.release()
        assert (await first).status == 200

    admission = run(AdmissionSettings(requests_max=5, ongoing_cost_max=1), scenario)
    assert admission.counts.refused_late == 1


def test_a_line_that_stands_is_shortened() -> None:
    async def scenario(router: Router, cluster: SlowCluster) -> None:
        tasks = await start(router, cluster, count=3, under_way=1)
        for late in await asyncio.gather(*tasks[1:]):
            assert (late.status, dict(late.headers)[b"retry-after"]) == (503, b"1")
            assert b"sent away after" in late.body
        cluster.turns.release()
        assert (await tasks[0]).status == 200

    run(AdmissionSettings(requests_max=5, ongoing_cost_max=1, wait_target_ms=20), scenario)


def test_what_waited_has_less_of_its_own_time_left() -> None:
    async def scenario(router: Router, cluster: SlowCluster) -> None:
        (first,) = await start(router, cluster, count=1, under_way=1)
        second = asyncio.create_task(router.query(b"timeout=5"))
        await asyncio.sleep(0.05)
        for _ in range(2):
            cluster.turns.release()
        await asyncio.gather(first, second)
        assert 4 < cluster.deadlines[-1] < 4.96

    run(AdmissionSettings(requests_max=5, ongoing_cost_max=1), scenario)


def test_a_heavy_search_takes_the_place_of_many() -> None:
    async def scenario(router: Router, cluster: SlowCluster) -> None:
        heavy = json.dumps({"query": [1.0, 2.0], "params": {"exact": True}}).encode()
        first = asyncio.create_task(router.ask("POST", "/collections/words/points/query", heavy))
        await asyncio.sleep(0)
        assert router.admission.line.ongoing_weight == 50
        tasks = await start(router, cluster, count=2, under_way=1)
        for _ in range(3):
            cluster.turns.release()
        assert [reply.status for reply in await asyncio.gather(first, *tasks)] == [200] * 3

    run(AdmissionSettings(requests_max=200, ongoing_cost_max=200), scenario)


def test_no_request_stops_all_others() -> None:
    async def scenario(router: Router, cluster: SlowCluster) -> None:
        searches = json.dumps({"searches": [{"query": [1.0, 2.0]}] * 1000}).encode()
        first = asyncio.create_task(router.ask("POST", "/collections/words/points/query/batch", searches))
        await asyncio.sleep(0)
        assert router.admission.line.ongoing_weight == 25
        second = await start(router, cluster, count=1, under_way=2)
        for _ in range(2):
            cluster.turns.release()
        assert [reply.status for reply in await asyncio.gather(first, *second)] == [200] * 2

    run(AdmissionSettings(requests_max=100, ongoing_cost_max=100), scenario)


def test_a_batch_that_fails_leaves_no_search_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(router: Router, cluster: SlowCluster) -> None:
        async def search(name: str, request: SearchRequest, deadline_s: float) -> SearchAnswer:
            if request.k == 3:
                raise ShardUnavailable("shard 0 is away")
            return await SlowCluster.search(cluster, name, request, deadline_s)

        monkeypatch.setattr(cluster, "search", search)
        body = json.dumps({"searches": [{"query": [1.0, 2.0], "limit": limit} for limit in (1, 2, 3)]}).encode()
        reply = await router.ask("POST", "/collections/words/points/query/batch", body)
        assert (reply.status, b"shard 0 is away" in reply.body) == (503, True)
        assert (router.admission.line.held_count, cluster.under_way) == (0, 0)

    run(AdmissionSettings(requests_max=5, ongoing_cost_max=5), scenario)


def test_spent_tokens_are_a_429_that_says_when_they_are_back() -> None:
    admission = Admission(AdmissionSettings(system_tokens_per_s=20, burst_s=1))
    client = AsgiClient(HttpApp(FakeCluster(), LimitSettings(), "0", parts=RouterParts(admission=admission)))
    client.call("PUT", "/collections/words", {"vectors": {"size": 2, "distance": "Dot"}})
    assert client.call("PUT", "/collections/words/points", POINTS).status == 200, "no request is too large"
    answer = client.call("POST", "/collections/words/points/query", QUERY)
    assert answer.status == 429
    assert answer.headers["retry-after"] in ("4", "5"), "109 tokens of 20 a second, 20 of which were saved"
    assert (
        "the tokens of the cluster are spent: 20 a second flow in here (admission.system_tokens_per_s)"
        in answer.error
    )
    assert client.call("GET", "/collections/words").status == 200
    assert admission.counts.rate_limited_system == 1


def test_routers_share_a_rate() -> None:
    admission = Admission(AdmissionSettings(system_tokens_per_s=20, burst_s=1), router_count=4)
    ticket = admission.check(1.0)
    ticket.charge(5.5)
    with pytest.raises(RateLimited, match="5 a second flow in here") as refused:
        admission.check(1.0)
    assert refused.value.retry_after_s == pytest.approx(0.3, abs=0.05)


def test_keys_and_tenants_have_buckets_of_their_own() -> None:
    admission = Admission(AdmissionSettings(key_tokens_per_s=1, tenant_tokens_per_s=2, burst_s=1))
    admission.check(1.0, "one", ["t"])
    with pytest.raises(RateLimited, match="the key `one`"):
        admission.check(1.0, "one", ["t"])
    admission.check(1.0, "other", ["t"])
    with pytest.raises(RateLimited, match="the tenant `t`"):
        admission.check(1.0, "third", ["u", "t"])
    admission.check(1.0, "fourth", ["u"])
    admission.check(1.0)  # an open cluster knows neither
    assert (admission.counts.rate_limited_key, admission.counts.rate_limited_tenant) == (1, 1)


def test_keys_are_told_apart_at_the_surface() -> None:
    cluster = FakeCluster()
    one, other = (new_key(bytes([number]) * 38, (Grant(role=Role.ADMIN),), "", 0) for number in (1, 2))
    for key in (one, other):
        cluster.keys = apply_change(cluster.keys, AddKey(key.record))
    admission = Admission(AdmissionSettings(key_tokens_per_s=15, burst_s=1))
    client = AsgiClient(
        HttpApp(cluster, LimitSettings(), "0", parts=RouterParts(admission=admission)), {"api-key": one.text}
    )
    client.call("PUT", "/collections/words", {"vectors": {"size": 2, "distance": "Dot"}})
    assert client.call("PUT", "/collections/words/points", POINTS).status == 200
    assert client.call("PUT", "/collections/words/points", POINTS).status == 429
    client.headers = {"api-key": other.text}
    assert client.call("PUT", "/collections/words/points", POINTS).status == 200


def test_under_load_searches_get_less_width_and_say_so() -> None:
    cluster = FakeCluster()
    admission = Admission()
    client = AsgiClient(HttpApp(cluster, LimitSettings(), "0", parts=RouterParts(admission=admission)))
    client.call("PUT", "/collections/words", {"vectors": {"size": 2, "distance": "Dot"}})
    path = "/collections/words/points/query"
    assert "degraded" not in client.call("POST", path, QUERY).json()["shoal"]
    admission.degradation.observe(1.0, 0.0)
    assert client.call("POST", path, QUERY).json()["shoal"] == {"coverage": 1.0, "degraded": ["ef"]}
    batch = client.call("POST", f"{path}/batch", {"searches": [{"query": [1, 2]}, {"query": [2, 1], "limit": 3}]})
    assert batch.json()["shoal"]["degraded"] == ["ef"]
    for own in ({"params": {"hnsw_ef": 100}}, {"params": {"exact": True}}, {"limit": 200}):
        answer = client.call("POST", path, {"query": [1, 2], **own})
        assert "degraded" not in answer.json()["shoal"], own
    assert [request.ef for request in cluster.requests] == [None, 48, 48, 48, 100, None, None]
    assert admission.counts.lowered_ef == 3


class KeepsEverything:
    """A cache that would keep every question that it is told of."""

    def __init__(self) -> None:
        self.kept: list[Question] = []
        self.counts = CacheCounts()
        self.pressed: list[tuple[float, bool]] = []

    def press(self, staleness_s: float, extras_allowed: bool) -> None:
        self.pressed.append((staleness_s, extras_allowed))

    async def answer(self, arrival: Arrival, read: Callable[[], Question]) -> Answer:
        self.kept.append(read())
        return Answer(b"[]", b'{"coverage":1.0}')


def test_a_cache_is_asked_for_full_width_and_told_of_less_and_old_answers_are_allowed() -> None:
    cache: Any = KeepsEverything()
    admission = Admission(AdmissionSettings(stale_ms_max=250))
    client = AsgiClient(HttpApp(FakeCluster(), LimitSettings(), "0", parts=RouterParts(cache, admission=admission)))
    client.call("PUT", "/collections/words", {"vectors": {"size": 2, "distance": "Dot"}})
    client.call("POST", "/collections/words/points/query", QUERY)
    admission.degradation.observe(1.0, 0.0)
    for watcher in admission._watchers:
        watcher(admission.degradation)
    client.call("POST", "/collections/words/points/query", QUERY)
    calm, pressed = cache.kept
    assert calm.narrow is None
    assert (calm.request.ef, pressed.request.ef) == (None, None), "what it is kept for"
    assert admission.counts.lowered_ef == 0, "nothing is searched yet"
    assert pressed.searched().ef == 48
    assert admission.counts.lowered_ef == 1
    admission.degradation.level = Level.NORMAL
    assert pressed.searched().ef is None, "it waited until the router had time again"
    assert cache.pressed == [(0.25, False)]


def test_levels_follow_the_line_and_are_told() -> None:
    async def scenario(router: Router, cluster: SlowCluster) -> None:
        told: list[Level] = []
        router.admission.watch(lambda degradation: told.append(degradation.level))
        tasks = await start(router, cluster, count=4, under_way=4)
        while not told:  # noqa: ASYNC110  # the tick has no event
            await asyncio.sleep(0.01)
        assert told == [Level.LOWER_EF]
        assert not cluster.extras_allowed
        for _ in range(4):
            cluster.turns.release()
        await asyncio.gather(*tasks)
        while router.admission.degradation.level:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert told == [Level.LOWER_EF, Level.STALE, Level.NO_EXTRAS, Level.NORMAL]
        assert cluster.extras_allowed
        while router.admission._timer is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    run(AdmissionSettings(requests_max=4, ongoing_cost_max=4), scenario)
