"""Connections that wait are accepted together: counted in turns of the loop, not in seconds."""

from __future__ import annotations

import asyncio
import socket

import uvloop

from deployments.accepting import Acceptor

CLIENT_COUNT = 50
TURNS_MAX = 20
"""One connection a turn, as uvloop does it, would take 50 turns."""


class Greeter(asyncio.Protocol):
    """Says hello to whoever connects."""

    made = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        type(self).made += 1
        transport.write(b"hello")  # type: ignore[attr-defined]


def bound_socket() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock


def test_all_that_wait_are_accepted_in_few_turns() -> None:
    async def connect_all() -> tuple[int, set[bytes]]:
        Greeter.made = turns = 0
        sock = bound_socket()
        acceptor = Acceptor(sock, Greeter, 100)
        clients = [socket.create_connection(sock.getsockname()) for _ in range(CLIENT_COUNT)]
        while Greeter.made < CLIENT_COUNT and turns < TURNS_MAX:
            await asyncio.sleep(0)
            turns += 1
        heard = {await asyncio.to_thread(client.recv, 5) for client in clients}
        for client in clients:
            client.close()
        acceptor.close()
        await acceptor.wait_closed()
        sock.close()
        return turns, heard

    turns, heard = uvloop.run(connect_all())
    assert Greeter.made == CLIENT_COUNT
    assert turns < TURNS_MAX
    assert heard == {b"hello"}


def test_after_close_nobody_is_accepted() -> None:
    async def connect_late() -> int:
        Greeter.made = 0
        sock = bound_socket()
        acceptor = Acceptor(sock, Greeter, 100)
        acceptor.close()
        with socket.create_connection(sock.getsockname()):
            for _ in range(TURNS_MAX):
                await asyncio.sleep(0)
        sock.close()
        return Greeter.made

    assert uvloop.run(connect_late()) == 0
