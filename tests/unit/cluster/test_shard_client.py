"""A client finds its shard, and neither trusts the other unproved."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import uvloop

from cluster.shard_client import Address, ShardClient
from deployments.ports import free_port_block
from shards.errors import ShardUnavailable
from shards.host import ShardHost
from shards.identity import ShardIdentity, create_shard_folder
from shards.wire import Frame, Kind

SECRET = b"a secret of the tests"
DEADLINE_S = 10.0


async def ping(address: Address, secret: bytes = SECRET, cluster_id: str = "cluster") -> Frame:
    client = ShardClient(0, cluster_id, secret)
    client.retarget(address, "incarnation")
    try:
        return await client.call(Kind.PING, [], DEADLINE_S)
    finally:
        client.close()


@pytest.fixture
def host(tmp_path: Path) -> ShardHost:
    identity = ShardIdentity("cluster", 0, "node")
    create_shard_folder(tmp_path / "0", identity)
    return ShardHost(tmp_path / "0", identity, SECRET)


def test_a_shard_answers_who_knows_the_secret(host: ShardHost) -> None:
    address = host.start()
    assert uvloop.run(ping(address)).kind is Kind.PONG
    with pytest.raises(ShardUnavailable, match="secret"):
        uvloop.run(ping(address, b"another secret"))
    with pytest.raises(ShardUnavailable, match="shard 0 of cluster cluster answers there"):
        uvloop.run(ping(address, cluster_id="another cluster"))
    host.stop()


def test_where_nobody_listens_the_shard_is_unavailable() -> None:
    with pytest.raises(ShardUnavailable, match="connecting failed"):
        uvloop.run(ping(("127.0.0.1", free_port_block(1).start)))


def test_a_listener_that_hangs_up_is_no_shard() -> None:
    async def scenario() -> None:
        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
            with pytest.raises(ShardUnavailable, match="the connection was lost"):
                await ping(server.sockets[0].getsockname())

    uvloop.run(scenario())
