"""Requests on the short way, as bytes over a real socket, with uvicorn's own server state around."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from cluster.scope import Scope
from deployments import http_protocol
from deployments.http_access import Headers
from deployments.http_errors import UnknownPath
from deployments.http_message import Call, HttpContext, Reply, Request, Stream
from shards.errors import ShardUnavailable

DEADLINE_S = 10.0
NO_CONTEXT: Any = None
STREAMED, PIECE = 40_000_000, 1_000_000


class EchoApp:
    """Answers with what it was asked; a path with `slow` waits until `release` is set."""

    body_bytes_max = 100_000

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.started = asyncio.Event()
        self.given_bytes = 0

    def admit(self, method: str, path: str, query_string: bytes, headers: Headers, started: float) -> Call:
        self.headers = list(headers)
        if "refused" in path:
            raise UnknownPath("refused before its body came")

        if "stream" in path:
            return Call(self.stream, Request(Scope(path), "", b"", query_string, started))

        async def echo(_: HttpContext, request: Request) -> Reply:
            text = f"{method} {path} {query_string.decode()} {len(request.body)}"
            padding = bytes(STREAMED if "large" in path else 0)
            return Reply(text.encode() + padding, headers=((b"x-echo", b"1"),))

        return Call(echo, Request(Scope(path), "", b"", query_string, started))

    async def stream(self, _: HttpContext, request: Request) -> Reply:
        """STREAMED bytes; `cut` in the path lets it fail in the middle."""

        async def pieces() -> AsyncIterator[bytes]:
            for number in range(STREAMED // PIECE):
                if "cut" in request.collection.name and number == 3:
                    raise ShardUnavailable("the shard has gone")
                self.given_bytes += PIECE
                yield b"%d" % (number % 10) * PIECE
            self.release.set()

        return Reply(b"", content_type=b"application/x-tar", stream=Stream(STREAMED, pieces()))

    async def answer(self, call: Call, body: bytes) -> Reply:
        handler, request = call
        request.body = body
        if "slow" in request.collection.name:
            self.started.set()
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        return await handler(NO_CONTEXT, request)


async def serve_app(scope: Any, receive: Any, send: Any) -> None:
    """What stands at the end of Serve's own way."""
    body = f"serve {scope['path']}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


