"""Up, down and status of a local cluster, from the outside: nothing here imports Ray.

`up` checks what can be checked, takes the folder's lock, and hands it to a guardian process (see `guardian.py`) that starts
everything and stays; `up` returns when the first request has been answered. `down` tells the guardian, waits for the
lock, and ends by recorded ids whatever is left, also after a guardian that was killed. Both leave either a whole
cluster or nothing.
"""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from deployments.config import AppArgs, Settings
from deployments.data_folder import (
    DataFolder,
    RunInfo,
    forget_run,
    is_locked,
    lock_folder,
    open_folder,
    read_run_info,
)
from deployments.launch import PACKAGES_FOLDER, Order, hear
from deployments.ports import check_port_free
from deployments.processes import descendants, end_all, session_members, wait_until
from deployments.tracing import check_installed
from shards.errors import Internal, NotSupported, Unavailable

APPLICATION = "deployments.app:build"
DOWN_S = 9.0
"""How long a guardian may take to end its cluster, before it is ended with it."""
KILL_S = 1.0
LOG_TAIL_LINES = 15

Phase = Callable[[str], None]


@dataclass(frozen=True)
class Status:
    """`run` is None where no cluster runs; `ready` is whether its `/readyz` says so now, `answer` what it says."""

    run: RunInfo | None
    ready: bool
    answer: str


def up(settings: Settings, application: str = APPLICATION, on_phase: Phase = lambda phase: None) -> RunInfo:
    """Start a cluster on the data folder and wait until it answers. Raises ShoalErrors; then nothing is left running."""
    if not sys.platform.startswith("linux"):
        raise NotSupported(
            f"a local cluster needs Linux (Ray's HAProxy is built for it alone), this is {sys.platform}"
        )
    check_installed(settings.tracing)
    path = settings.data_folder.absolute()
    lock = lock_folder(path)
    try:
        folder = open_folder(path)
        _end_leftovers(path)
        check_port_free(settings.http.host, settings.http.port)
        run_folder = _make_run_folder()
        try:
            guardian = _start_guardian(_order(settings, folder, run_folder, application), lock)
        except BaseException:
            shutil.rmtree(run_folder, ignore_errors=True)
            raise
    finally:
        os.close(lock)  # the guardian has it open, too
    try:
        _await_ready(guardian, folder, on_phase)
    except BaseException:  # Ctrl-C as well
        _stop(guardian)
        _end_leftovers(path)
        raise
    info = read_run_info(path)
    if info is None:
        raise Internal(f"the cluster runs (pid {guardian.pid}) but its note in {path} is gone")
    return info


def down(settings: Settings) -> RunInfo | None:
    """End the cluster of the data folder, at most about 10 s. The note about it, or None where none was running.

    Raises Unavailable if a process could not be ended.
    """
    path = settings.data_folder.absolute()
    info = read_run_info(path)
    if not path.exists() or (info is None and not is_locked(path)):
        return None
    if info is not None and info.guardian.is_alive():
        os.kill(info.pid, signal.SIGTERM)
    if not wait_until(lambda: not is_locked(path), DOWN_S) and info is None:
        raise Unavailable(f"a cluster is being started on {path}; try again when it has begun to run")
    _end_leftovers(path)
    if is_locked(path):
        raise Unavailable(f"{path} is still locked, by a process that is not of the cluster that ran on it")
    return info


def status(settings: Settings) -> Status:
    """What runs on the data folder, and whether it is ready."""
    path = settings.data_folder.absolute()
    info = read_run_info(path)
    if info is None or not is_locked(path):
        return Status(None, False, f"no cluster runs on {path}")
    host, _, port = info.url.removeprefix("http://").rpartition(":")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=10)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        answer = response.read(2000).decode(errors="replace")
        return Status(info, response.status == http.client.OK, answer)
    except (OSError, http.client.HTTPException) as error:
        return Status(info, False, f"no answer: {error!r}")
    finally:
        connection.close()


