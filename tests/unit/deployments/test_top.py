"""`shoal top`: what it makes of /metrics, of several routers behind one address, and the picture."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any
from urllib.request import urlopen

import pytest
from rich.console import Console

from deployments.cli import main
from deployments.http_client import ClusterClient
from deployments.top_reading import Request, Snapshot, hit_rates, read_snapshot, traffic_of
from deployments.top_source import ROUND_MAX, Routers
from deployments.top_view import Frame, render
from tests.http_server import Entrance, serving_cluster


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster of two shards that was searched 20 times, 5 of them in vain, and written to once."""
    with serving_cluster(tmp_path_factory.mktemp("top"), 2, entrance=Entrance()) as url, ClusterClient(url) as client:
        client.call("PUT", "/collections/words", {"vectors": {"size": 2, "distance": "Dot"}})
        points = [{"id": number, "vector": [1, number]} for number in range(10)]
        client.call("PUT", "/collections/words/points?wait=true", {"points": points})
        for number in range(15):  # different ones: a kept answer has no phases
            client.query("words", {"query": [1, number]})
        for _ in range(5):
            with pytest.raises(Exception, match="dimension"):
                client.query("words", {"query": [1]})
        yield url


@pytest.fixture
def text(url: str) -> str:
    with urlopen(f"{url}/metrics") as answer:
        return str(answer.read().decode())


def test_metrics_are_understood(text: str) -> None:
    snapshot = read_snapshot(text)
    assert snapshot.router
    assert snapshot.uptime_s > 0
    assert snapshot.collections == 1
    assert snapshot.requests[Request("search", "2")] == 15
    assert snapshot.requests[Request("search", "4")] == 5
    assert snapshot.requests[Request("write", "2")] == 1
    assert snapshot.histograms["shoal_http_request_seconds", "search"].count == 20
    assert snapshot.histograms["shoal_search_phase_seconds", "gather"].count == 15
    assert sum(float(shard["points"]) for shard in snapshot.shards.values()) == 10
    assert {shard["memory_level"] for shard in snapshot.shards.values()} == {"normal"}


def test_what_is_no_text_of_metrics_is_refused() -> None:
    with pytest.raises(ValueError, match=r"invalid|could not"):
        read_snapshot("<html> is not\nmetrics 1 2 3 4\n")


def snapshot(router: str, uptime_s: float, searches: float, refreshes: float = 0.0) -> Snapshot:
    found = Snapshot(router=router, uptime_s=uptime_s)
    found.requests = {Request("search", "2"): searches, Request("write", "5"): searches / 10}
    found.others = {("shoal_things_total", ""): refreshes, ("shoal_level", "a"): 7.0}
    return found


def test_rates_are_each_router_s_own_added_up() -> None:
    one = snapshot("one", 20, 300, 40).since(snapshot("one", 10, 100, 20))
    two = snapshot("two", 4, 40)
    traffic = traffic_of([one, two])
    assert traffic.rates["search"] == pytest.approx(200 / 10 + 40 / 4)
    assert traffic.failed == pytest.approx(20 / 10 + 4 / 4)
    assert traffic.others == {("shoal_things_total", ""): 2.0, ("shoal_level", "a"): 14.0}


def test_a_router_that_was_restarted_begins_anew() -> None:
    now = snapshot("one", 2, 10)
    assert now.since(snapshot("one", 100, 9000)) is now


class Asked:
    """A client whose scrapes reach routers in this order."""

    def __init__(self, *order: str) -> None:
        self.order = list(order)
        self.count = 0

    def metrics(self) -> Snapshot:
        self.count += 1
        return snapshot(self.order[self.count % len(self.order)], self.count, self.count)


def test_a_round_ends_when_a_router_answers_twice() -> None:
    client: Any = Asked("one", "two", "three")
    routers = Routers(client)
    intervals, _ = routers.ask()
    assert sorted(one.router for one in intervals) == ["one", "three", "two"]
    assert (client.count, routers.count) == (4, 3)
    again, _ = routers.ask()
    assert all(one.uptime_s <= 6 for one in again), "the time since that router was met before"
    many: Any = Asked(*map(str, range(100)))
    Routers(many).ask()
    assert many.count == ROUND_MAX


def test_hit_rates_are_pairs_of_counters() -> None:
    others = {
        ("shoal_cache_hits_total", "l1"): 3.0,
        ("shoal_cache_misses_total", "l1"): 1.0,
        ("shoal_cache_hits_total", "l2"): 0.0,
        ("shoal_cache_misses_total", "l2"): 0.0,
        ("shoal_lonely_hits_total", ""): 1.0,
        ("shoal_memo_hits_total", "near"): 3.0,
        ("shoal_memo_hits_total", "far"): 1.0,
        ("shoal_memo_misses_total", ""): 4.0,
    }
    assert hit_rates(others) == {"cache l1": 0.75, "cache l2": None, "memo near": 3 / 8, "memo far": 1 / 8}


def picture(found: Snapshot, readiness: dict[str, Any] | None = None) -> str:
    console = Console(width=130, file=io.StringIO())
    frame = Frame("http://here", found, traffic_of([found]), 2, readiness or {"ready": True}, "over the last 2 s")
    console.print(render(frame))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_picture_shows_what_there_is(text: str) -> None:
    shown = picture(read_snapshot(text))
    assert "2 routers, 1 collection; rates over the last 2 s" in shown
    for words in ("ready", "serves", "no limit", "gather", "refused (4xx)"):
        assert words in shown
    assert "Hit rates" in shown


def test_the_picture_shows_what_is_wrong() -> None:
    found = snapshot("one", 10, 100, 5)
    found.shards = {
        0: {"up": 0.0},
        1: {
            "up": 1.0, "building": 1.0, "memory_used_bytes": 950.0 * 2**20, "memory_limit_bytes": 1000.0 * 2**20,
            "memory_level": "refuse", "recall": 0.951,
        },
    }  # fmt: skip
    found.others |= {("shoal_cache_hits_total", "l1"): 30.0, ("shoal_cache_misses_total", "l1"): 10.0}
    shown = picture(found, {"ready": False, "reasons": ["shard 0 does not answer (shard_unavailable)"]})
    for words in (
        *("NOT READY", "shard 0 does not answer", "down", "building", "95% of 1,000 MiB", "0.951"),
        *("cache l1", "75.0%", "things", "0.5"),
    ):
        assert words in shown
    assert "cache hits" not in shown


def test_the_command_prints_one_picture(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "--once", "--url", url]) == 0
    printed = capsys.readouterr().out
    assert "since the routers started" in printed
    assert "A search, by phase" in printed
    assert "\x1b" not in printed


def test_it_says_where_no_cluster_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "--once", "--url", "http://127.0.0.1:9"]) == 3
    assert "no cluster answers" in capsys.readouterr().err
