"""Real clusters, started and ended: two side by side, what they listen on, what they answer without a router, and that
nothing is left of them however they end.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deployments import lifecycle
from deployments.config import Settings, load_settings
from deployments.data_folder import RunInfo, is_locked, read_run_info
from deployments.ports import LOOPBACK, free_port_block
from deployments.processes import wait_until
from shards.errors import Conflict, InvalidRequest, ShoalError, Unavailable

APPLICATION = "tests.cluster.trivial_app:build"
FAILING = "tests.cluster.trivial_app:build_failing"
LISTENING = "0A"
"""The state's name in /proc/net/tcp."""
LOOPBACK_HEX = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}
"""127.0.0.1, ::1 and ::ffff:127.0.0.1, as /proc/net/tcp and tcp6 write them."""


@dataclass
class Cluster:
    """A started cluster, and every HTTP status that its port gave while it started."""

    settings: Settings
    info: RunInfo
    statuses: list[int] = field(default_factory=list)

    @property
    def path(self) -> Path:
        return self.settings.data_folder

    def get(self) -> tuple[int, dict[str, str], bytes]:
        return get(self.settings.http.port)


def get(port: int) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=10)
    try:
        connection.request("GET", "/any")
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


def settings_for(path: Path, port: int | None = None) -> Settings:
    return load_settings(flags={"data_folder": path, "http.port": port or free_port_block(1).start})


def start(path: Path) -> Cluster:
    """Start a cluster, and ask its port all the while."""
    settings = settings_for(path)
    statuses: list[int] = []
    done = threading.Event()

    def ask() -> None:
        while not done.wait(0.02):
            try:
                statuses.append(get(settings.http.port)[0])
            except OSError:
                continue

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        return Cluster(settings, lifecycle.up(settings, APPLICATION), statuses)
    finally:
        done.set()
        asking.join()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Cluster]]:
    folder = tmp_path_factory.mktemp("clusters")
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(start, folder / name) for name in ("one", "two")]
        try:
            yield running[0].result(), running[1].result()
        finally:
            for name in ("one", "two"):
                lifecycle.down(settings_for(folder / name))


def assert_nothing_left(info: RunInfo, path: Path) -> None:
    assert lifecycle.cluster_processes(info) == []
    assert not info.run_folder.exists()
    assert not is_locked(path)
    assert read_run_info(path) is None


