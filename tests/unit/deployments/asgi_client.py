"""Drives an ASGI application without a server or a socket, one request at a time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

Message = MutableMapping[str, Any]
Application = Callable[..., Coroutine[Any, Any, None]]


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def result(self) -> Any:
        answer = self.json()
        assert (self.status, answer["status"]) == (200, "ok"), answer
        return answer["result"]

    @property
    def error(self) -> str:
        error = self.json()["status"]["error"]
        assert isinstance(error, str)
        return error


@dataclass
class AsgiClient:
    """`sent` are the messages of the last reply; `headers` those of every request, names in lower case."""

    app: Application
    headers: dict[str, str] = field(default_factory=dict)
    sent: list[Message] = field(default_factory=list)

    def call(self, method: str, path: str, body: Any = None) -> Response:
        """`body`: bytes as they are, or a value that becomes JSON."""
        whole = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        return self.call_with(method, path, [{"type": "http.request", "body": whole, "more_body": False}])

    def call_with(self, method: str, path: str, messages: list[Message]) -> Response:
        """The request's body as the server would hand it over."""
        path, _, query = path.partition("?")
        headers = [(name.encode(), value.encode()) for name, value in self.headers.items()]
        scope: dict[str, Any] = {"type": "http", "method": method, "path": unquote(path), "headers": headers}
        scope["query_string"] = query.encode()
        waiting, self.sent = list(messages), []

        async def receive() -> Message:
            return waiting.pop(0)

        async def send(message: Message) -> None:
            self.sent.append(message)

        asyncio.run(self.app(scope, receive, send))
        if not self.sent:
            return Response(0, {}, b"")
        headers = {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}
        return Response(self.sent[0]["status"], headers, b"".join(message["body"] for message in self.sent[1:]))
