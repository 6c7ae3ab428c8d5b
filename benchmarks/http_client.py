"""One kept connection to a cluster, for what is asked before and after the load generator runs."""

from __future__ import annotations

import http.client
from collections.abc import Sequence
from time import monotonic
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from benchmarks.query_bodies import found_ids

TIMEOUT_S = 60.0
IDLE_MAX_S = 10.0
"""After so long without a request a new connection is made: a server may close an old one at the moment of the next."""


class Client:
    """See the module. Raises RuntimeError with the answer's beginning where it is no success."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_S)
        self._used_at = monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def send(self, method: str, path: str, body: bytes = b"") -> bytes:
        """One request; the answer's body."""
        if monotonic() > self._used_at + IDLE_MAX_S:
            self._connection.close()  # the next request opens it
        self._connection.request(method, path, body, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        answer = response.read()
        self._used_at = monotonic()
        if response.status != http.client.OK:
            raise RuntimeError(
                f"{method} {path} was answered {response.status}: {answer[:300].decode(errors='replace')}"
            )
        return answer

    def ask_all(self, path: str, bodies: Sequence[bytes], k: int) -> npt.NDArray[np.uint64]:
        """The ids that the bodies' answers hold, one after the other, (queries, k)."""
        return np.concatenate([found_ids(self.send("POST", path, body), k) for body in bodies])