def mentioning(text: str) -> list[int]:
    """Every process of this machine whose command line or environment holds `text`."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                known = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                found += [int(entry.name)] if text.encode() in known else []
        except OSError:
            continue
    return found


def listening_addresses(pids: list[int]) -> dict[int, set[tuple[str, int]]]:
    """pid -> (address as /proc writes it, port) of its listening TCP sockets."""
    sockets = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == LISTENING:
                address, _, port = local.partition(":")
                sockets[inode] = (address, int(port, 16))
    found: dict[int, set[tuple[str, int]]] = {}
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            try:
                inode = os.readlink(descriptor).removeprefix("socket:[").rstrip("]")
            except OSError:
                continue
            if inode in sockets:
                found.setdefault(pid, set()).add(sockets[inode])
    return found


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def process_named(info: RunInfo, part: str) -> int:
    return next(pid for pid in lifecycle.cluster_processes(info) if part in name_of(pid))


def eventually(condition: Callable[[], bool], timeout_s: float = 30) -> None:
    assert wait_until(condition, timeout_s)


def test_two_clusters_answer_side_by_side(pair: tuple[Cluster, Cluster]) -> None:
    bodies = {cluster.get()[2] for cluster in pair}
    assert len(bodies) == 2
    for cluster in pair:
        assert int(cluster.get()[2]) in lifecycle.cluster_processes(cluster.info)
        status = lifecycle.status(cluster.settings)
        assert status.ready
        assert status.run == cluster.info


def test_everything_listens_on_loopback_only(pair: tuple[Cluster, Cluster]) -> None:
    for cluster in pair:
        found = listening_addresses(lifecycle.cluster_processes(cluster.info))
        assert len(found) >= 6  # GCS, raylet, agents, controller, router, HAProxy
        assert cluster.settings.http.port in {port for addresses in found.values() for _, port in addresses}
        open_ones = {
            name_of(pid): sorted(addresses)
            for pid, addresses in found.items()
            if any(address not in LOOPBACK_HEX for address, _ in addresses)
        }
        assert open_ones == {}


def test_the_note_finds_every_process(pair: tuple[Cluster, Cluster]) -> None:
    for cluster in pair:
        known = set(lifecycle.cluster_processes(cluster.info))
        assert set(mentioning(str(cluster.info.run_folder))) <= known


def test_the_run_folder_is_closed_to_others(pair: tuple[Cluster, Cluster]) -> None:
    for cluster in pair:
        assert cluster.info.run_folder.stat().st_mode & 0o077 == 0


def test_a_second_up_on_the_folder_names_the_first(pair: tuple[Cluster, Cluster]) -> None:
    first = pair[0]
    with pytest.raises(Conflict, match=f"pid {first.info.pid}, {first.info.url}"):
        lifecycle.up(settings_for(first.path), APPLICATION)
    assert first.get()[0] == 200


def test_a_port_in_use_is_refused_before_anything_starts(pair: tuple[Cluster, Cluster], tmp_path: Path) -> None:
    port = pair[0].settings.http.port
    settings = settings_for(tmp_path / "new", port)
    with pytest.raises(Conflict, match=f"port {port} on 127.0.0.1 is in use"):
        lifecycle.up(settings, APPLICATION)
    assert not is_locked(settings.data_folder)
    assert mentioning(str(settings.data_folder)) == []


def test_a_starting_cluster_answers_503(pair: tuple[Cluster, Cluster]) -> None:
    for cluster in pair:
        assert set(cluster.statuses) <= {200, 503}
        assert 503 in cluster.statuses


def test_without_a_router_the_answer_is_503_until_serve_brings_one_back(pair: tuple[Cluster, Cluster]) -> None:
    cluster = pair[0]
    killed = int(cluster.get()[2])
    os.kill(killed, signal.SIGKILL)
    unavailable = []
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        status, headers, body = cluster.get()
        if status == 200 and int(body) != killed:
            break
        assert status == 503, (status, body)
        unavailable.append((headers, body))
    else:
        pytest.fail("no new router")
    assert unavailable
    for headers, body in unavailable:
        assert headers["content-type"] == "application/json"
        assert headers["retry-after"] == "1"
        assert "no router" in json.loads(body)["status"]["error"]


def test_down_leaves_nothing_and_up_brings_it_back(pair: tuple[Cluster, Cluster]) -> None:
    first, second = pair
    begun = time.monotonic()
    assert lifecycle.down(first.settings) == first.info
    assert time.monotonic() - begun < 10
    assert_nothing_left(first.info, first.path)
    assert mentioning(str(first.info.run_folder)) == []
    assert lifecycle.down(first.settings) is None
    assert not lifecycle.status(first.settings).ready
    assert second.get()[0] == 200

    identity = (first.path / "shoal.json").read_text()
    again = lifecycle.up(first.settings, APPLICATION)
    assert again.url == first.info.url
    assert (first.path / "shoal.json").read_text() == identity
    assert first.get()[0] == 200


def test_a_cluster_whose_ray_died_ends_itself_and_keeps_the_logs(pair: tuple[Cluster, Cluster]) -> None:
    """The last but one with the pair: it ends the second."""
    cluster = pair[1]
    os.kill(process_named(cluster.info, "/raylet "), signal.SIGKILL)
    eventually(lambda: not is_locked(cluster.path))
    assert lifecycle.cluster_processes(cluster.info) == []
    assert "ending the cluster" in cluster.info.log_file.read_text()
    assert (cluster.info.log_file.parent / "ray-of-last-failure").is_dir()
    lifecycle.down(cluster.settings)
    assert_nothing_left(cluster.info, cluster.path)


def test_down_ends_what_a_killed_guardian_left(pair: tuple[Cluster, Cluster]) -> None:
    """The last with the pair: it ends the first."""
    cluster = pair[0]
    info = read_run_info(cluster.path)
    assert info is not None
    os.kill(info.pid, signal.SIGKILL)
    eventually(lambda: not is_locked(cluster.path))
    assert lifecycle.down(cluster.settings) == info
    assert_nothing_left(info, cluster.path)
    assert mentioning(str(info.run_folder)) == []


@pytest.mark.parametrize(
    ("application", "reason"),
    [(FAILING, "this application can't be built"), ("tests.cluster.trivial_app:none", "no attribute 'none'")],
)
def test_a_cluster_that_can_not_start_says_why_and_leaves_nothing(
    tmp_path: Path, application: str, reason: str
) -> None:
    settings = settings_for(tmp_path / "data")
    with pytest.raises(Unavailable, match=reason):
        lifecycle.up(settings, application)
    assert not is_locked(settings.data_folder)
    assert read_run_info(settings.data_folder) is None
    assert mentioning(str(settings.data_folder)) == []


def test_an_interrupted_up_leaves_nothing(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "data")

    def interrupt(phase: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lifecycle.up(settings, APPLICATION, interrupt)
    assert not is_locked(settings.data_folder)
    assert read_run_info(settings.data_folder) is None
    assert mentioning(str(settings.data_folder)) == []


@pytest.mark.parametrize(
    ("file", "content", "error"),
    [("shoal.json", '{"format": 2}', Conflict), ("letters.txt", "mine", InvalidRequest)],
)
def test_a_folder_that_is_not_ours_to_use_starts_nothing(
    tmp_path: Path, file: str, content: str, error: type[ShoalError]
) -> None:
    (tmp_path / file).write_text(content)
    with pytest.raises(error):
        lifecycle.up(settings_for(tmp_path), APPLICATION)
    assert (tmp_path / file).read_text() == content
    assert not is_locked(tmp_path)


def test_down_where_nothing_is(tmp_path: Path) -> None:
    assert lifecycle.down(settings_for(tmp_path / "none")) is None
    assert not (tmp_path / "none").exists()
    assert lifecycle.status(settings_for(tmp_path / "none")).run is None
