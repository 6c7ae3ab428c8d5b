"""A small client of our own HTTP API, for the `shoal` command and the demo.

It gives results as the API's JSON, raises ShoalErrors with the server's own sentence, and says what to do where
nothing listens. One kept connection, not for two threads at once. A request that may run twice without harm is
repeated once when a kept connection turns out to be closed; PUT and DELETE always get a new one. It imports little,
because the command has to start fast.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.client import HTTPConnection, HTTPException, HTTPResponse
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self
from urllib.parse import quote, urlsplit

import orjson

from shards.errors import DeadlineExceeded, Internal, InvalidRequest, ShoalError, Unauthenticated, Unavailable

if TYPE_CHECKING:
    from cluster.state import ClusterState
    from shards.schema import CollectionSpec

TIMEOUT_S = 60.0
PORT = 6333
_PIECE_BYTES = 1024 * 1024
_REPEATABLE = frozenset({"GET", "POST"})
_JSON_HEADER = {"content-type": "application/json"}


class NoCluster(Unavailable):
    """Nothing listens at the address, or something that is no Shoal."""


class ClusterClient:
    """One cluster, by its URL (`http://host:port`), with an API key where it asks for one. A context manager."""

    def __init__(self, url: str, timeout_s: float = TIMEOUT_S, api_key: str | None = None) -> None:
        self.url = url.rstrip("/")
        self._headers = {} if api_key is None else {"api-key": _header_value(api_key)}
        self._timeout_s = timeout_s
        self._address = _address(url)
        self._connection: HTTPConnection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def state(self) -> ClusterState:
        """Where the shards are and who owns what: what a bulk load needs."""
        from cluster.state import ClusterState

        return ClusterState.model_validate(self.call("GET", "/shoal/state"))

    def cluster(self) -> dict[str, Any]:
        """The shards and their problems, as `GET /cluster` tells under `shoal`."""
        found: dict[str, Any] = self.call("GET", "/cluster")["shoal"]
        return found

    def shards_of(self, collection: str) -> list[dict[str, Any]]:
        """What each shard says of its part, as `GET /collections/{c}/cluster` tells under `shoal`."""
        found: list[dict[str, Any]] = self.call("GET", collection_path(collection) + "/cluster")["shoal"]["shards"]
        return found

    def collections(self) -> list[str]:
        """Their names, in order."""
        return sorted(item["name"] for item in self.call("GET", "/collections")["collections"])

    def describe(self, collection: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", collection_path(collection))
        return found

    def create(self, collection: str, spec: CollectionSpec, shard_count: int | None = None) -> None:
        """Raises Conflict if it exists."""
        body = {
            "vectors": {
                name: {"size": vector.size, "distance": vector.distance.value}
                for name, vector in spec.vectors.items()
            },
            "hnsw_config": {"m": spec.hnsw.m, "ef_construct": spec.hnsw.ef_construction},
            "shard_number": shard_count,
        }
        self.call("PUT", collection_path(collection), body)

    def delete(self, collection: str) -> bool:
        """False if there was none."""
        return bool(self.call("DELETE", collection_path(collection)))

    def retrieve(
        self, collection: str, ids: list[int | str], with_vector: bool | list[str] = False
    ) -> list[dict[str, Any]]:
        """The points that exist, with their payload, and with all or some of their vectors."""
        body = {"ids": ids, "with_payload": True, "with_vector": with_vector}
        found: list[dict[str, Any]] = self.call("POST", collection_path(collection) + "/points", body)
        return found

    def query(self, collection: str, body: dict[str, Any]) -> list[dict[str, Any]]:
        """The hits of one query, nearest first."""
        found: list[dict[str, Any]] = self.call("POST", collection_path(collection) + "/points/query", body)["points"]
        return found

    def query_batch(self, collection: str, bodies: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
        """The hits of each query."""
        path = collection_path(collection) + "/points/query/batch"
        return [answer["points"] for answer in self.call("POST", path, {"searches": bodies})]

    def call(self, method: str, path: str, body: object = None) -> Any:
        """The `result` of a reply. Raises the ShoalError that its status stands for, NoCluster if nobody answers."""
        status, answer = self._answer(method, path, None if body is None else orjson.dumps(body))
        return self._result(status, answer)

    def _answer(self, method: str, path: str, data: bytes | None) -> tuple[int, bytes]:
        """Status and body. Raises DeadlineExceeded, NoCluster."""
        if method not in _REPEATABLE:
            self.close()
        with self._troubles_told(method, path):
            return self._exchange(method, path, data)

    @contextmanager
    def _troubles_told(self, method: str, path: str) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            self.close()
            message = f"{self.url} did not answer {method} {path[:200]} within {self._timeout_s:.0f} s"
            raise DeadlineExceeded(message) from None
        except OSError as error:
            self.close()
            why = "" if isinstance(error, ConnectionRefusedError) else f" ({error.strerror or error})"
            message = f"no cluster answers at {self.url}{why}; start one with `shoal up`"
            raise NoCluster(message) from None
        except HTTPException as error:
            self.close()
            raise NoCluster(f"what answers at {self.url} does not speak HTTP ({error!r}); is it Shoal?") from None

    def _exchange(self, method: str, path: str, data: bytes | None) -> tuple[int, bytes]:
        if self._connection is not None:
            try:
                return self._ask(self._connection, method, path, data)
            except ConnectionError:  # it was closed since its last use
                self.close()
        self._connection = HTTPConnection(*self._address, timeout=self._timeout_s)
        return self._ask(self._connection, method, path, data)

    def _ask(self, connection: HTTPConnection, method: str, path: str, data: bytes | None) -> tuple[int, bytes]:
        headers = self._headers if data is None else {**self._headers, **_JSON_HEADER}
        connection.request(method, path, data, headers)
        response: HTTPResponse = connection.getresponse()
        return response.status, response.read()

    def _result(self, status: int, answer: bytes) -> Any:
        try:
            reply = orjson.loads(answer)
            if 200 <= status < 300:
                return reply["result"]
            message = reply["status"]["error"]
        except (ValueError, KeyError, TypeError):
            if isinstance(refusal := _error(status, answer.decode(errors="replace")), Unauthenticated):
                # The only one in plain text.
                raise Unauthenticated(f"{refusal.message} (for `shoal`: --api-key or SHOAL_API_KEY)") from None
            start = answer[:80].decode(errors="replace")
            raise NoCluster(f"what answers at {self.url} is no Shoal cluster: HTTP {status}, {start!r}") from None
        raise _error(status, message)


def download(client: ClusterClient, path: str, file: BinaryIO) -> str:
    """Write the body of a GET into a file as it comes; returns its SHA-256 in hex. Errors as of `call`, and Unavailable
    where the body ends too early.
    """
    client.close()
    checksum = sha256()
    with client._troubles_told("GET", path):
        connection = client._connection = HTTPConnection(*client._address, timeout=client._timeout_s)
        connection.request("GET", path, headers=client._headers)
        with connection.getresponse() as response:
            if response.status != 200:
                client._result(response.status, response.read())
            while piece := response.read(_PIECE_BYTES):
                checksum.update(piece)
                file.write(piece)
            if response.length:
                raise Unavailable(f"{client.url} broke off {response.length} bytes before the end; repeat it")
    return checksum.hexdigest()


def collection_path(collection: str) -> str:
    """Raises InvalidRequest for a name that no path can carry."""
    if not collection or "/" in collection or collection in (".", ".."):
        raise InvalidRequest(f"{collection!r} can't be the name of a collection")
    return "/collections/" + quote(collection, safe="")


def _header_value(api_key: str) -> str:
    """Raises InvalidRequest for a key that no header can carry; it is not told, as it may be a good one with a slip."""
    key = api_key.strip()
    if not key or not key.isascii() or not key.isprintable():
        raise InvalidRequest("the API key that was given is empty, or has characters that no key has")
    return key


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = 0
    if parts.scheme != "http" or not parts.hostname or port == 0 or parts.path not in ("", "/"):
        raise InvalidRequest(f"{url!r} is not the URL of a cluster, such as http://127.0.0.1:{PORT}")
    return parts.hostname, port or PORT


def _error(status: int, message: str) -> ShoalError:
    """The error that a status stands for: the inverse of the server's own table."""
    from deployments.http_errors import status_of
    from shards.errors import BY_CODE

    # Of several with one status the one nearest to the root: it says least beyond the message.
    nearest = sorted(
        (kind for kind in BY_CODE.values() if kind is not ShoalError), key=lambda kind: len(kind.__mro__)
    )
    kinds = {status_of(kind("")): kind for kind in reversed(nearest)}
    return kinds.get(status, Internal)(message)