class Client:
    """Sends bytes and reads replies."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def reply(self) -> tuple[int, dict[str, str], bytes]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:-2])
        length = int(headers["content-length"])
        return int(head[0].split()[1]), headers, await self.reader.readexactly(length)

    async def ask(self, data: bytes) -> tuple[int, dict[str, str], bytes]:
        self.writer.write(data)
        return await self.reply()


Scenario = Callable[[Client, EchoApp, ServerState], Awaitable[None]]


def run(scenario: Scenario, ongoing_max: int = 100, bodies_bytes_max: int = 1_000_000) -> None:
    """The scenario against a server that has the app registered."""

    async def main() -> None:
        app, state = EchoApp(), ServerState()
        http_protocol.register(app, ongoing_max, bodies_bytes_max)
        config = uvicorn.Config(serve_app, lifespan="off", log_config=None, access_log=False)
        loop = asyncio.get_running_loop()
        made: Any = http_protocol.protocol_class(HttpToolsProtocol, loop)
        protocol = partial(made, config=config, server_state=state, app_state={}, _loop=loop)
        server = await loop.create_server(protocol, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        async with asyncio.timeout(DEADLINE_S):
            await scenario(Client(reader, writer), app, state)
        writer.close()
        while state.connections or state.tasks:  # noqa: ASYNC110  # uvicorn's own sets
            await asyncio.sleep(0.001)
        assert http_protocol._Registered.bodies.held_bytes == 0, "every body was given back"
        assert http_protocol._Registered.stream_count == 0
        server.close()

    try:
        uvloop.run(main())
    finally:
        http_protocol._Registered.app = None


def post(path: str, body: bytes = b"", headers: str = "") -> bytes:
    return f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n{headers}\r\n".encode() + body


def test_requests_follow_each_other_on_one_connection() -> None:
    async def scenario(client: Client, app: EchoApp, state: ServerState) -> None:
        status, headers, body = await client.ask(post("/a%20b/c?x=1&y=%20", b"hello"))
        assert (status, body) == (200, b"POST /a b/c x=1&y=%20 5")
        assert headers == {"x-echo": "1", "content-type": "application/json", "content-length": str(len(body))}
        assert (await client.ask(b"GET / HTTP/1.1\r\n\r\n"))[2] == b"GET /  0"
        assert state.total_requests == 2
        assert not state.tasks

    run(scenario)


def test_serves_own_paths_take_the_usual_way_and_mix_with_others() -> None:
    async def scenario(client: Client, app: EchoApp, state: ServerState) -> None:
        assert (await client.ask(b"GET /-/healthz HTTP/1.1\r\nhost: x\r\n\r\n"))[2] == b"serve /-/healthz"
        assert (await client.ask(post("/x")))[2] == b"POST /x  0"
        assert (await client.ask(b"GET /-/routes HTTP/1.1\r\n\r\n"))[2] == b"serve /-/routes"

    run(scenario)


def test_pipelined_requests_are_answered_in_order() -> None:
    async def scenario(client: Client, app: EchoApp, state: ServerState) -> None:
        client.writer.write(post("/slow") + post("/b", b"xy") + b"GET /-/healthz HTTP/1.1\r\n\r\n" + post("/d"))
        await app.started.wait()
        app.release.set()
        bodies = [(await client.reply())[2] for _ in range(4)]
        assert bodies == [b"POST /slow  0", b"POST /b  2", b"serve /-/healthz", b"POST /d  0"]

    run(scenario)


@pytest.mark.parametrize("size", [0, 1, 99_999, 100_000])
def test_bodies_arrive_whole_in_pieces_and_chunked(size: int) -> None:
    async def scenario(client: Client, app: EchoApp, state: ServerState) -> None:
        whole = post("/x", bytes(size))
        for start in range(0, len(whole), 30_000):
            client.writer.write(whole[start : start + 30_000])
            await asyncio.sleep(0.001)
        assert (await client.reply())[2] == f"POST /x  {size}".encode()
        head = b"PUT /y HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"
        parts = [b"%x\r\n%b\r\n" % (len(part), part) for part in (bytes(size), b"ab") if part]
        assert (await client.ask(head + b"".join(parts[1:] or parts) + b"0\r\n\r\n"))[2] == b"PUT /y  2"

    run(scenario)


def test_a_body_that_is_too_long_is_refused_before_it_is_here() -> None:
    async def scenario(client: Client, app: EchoApp, state: ServerState) -> None:
        client.writer.write(b"POST /x HTTP/1.1\r\ncontent-length: 900000\r\n\r\n" + bytes(100_001))
        status, headers, body = await client.reply()
        assert status == 413
        assert headers["connection"] == "close"
        assert b"body_bytes_max of 100000 bytes" in body
        assert await client.reader.read() == b""

    run(scenario)


def test_headers_arrive_each_time_as_they_are() -> None:
    async def scenario(client: Client, app: EchoApp, state: ServerState) -> None:
        await client.ask(post("/x", headers="Api-Key: a key\r\n"))
        assert (b"Api-Key", b"a key") in app.headers
        await client.ask(post("/x"))
        assert [name for name, _ in app.headers] == [b"host", b"content-length"]

    run(scenario)


def test_what_is_not_let_in_is_answered_and_its_body_not_kept() -> None:
    async def scenario(client: Client, app: EchoApp, state: ServerState) -> None:
        status, _, body = await client.ask(post("/refused", bytes(100_000)))
        assert (status, b"refused before its body came" in body) == (404, True)
        assert (await client.ask(post("/x", b"abc")))[2] == b"POST /x  3"
        client.writer.write(b"POST /refused HTTP/1.1\r\ncontent-length: 900000\r\n\r\n" + bytes(100_001))
        assert (await client.reply())[0] == 413, "nobody sends without end, let in or not"
        assert await client.reader.read() == b""

    run(scenario)


def test_expect_continue_is_answered_before_the_body_comes() -> None:
    async def scenario(client: Client, app: EchoApp, state: ServerState) -> None:
        client.writer.write(b"POST /x HTTP/1.1\r\nExpect: 100-continue\r\ncontent-length: 3\r\n\r\n")
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert (await client.ask(b"abc"))[2] == b"POST /x  3"

    run(scenario)


def test_the_connection_ends_where_the_client_asks_for_it() -> None:
    async def scenario(client: Client, app: EchoApp, state: ServerState) -> None:
        status, headers, _ = await client.ask(post("/x", headers="connection: close\r\n"))
        assert (status, headers["connection"]) == (200, "close")
        assert await client.reader.read() == b""

    run(scenario)


def test_head_gets_no_body() -> None:
    async def scenario(client: Client, app: EchoApp, state: ServerState) -> None:
        client.writer.write(b"HEAD /x HTTP/1.1\r\n\r\n")
        assert b"content-length: 10" in await client.reader.readuntil(b"\r\n\r\n")
        assert (await client.ask(post("/y")))[2] == b"POST /y  0"

    run(scenario)


def test_what_was_refused_is_let_go_of_without_the_garbage_collector() -> None:
    """Under overload a thousand requests a second are refused; kept until a collection, they were megabytes."""

    async def scenario(client: Client, app: EchoApp, state: ServerState) -> None:
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                assert (await client.ask(post("/refused", b"xy")))[0] == 404
            left = sum(type(one) is http_protocol._Exchange for one in gc.get_objects())
        finally:
            gc.enable()
        assert left <= 2, "the newest one on its connection, and perhaps one more"

    run(scenario)


def test_what_is_no_http_is_refused() -> None:
    async def scenario(client: Client, app: EchoApp, state: ServerState) -> None:
        client.writer.write(b"nonsense\r\n\r\n")
        assert (await client.reader.readline()).startswith(b"HTTP/1.1 400 ")

    run(scenario)


def test_a_client_that_goes_away_cancels_its_request() -> None:
    async def scenario(client: Client, app: EchoApp, state: ServerState) -> None:
        client.writer.write(post("/slow"))
        await app.started.wait()
        client.writer.transport.abort()
        (task,) = state.tasks
        await app.cancelled.wait()
        await asyncio.wait([task])
        assert not state.connections

    run(scenario)


def test_more_than_the_router_works_on_at_once_is_refused() -> None:
    async def scenario(client: Client, app: EchoApp, state: ServerState) -> None:
        client.writer.write(post("/slow"))
        await app.started.wait()
        other = Client(*await asyncio.open_connection(*client.writer.get_extra_info("peername")))
        status, headers, body = await other.ask(post("/x"))
        assert (status, headers["retry-after"]) == (503, "1")
        assert b"already works on 1 requests" in body
        app.release.set()
        assert (await client.reply())[0] == 200
        assert (await other.ask(post("/x")))[0] == 200
        other.writer.close()

    run(scenario, ongoing_max=1)


def test_bodies_that_have_no_room_are_refused_and_give_it_back() -> None:
    async def scenario(client: Client, app: EchoApp, state: ServerState) -> None:
        bodies = http_protocol._Registered.bodies
        client.writer.write(post("/slow", bytes(60_000)))
        await app.started.wait()
        assert bodies.held_bytes == 60_000
        other = Client(*await asyncio.open_connection(*client.writer.get_extra_info("peername")))
        status, headers, body = await other.ask(post("/x", bytes(50_000)))
        assert (status, headers["retry-after"]) == (503, "1")
        assert b"(admission.body_bytes_max): try again later" in body
        assert bodies.held_bytes == 60_000
        assert (await other.ask(post("/x", bytes(40_000))))[0] == 200
        other.writer.write(post("/gone", bytes(40_000))[:-1])
        while bodies.held_bytes < 99_999:  # noqa: ASYNC110  # bytes on their way have no event
            await asyncio.sleep(0.001)
        other.writer.transport.abort()
        app.release.set()
        assert (await client.reply())[0] == 200

    run(scenario, bodies_bytes_max=100_000)


def test_a_refusal_takes_its_turn_among_pipelined_requests() -> None:
    async def scenario(client: Client, app: EchoApp, state: ServerState) -> None:
        client.writer.write(post("/slow") + post("/refused", b"xy") + post("/c") + post("/refused"))
        await app.started.wait()
        app.release.set()
        assert [(await client.reply())[0] for _ in range(4)] == [200, 404, 200, 404]

    run(scenario)


def test_a_graceful_end_lets_a_request_finish_and_closes_idle_connections() -> None:
    async def scenario(client: Client, app: EchoApp, state: ServerState) -> None:
        idle = Client(*await asyncio.open_connection(*client.writer.get_extra_info("peername")))
        assert (await idle.ask(post("/x")))[0] == 200
        client.writer.write(post("/slow"))
        await app.started.wait()
        for connection in list(state.connections):
            connection.shutdown()
        assert await idle.reader.read() == b""
        app.release.set()
        status, headers, _ = await client.reply()
        assert (status, headers["connection"]) == (200, "close")
        assert await client.reader.read() == b""
        idle.writer.close()

    run(scenario)


def test_without_an_app_or_on_another_loop_the_usual_class_stays() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert http_protocol.protocol_class(HttpToolsProtocol, loop) is HttpToolsProtocol
        http_protocol.register(EchoApp(), 1)
        assert http_protocol.protocol_class(asyncio.Protocol, loop) is asyncio.Protocol
        other = asyncio.new_event_loop()
        assert http_protocol.protocol_class(HttpToolsProtocol, other) is HttpToolsProtocol
        other.close()

    try:
        asyncio.run(main())
    finally:
        http_protocol._Registered.app = None


def test_a_stream_waits_for_its_reader_and_the_next_request_for_it() -> None:
    async def scenario(client: Client, app: EchoApp, state: ServerState) -> None:
        client.writer.write(post("/stream") + post("/x"))
        for _ in range(2000):
            await asyncio.sleep(0)
        assert 0 < app.given_bytes < STREAMED, "what nobody reads is not asked for"
        status, headers, body = await client.reply()
        assert (status, headers["content-length"], headers["content-type"]) == (
            200,
            str(STREAMED),
            "application/x-tar",
        )
        assert body == b"".join(b"%d" % (number % 10) * PIECE for number in range(STREAMED // PIECE))
        assert (await client.reply())[2] == b"POST /x  0"

    run(scenario)


def test_a_stream_that_fails_ends_the_connection_before_its_length() -> None:
    async def scenario(client: Client, app: EchoApp, state: ServerState) -> None:
        client.writer.write(post("/stream/cut"))
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await client.reply()
        assert len(caught.value.partial) <= 3 * PIECE
        assert not state.connections

    run(scenario)


def test_a_client_that_goes_away_ends_its_stream() -> None:
    async def scenario(client: Client, app: EchoApp, state: ServerState) -> None:
        client.writer.write(post("/stream"))
        await client.reader.readuntil(b"\r\n\r\n")
        (task,) = state.tasks
        client.writer.transport.abort()
        await asyncio.wait([task])
        assert app.given_bytes < STREAMED
        assert not state.connections

    run(scenario)


async def connect_again(client: Client) -> Client:
    """Another connection to the same server."""
    return Client(*await asyncio.open_connection(*client.writer.get_extra_info("peername")))


def test_a_client_that_reads_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """And gives its place back: another is answered where there is one."""

    async def scenario(client: Client, app: EchoApp, state: ServerState) -> None:
        monkeypatch.setattr(http_protocol, "STALLED_S", 0.05)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.writer.write(post("/stream"))
        while not state.tasks:  # noqa: ASYNC110  # uvicorn's own set
            await asyncio.sleep(0.001)
        await asyncio.wait(list(state.tasks))
        assert app.given_bytes < STREAMED
        other = await connect_again(client)
        assert (await other.ask(post("/x")))[0] == 200
        other.writer.close()

    run(scenario, ongoing_max=1)


def test_a_client_that_reads_no_answers_of_a_pipeline_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(client: Client, app: EchoApp, state: ServerState) -> None:
        monkeypatch.setattr(http_protocol, "STALLED_S", 0.05)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.writer.write(post("/large") + post("/x"))
        while not state.total_requests:  # noqa: ASYNC110  # uvicorn's own count
            await asyncio.sleep(0.001)
        while state.connections:  # noqa: ASYNC110  # uvicorn's own set
            await asyncio.sleep(0.001)

    run(scenario)


def test_more_streams_than_a_router_sends_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(client: Client, app: EchoApp, state: ServerState) -> None:
        monkeypatch.setattr(http_protocol, "STREAMS_MAX", 1)
        client.writer.write(post("/stream"))
        await client.reader.readuntil(b"\r\n\r\n")
        other = await connect_again(client)
        status, headers, body = await other.ask(post("/stream"))
        assert (status, headers["retry-after"]) == (503, "1")
        assert b"already sends 1 files" in body
        assert (await other.ask(post("/x")))[0] == 200
        await client.reader.readexactly(STREAMED)
        status, _, body = await other.ask(post("/stream"))
        assert (status, len(body)) == (200, STREAMED)
        other.writer.close()

    run(scenario)