def cluster_processes(info: RunInfo) -> list[int]:
    """The pids of everything that belongs to the cluster, its guardian included."""
    return sorted({*session_members(info.guardian), *(descendants(info.pid) if info.guardian.is_alive() else ())})


def _order(settings: Settings, folder: DataFolder, run_folder: Path, application: str) -> Order:
    from deployments.haproxy import bind_address, serve_environment
    from deployments.local_ray import ray_environment

    inherited = {
        name: value
        for name, value in os.environ.items()
        # Settings for another Ray must not reach this one; those that inject faults in a test may.
        if not name.startswith("RAY_") or name.startswith("RAY_testing_")
    }
    path = os.pathsep.join(filter(None, [str(PACKAGES_FOLDER), inherited.get("PYTHONPATH")]))
    arguments = AppArgs(
        data_folder=folder.path,
        cluster_id=folder.cluster_id,
        node_id=folder.node_id,
        shard_count=settings.cluster.shard_count,
        shards=settings.shards,
        router=settings.router,
        cache=settings.cache,
        limits=settings.limits,
        admission=settings.admission,
        log=settings.log,
        tracing=settings.tracing,
        snapshots=settings.snapshots,
    )
    return Order(
        data_folder=str(folder.path),
        run_folder=str(run_folder),
        log_file=str(folder.log_file),
        url=f"http://{bind_address(settings.http)}",
        application=application,
        http_port=settings.http.port,
        start_timeout_s=settings.cluster.start_timeout_s,
        app_args=arguments.model_dump(mode="json"),
        environment={
            **inherited,
            **ray_environment(run_folder),
            **serve_environment(run_folder, settings.http),
            "PYTHONPATH": path,
        },
    )


def _start_guardian(order: Order, lock: int) -> subprocess.Popen[bytes]:
    with open(order.log_file, "ab") as log:
        guardian = subprocess.Popen(
            [sys.executable, "-m", "deployments.guardian", str(lock)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=order.run_folder,  # not the caller's: a folder there must not hide a module
            env=dict(order.environment),
            pass_fds=[lock],
            start_new_session=True,
        )
    assert guardian.stdin is not None
    guardian.stdin.write(order.to_json())
    guardian.stdin.close()
    return guardian


def _await_ready(guardian: subprocess.Popen[bytes], folder: DataFolder, on_phase: Phase) -> None:
    assert guardian.stdout is not None
    failure = None
    with guardian.stdout:
        for line in guardian.stdout:
            event = hear(line)
            if event.kind == "ready":
                guardian.returncode = 0  # it outlives this object on purpose, which Python would warn of
                return
            if event.kind == "failed":
                failure = event.text
            else:
                on_phase(event.text)
    with suppress(subprocess.TimeoutExpired):
        guardian.wait(DOWN_S)  # it ends the cluster by itself, and keeps Ray's logs
    if failure is None:
        lines = folder.log_file.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        failure = "\n".join(["its processes died; the log ends with", *lines])
    raise Unavailable(f"the cluster did not start: {failure} (see {folder.log_file.parent})")


def _stop(guardian: subprocess.Popen[bytes]) -> None:
    guardian.terminate()
    try:
        guardian.wait(DOWN_S)
    except subprocess.TimeoutExpired:
        guardian.kill()
        guardian.wait()


def _end_leftovers(path: Path) -> None:
    """End what is left of the last cluster of the folder, and forget it."""
    info = read_run_info(path)
    if info is None:
        return
    left = end_all(lambda: cluster_processes(info), KILL_S)
    if left:
        raise Unavailable(f"these processes of the cluster on {path} could not be ended: {left}")
    forget_run(path)


def _make_run_folder() -> Path:
    """A short-lived folder with a short path: unix sockets lie in it."""
    from deployments.haproxy import FOLDER_LENGTH_MAX

    folder = tempfile.mkdtemp(prefix="shoal-")
    if len(folder) <= FOLDER_LENGTH_MAX:
        return Path(folder)
    os.rmdir(folder)
    return Path(tempfile.mkdtemp(prefix="shoal-", dir="/tmp"))
