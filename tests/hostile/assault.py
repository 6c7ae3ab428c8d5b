"""Sends the corpus to a cluster and says what did not hold.

After every request: an answer that is no 5xx, a refusal where one is due, and an error that reads as one. At the end: the
traps are untouched, nothing lies beside the cluster's folder, and the good points are found as before.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cluster.api_keys import local_key
from deployments.http_app import ALL_ROUTES
from deployments.http_client import ClusterClient
from deployments.snapshot_settings import SnapshotSettings
from tests.hostile.corpus import COLLECTION, DIM, Case, Traps, cases
from tests.http_server import Entrance, serving_cluster
from tests.local_cluster import SECRET

_WAIT_S = 60.0
_PARSERS_WORDS = b"Invalid HTTP request received."
"""What the server's parser says of what is no HTTP, before any word of ours."""
_GOOD = range(1000, 1020)
"""Ids of the points that have to stay (the corpus writes to id 1 alone)."""


@dataclass(slots=True)
class Outcome:
    """`statuses` by family and status; `complaints` in words."""

    seed: int
    sent: int = 0
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)


def assault(folder: Path, seed: int, count: int) -> Outcome:
    """Send `count` requests to a cluster of two shards below `folder`."""
    outcome = Outcome(seed)
    home = folder / "home" / "cluster"
    home.mkdir(parents=True)
    files = _folder_of_links(home)
    entrance = Entrance(is_short=True, snapshots=SnapshotSettings(folder=files))
    with _listening() as trap, serving_cluster(home, 2, entrance=entrance) as url:
        traps = Traps(folder / "unpickled", f"http://127.0.0.1:{trap.getsockname()[1]}", files)
        client = _Client(url)
        before = _good_points(client, write=True)
        for case in cases(seed, count, traps):
            _try(client, case, outcome)
        if _good_points(client, write=False) != before:
            outcome.complaints.append("the good points are not found as before")
        if traps.file.exists():
            outcome.complaints.append("a pickle was run")
        if _was_called(trap):
            outcome.complaints.append("the server called an address that a request named")
        client.close()
    strangers = [
        path for path in (*folder.iterdir(), *(folder / "home").iterdir()) if path not in (home, home.parent)
    ]
    outcome.complaints += [f"a file outside the cluster's folder: {path}" for path in strangers]
    return outcome


def assault_as_stranger(folder: Path, seed: int, count: int) -> Outcome:
    """The same requests to a cluster that has keys, and every route besides, without a key that counts: all get 401."""
    outcome = Outcome(seed)
    key = local_key(SECRET)
    with serving_cluster(folder, 2, entrance=Entrance(own_key=key, is_short=True)) as url:
        with ClusterClient(url, api_key=key) as owner:
            owner.call("POST", "/shoal/keys", {"grants": [{"role": "admin"}]})
        client = _Client(url)
        corpus = cases(seed, count, Traps(folder / "unpickled", "http://127.0.0.1:9"))
        for case in (*_every_route(), *corpus):
            outcome.sent += 1
            status, body = client.send(case)
            outcome.statuses[case.family, status] += 1
            if status != 401 and not body.startswith(_PARSERS_WORDS):
                outcome.complaints.append(f"{status} {body[:100]!r} to a stranger: {case.method} {case.path[:120]}")
        client.close()
    return outcome


def _folder_of_links(home: Path) -> Path:
    """Where snapshots may be recovered from: it holds what is none, and links that lead out of it."""
    files = home / "files"
    files.mkdir()
    (files / "leak").symlink_to("/etc/passwd")
    (files / "up").symlink_to(home)
    (files / "none.snapshot").write_bytes(b"no snapshot " * 1000)
    return files


def _every_route() -> Iterator[Case]:
    for path, methods in ALL_ROUTES.items():
        for method, route in methods.items():
            if route.role is not None:
                yield Case(
                    "every route", method, path.format(collection=COLLECTION, id="1", field="n", name="x"), b"{}"
                )


def _try(client: _Client, case: Case, outcome: Outcome) -> None:
    outcome.sent += 1
    told = f"{case.family}: {case.method} {case.path[:120]} {case.body[:200]!r}"
    try:
        status, body = client.send(case)
    except (OSError, http.client.HTTPException) as error:
        outcome.complaints.append(f"no answer ({type(error).__name__}: {error}) to {told}")
        return
    outcome.statuses[case.family, status] += 1
    if status >= 500:
        outcome.complaints.append(f"{status} {body[:200]!r} to {told}")
    elif status < 400 and case.refused:
        outcome.complaints.append(f"granted with {status}: {told}")
    elif status >= 400 and case.method != "HEAD" and not _is_error(body):
        outcome.complaints.append(f"{status} without words, {body[:100]!r}, to {told}")


def _is_error(body: bytes) -> bool:
    try:
        return bool(json.loads(body)["status"]["error"])
    except (ValueError, KeyError, TypeError):
        return body.startswith(_PARSERS_WORDS)


class _Client:
    """One connection, made again where the server has closed it."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url)
        self._connection = self._connect()

    def _connect(self) -> http.client.HTTPConnection:
        assert self._address.hostname is not None
        return http.client.HTTPConnection(self._address.hostname, self._address.port, timeout=_WAIT_S)

    def send(self, case: Case) -> tuple[int, bytes]:
        """Status and body."""
        try:
            return self._exchange(case)
        except (OSError, http.client.HTTPException):
            self._connection.close()
            self._connection = self._connect()
            return self._exchange(case)

    def ask(self, method: str, path: str, body: Any) -> Any:
        """The result of a good request."""
        status, answer = self.send(Case("good", method, path, json.dumps(body).encode()))
        assert status == 200, answer
        return json.loads(answer)["result"]

    def close(self) -> None:
        self._connection.close()

    def _exchange(self, case: Case) -> tuple[int, bytes]:
        connection = self._connection
        connection.putrequest(case.method, case.path, skip_accept_encoding=True)
        headers = {"content-type": "application/json", "content-length": str(len(case.body)), **case.headers}
        for name, value in headers.items():
            connection.putheader(name, value.encode("latin-1"))
        connection.endheaders(case.body)
        answer = connection.getresponse()
        return answer.status, answer.read()


def _good_points(client: _Client, write: bool) -> Any:
    points = [
        {"id": id_, "vector": [float(id_ % 7), 1.0, float(id_ % 3), 2.0], "payload": {"good": True}} for id_ in _GOOD
    ]
    path = f"/collections/{COLLECTION}/points"
    if write:
        client.ask("PUT", f"/collections/{COLLECTION}", {"vectors": {"size": DIM, "distance": "Cosine"}})
        client.ask("PUT", f"{path}?wait=true", {"points": points})
    records = client.ask("POST", path, {"ids": list(_GOOD), "with_vector": True})
    good = {"must": {"key": "good", "match": {"value": True}}}
    near = client.ask("POST", f"{path}/query", {"query": [1.0, 2.0, 0.0, 1.0], "filter": good, "limit": 20})
    return sorted(records, key=lambda one: one["id"]), sorted((one["score"], one["id"]) for one in near["points"])


@contextmanager
def _listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.setblocking(False)
        yield trap


def _was_called(trap: socket.socket) -> bool:
    try:
        trap.accept()[0].close()
    except BlockingIOError:
        return False
    return True
