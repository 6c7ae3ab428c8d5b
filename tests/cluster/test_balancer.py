"""HAProxy as Shoal runs it, before two servers that are ready or not: who gets the requests.

The configuration is Serve's own, through the wrapper; the servers stand in for routers (GET /-/healthz says that they live,
/readyz whether they are ready, everything else who they are).
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deployments.config import HttpSettings
from deployments.haproxy import write_wrapper
from deployments.ports import LOOPBACK, free_port_block
from deployments.processes import wait_until
from tests.serve_haproxy import generated

DEADLINE_S = 30
ROUND = 12
"""Requests by which is found out who answers."""


@dataclass
class FakeRouter:
    name: str
    is_ready: bool = True
    server: ThreadingHTTPServer = field(init=False)

    def __post_init__(self) -> None:
        router = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(503 if self.path == "/readyz" and not router.is_ready else 200)
                with suppress(ConnectionError):  # a check that was given up
                    self.end_headers()
                    self.wfile.write(router.name.encode())

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}).start()

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@dataclass
class Balancer:
    port: int
    routers: list[FakeRouter]

    def asked(self) -> set[str]:
        """Who answers; a status that is not 200 stands for itself."""
        found = set()
        for _ in range(ROUND):
            connection = HTTPConnection(LOOPBACK, self.port, timeout=DEADLINE_S)
            connection.request("GET", "/collections")
            answer = connection.getresponse()
            body = answer.read()
            found.add(body.decode() if answer.status == 200 else str(answer.status))
            connection.close()
        return found

    def settles_on(self, *names: str) -> bool:
        return wait_until(lambda: self.asked() == set(names), DEADLINE_S)


@pytest.fixture
def balancer(tmp_path: Path) -> Iterator[Balancer]:
    with ExitStack() as stack:
        routers = [FakeRouter("one"), FakeRouter("two")]
        for router in routers:
            stack.callback(router.stop)
        port = free_port_block(1).start
        wrapper = write_wrapper(tmp_path, HttpSettings(port=port))
        (tmp_path / "haproxy.cfg").write_text(generated(tmp_path, [router.port for router in routers], "100ms"))
        (tmp_path / "state").touch()
        process = subprocess.Popen([wrapper, "-db", "-f", tmp_path / "haproxy.cfg"], stderr=subprocess.DEVNULL)
        stack.callback(process.wait, DEADLINE_S)
        stack.callback(process.kill)
        assert wait_until(lambda: _listens(port), DEADLINE_S)
        yield Balancer(port, routers)


def _listens(port: int) -> bool:
    connection = HTTPConnection(LOOPBACK, port, timeout=DEADLINE_S)
    try:
        connection.connect()
    except OSError:
        return False
    finally:
        connection.close()
    return True


def test_a_router_that_is_not_ready_leaves_while_another_is(balancer: Balancer) -> None:
    one, two = balancer.routers
    assert balancer.settles_on("one", "two")
    one.is_ready = False
    assert balancer.settles_on("two")
    one.is_ready, two.is_ready = True, False
    assert balancer.settles_on("one")
    two.is_ready = True
    assert balancer.settles_on("one", "two")


def test_where_none_is_ready_those_that_live_answer(balancer: Balancer) -> None:
    one, two = balancer.routers
    one.is_ready = two.is_ready = False
    assert balancer.settles_on("one", "two")
    one.stop()
    assert balancer.settles_on("two")
    one.server = ThreadingHTTPServer((LOOPBACK, one.port), one.server.RequestHandlerClass)
    threading.Thread(target=one.server.serve_forever, kwargs={"poll_interval": 0.02}).start()
    one.is_ready = True
    assert balancer.settles_on("one")


def test_where_none_lives_the_page_says_so(balancer: Balancer) -> None:
    for router in balancer.routers:
        router.server.shutdown()
        router.server.socket.close()
    assert balancer.settles_on("503")
    connection = HTTPConnection(LOOPBACK, balancer.port, timeout=DEADLINE_S)
    connection.request("GET", "/")
    answer = connection.getresponse()
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert "no router is ready" in json.loads(answer.read())["status"]["error"]
    connection.close()
