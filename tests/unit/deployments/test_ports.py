"""Ports: what is taken is told, and a block that is found is free."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from deployments.ports import LOOPBACK, check_port_free, free_port_block
from shards.errors import Conflict, InvalidRequest


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as server:
        server.bind((LOOPBACK, 0))
        server.listen(1)
        yield server.getsockname()[1]


def test_a_port_in_use_is_named(taken: int) -> None:
    with pytest.raises(Conflict, match=f"port {taken} on 127.0.0.1 is in use"):
        check_port_free(LOOPBACK, taken)


def test_all_interfaces_include_loopback(taken: int) -> None:
    with pytest.raises(Conflict, match=f"port {taken} on 0.0.0.0 is in use"):
        check_port_free("0.0.0.0", taken)


def test_checking_a_free_port_does_not_take_it() -> None:
    port = free_port_block(1).start
    check_port_free(LOOPBACK, port)
    check_port_free("localhost", port)


@pytest.mark.parametrize("host", ["192.0.2.77", "no.such.host.invalid"])
def test_a_host_that_is_not_this_machine(host: str) -> None:
    with pytest.raises(InvalidRequest, match=host):
        check_port_free(host, free_port_block(1).start)


def test_a_block_is_free_and_in_a_row() -> None:
    block = free_port_block(20)
    assert len(block) == 20
    for port in block:
        check_port_free(LOOPBACK, port)
