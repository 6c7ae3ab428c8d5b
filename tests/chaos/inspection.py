"""The whole collection compared with what it must be, while nobody writes.

First a barrier: a write to every shard that is acknowledged now. Requests of one router reach a shard in order and are
committed in order, so no older write can arrive behind it; from then on what is read is so, and open writes are settled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from deployments.http_client import ClusterClient, collection_path
from tests.chaos.clients import Client
from tests.chaos.points import PointMaker
from tests.chaos.real_cluster import SHARD_COUNT, RealCluster, upsert_points
from tests.chaos.report import Wrong

READ_BLOCK = 500
BARRIER_FIRST = 2**50
BARRIER_COUNT = 64
"""So many ids fall to every shard."""
SPARE = 1_000
"""Points more than expected that an enumeration has room for, so that it shows what should not be."""


def inspect(cluster: RealCluster, clients: Sequence[Client]) -> list[Wrong]:
    """What is wrong in the collection that these clients, and nobody else, write. Their open writes are settled."""
    collection, maker = clients[0].collection, clients[0].maker
    wrongs: list[Wrong] = []
    with cluster.client() as connection:
        _pass_barrier(cluster, connection, collection, maker)
        barrier = range(BARRIER_FIRST, BARRIER_FIRST + BARRIER_COUNT)
        expected = set(barrier)
        for client in clients:
            expected |= _inspect_one(cluster, connection, client)
            wrongs += client.wrongs
            client.wrongs = []
        wrongs += _enumerate(cluster, connection, collection, expected)
    return wrongs


def _pass_barrier(cluster: RealCluster, connection: ClusterClient, collection: str, maker: PointMaker) -> None:
    ids = [*range(BARRIER_FIRST, BARRIER_FIRST + BARRIER_COUNT)]
    assert all(
        cluster.ids_of_shard(connection, collection, shard_id, range(ids[0], ids[-1] + 1))
        for shard_id in range(SHARD_COUNT)
    )
    bodies = maker.bodies(ids, [1] * len(ids))
    cluster.insist(lambda: upsert_points(connection, collection, bodies))


def _inspect_one(cluster: RealCluster, connection: ClusterClient, client: Client) -> set[int]:
    """Every id of a client, those that it never wrote included; the ids that are there."""
    there = set()
    for start in range(0, len(client.ids), READ_BLOCK):
        block = [*client.ids[start : start + READ_BLOCK]]
        for point_id, state in cluster.insist(lambda ids=block: client.read(connection, ids)).items():
            if state is not None:
                client.fates.settle(point_id, state)
            if state is None or state:
                there.add(point_id)
    return there


def _enumerate(cluster: RealCluster, connection: ClusterClient, collection: str, expected: set[int]) -> list[Wrong]:
    """All points as an exact search finds them, and as they are counted, beside those that reads found."""
    described = cluster.insist(lambda: connection.describe(collection))
    dim = described["config"]["params"]["vectors"]["size"]
    body = {"query": [0.0] * dim, "limit": len(expected) + SPARE, "params": {"exact": True}}
    found = Counter(hit["id"] for hit in cluster.insist(lambda: connection.query(collection, body)))
    wrongs = [Wrong("doubled", f"point {key} is found {times} times") for key, times in found.items() if times > 1]
    wrongs += [Wrong("phantom", f"a search finds point {key}, a read does not") for key in found.keys() - expected]
    wrongs += [Wrong("lost", f"a read finds point {key}, a search does not") for key in expected - found.keys()]
    path = f"{collection_path(collection)}/points/count"
    counted = cluster.insist(lambda: connection.call("POST", path, {}))["count"]
    if counted != len(expected):
        kind = "phantom" if counted > len(expected) else "lost"
        wrongs.append(Wrong(kind, f"{counted} points are counted, {len(expected)} can be read"))
    return wrongs
