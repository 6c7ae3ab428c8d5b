"""Collections, their configuration and aliases, by the same calls of qdrant-client on a cluster and on its reference.

The cluster is real shards over sockets behind the HTTP API; the reference is the client's own in-memory mode. What one
refuses the other must refuse; what both do is compared by what can be read afterwards. And answers that the reference
has not (the cluster's, telemetry, metrics) are parsed by the client's own models.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from tests.http_server import serving_cluster

Call = Callable[[QdrantClient], Any]
NAMES = ["red", "green", "blue"]
ALIASES = ["live", "next", "red", "spare"]
MISSING = "nothing"
NAMED = {
    "image": models.VectorParams(
        size=3, distance=models.Distance.COSINE, on_disk=True, hnsw_config=models.HnswConfigDiff(m=4)
    ),
    "": models.VectorParams(size=2, distance=models.Distance.EUCLID),
}


@pytest.fixture(scope="module", params=[1, 2])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving_cluster(tmp_path_factory.mktemp("shards"), request.param) as url:
        yield url


@pytest.fixture
def both(url: str) -> Iterator[Both]:
    with closing(QdrantClient(url=url, check_compatibility=False)) as client:
        for collection in client.get_collections().collections:
            client.delete_collection(collection.name)
        yield Both(client, QdrantClient(":memory:"))


class Both:
    """A cluster and the reference, both empty at first."""

    def __init__(self, cluster: QdrantClient, reference: QdrantClient) -> None:
        self.cluster = cluster
        self.reference = reference

    def do(self, call: Call) -> Any:
        """What both answer; None where both refuse."""
        found, wanted = outcome(self.cluster, call), outcome(self.reference, call)
        assert found == wanted
        return None if isinstance(found, Refused) else found

    def compare(self) -> None:
        """Everything that can be read of collections and aliases."""
        self.do(lambda client: sorted(one.name for one in client.get_collections().collections))
        self.do(lambda client: pairs(client.get_aliases()))
        for name in {*NAMES, *ALIASES, MISSING}:
            self.do(lambda client, name=name: client.collection_exists(name))  # type: ignore[misc]
            self.do(lambda client, name=name: pairs(client.get_collection_aliases(name)))  # type: ignore[misc]
            self.do(lambda client, name=name: described(client, name))  # type: ignore[misc]
            self.do(lambda client, name=name: client.count(name).count)  # type: ignore[misc]


class Refused:
    """Equal to any other refusal: the reference raises ValueErrors in its own words."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Refused)

    __hash__ = None  # type: ignore[assignment]


def outcome(client: QdrantClient, call: Call) -> Any:
    try:
        return call(client)
    except UnexpectedResponse as refusal:
        if refusal.status_code not in (400, 404, 409, 422):
            raise
        return Refused()
    except ValueError:
        return Refused()


def pairs(answer: models.CollectionsAliasesResponse) -> list[tuple[str, str]]:
    return sorted((one.alias_name, one.collection_name) for one in answer.aliases)


def described(client: QdrantClient, name: str) -> Any:
    found = client.get_collection(name)
    return found.points_count, found.config.params.vectors, found.config.metadata, found.payload_schema


def create(name: str, **more: Any) -> Call:
    def call(client: QdrantClient) -> Any:
        parameters = models.VectorParams(size=len(name), distance=models.Distance.DOT)
        return client.create_collection(name, **{"vectors_config": parameters, **more})

    return call


def aliased(alias: str, collection: str) -> models.CreateAliasOperation:
    return models.CreateAliasOperation(create_alias=models.CreateAlias(alias_name=alias, collection_name=collection))


def unaliased(alias: str) -> models.DeleteAliasOperation:
    return models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias))


def renamed(old: str, new: str) -> models.RenameAliasOperation:
    return models.RenameAliasOperation(rename_alias=models.RenameAlias(old_alias_name=old, new_alias_name=new))


def change(*actions: Any) -> Call:
    return lambda client: client.update_collection_aliases(list(actions))


def test_an_index_is_exchanged_without_a_pause(both: Both) -> None:
    for name in ("red", "green"):
        both.do(create(name))
        point = models.PointStruct(id=len(name), vector=[1.0] * len(name), payload={"of": name})
        both.do(lambda client, name=name, point=point: client.upsert(name, [point]).status)  # type: ignore[misc]
    both.do(change(aliased("live", "red")))

    def ask(client: QdrantClient, size: int) -> Any:
        found = client.query_points("live", query=[1.0] * size, with_payload=True).points
        return [(point.id, point.score, point.payload) for point in found]

    assert both.do(lambda client: ask(client, 3)) == [(3, 3.0, {"of": "red"})]
    both.do(change(aliased("live", "green")))
    assert both.do(lambda client: ask(client, 3)) is None
    assert both.do(lambda client: ask(client, 5)) == [(5, 5.0, {"of": "green"})]
    assert both.do(lambda client: client.delete_collection("red")) is True
    both.compare()
    assert both.do(lambda client: [point.id for point in client.retrieve("live", [3, 5])]) == [5]


def test_writes_by_an_alias(both: Both) -> None:
    both.do(create("red"))
    both.do(change(aliased("live", "red")))
    points = [models.PointStruct(id=n, vector=[float(n)] * 3, payload={"n": n}) for n in range(9)]
    both.do(lambda client: client.upsert("live", points).status)
    both.do(lambda client: client.delete("live", [1, 2]).status)
    assert both.do(lambda client: client.count("red").count) == 7
    both.compare()


def test_a_list_that_fails_at_its_end_changes_nothing(both: Both) -> None:
    both.do(create("red"))
    both.do(change(aliased("live", "red")))
    assert both.do(change(unaliased("live"), aliased("next", "red"), aliased("spare", MISSING))) is None
    assert both.do(lambda client: pairs(client.get_aliases())) == [("live", "red")]


@pytest.mark.parametrize("seed", range(6))
def test_any_sequence_of_changes_reads_alike(both: Both, seed: int) -> None:
    chance = random.Random(seed)

    def action() -> Any:
        alias, other = chance.choice(ALIASES), chance.choice(ALIASES)
        kinds = [aliased(alias, chance.choice([*NAMES, MISSING])), unaliased(alias), renamed(alias, other)]
        return chance.choices(kinds, [3, 1, 2])[0]

    def step() -> Call:
        name = chance.choice([*NAMES, *ALIASES])
        match chance.randrange(6):
            case 0 | 1:
                more = chance.choice([{}, {"vectors_config": NAMED}])
                return create(name, metadata=chance.choice([None, {}, {"a": 1, "b": {"c": [name]}}]), **more)
            case 2:
                return lambda client: client.delete_collection(name)
            case 3:
                metadata = chance.choice([{"a": 2}, {"b": {"d": 1}}, {"e": name}])
                return lambda client: client.update_collection(name, metadata=metadata)
            case _:
                return change(*[action() for _ in range(chance.randint(1, 3))])

    for _ in range(25):
        both.do(step())
        both.compare()


def test_configuration_is_shown_as_it_was_given(both: Both) -> None:
    parameters = models.VectorParams(
        size=4, distance=models.Distance.COSINE, on_disk=True, datatype=models.Datatype.FLOAT32,
        hnsw_config=models.HnswConfigDiff(m=8, on_disk=True),
    )  # fmt: skip
    both.do(create(
        "red", vectors_config=parameters, on_disk_payload=False, replication_factor=1, write_consistency_factor=1,
        optimizers_config=models.OptimizersConfigDiff(indexing_threshold=7, max_optimization_threads=2),
        wal_config=models.WalConfigDiff(wal_capacity_mb=3),
        hnsw_config=models.HnswConfigDiff(ef_construct=64, full_scan_threshold=99),
        strict_mode_config=models.StrictModeConfig(enabled=False, max_query_limit=5),
        metadata={"made": "by a test", "at": 1.5},
    ))  # fmt: skip
    both.compare()
    config = both.cluster.get_collection("red").config
    assert (config.optimizer_config.indexing_threshold, config.optimizer_config.max_optimization_threads) == (7, 2)
    assert config.wal_config is not None
    assert config.wal_config.wal_capacity_mb == 3
    assert (config.hnsw_config.ef_construct, config.hnsw_config.full_scan_threshold) == (64, 99)
    assert config.params.on_disk_payload is False
    assert config.strict_mode_config is not None
    assert config.strict_mode_config.max_query_limit == 5


def test_vectors_change_by_name(both: Both) -> None:
    both.do(create("red", vectors_config=NAMED))
    both.compare()
    image = models.VectorParamsDiff(on_disk=False, hnsw_config=models.HnswConfigDiff(m=4, on_disk=True))
    assert both.cluster.update_collection("red", vectors_config={"image": image})
    shown = both.cluster.get_collection("red").config.params.vectors
    assert isinstance(shown, dict)
    assert shown[""] == NAMED[""]
    assert shown["image"] == NAMED["image"].model_copy(
        update={"on_disk": False, "hnsw_config": models.HnswConfigDiff(m=4, on_disk=True)}
    )
    image = models.VectorParamsDiff(hnsw_config=models.HnswConfigDiff(m=5))
    with pytest.raises(UnexpectedResponse, match=r"vectors\.image\.hnsw_config\.m` can.+t be changed, it is 4"):
        both.cluster.update_collection("red", vectors_config={"image": image})


def test_a_change_of_configuration_is_shown(both: Both) -> None:
    both.do(create("red", metadata={"a": 1}))
    both.do(lambda client: client.update_collection("red", metadata={"b": {"c": None}}))
    both.do(change(aliased("live", "red")))
    both.do(lambda client: client.update_collection("live", metadata={"a": [2]}))
    both.compare()
    unknown = {"image": models.VectorParamsDiff(on_disk=True)}
    assert both.do(lambda client: client.update_collection("red", vectors_config=unknown)) is None
    assert both.do(lambda client: client.update_collection(MISSING, metadata={})) is None
    cluster = both.cluster
    assert cluster.update_collection(
        "red",
        optimizers_config=models.OptimizersConfigDiff(indexing_threshold=7),
        collection_params=models.CollectionParamsDiff(read_fan_out_factor=2, on_disk_payload=False),
        hnsw_config=models.HnswConfigDiff(full_scan_threshold=5),
        vectors_config={"": models.VectorParamsDiff(on_disk=True)},
        strict_mode_config=models.StrictModeConfig(max_timeout=9),
    )
    config = cluster.get_collection("red").config
    assert config.optimizer_config.indexing_threshold == 7
    assert (config.params.read_fan_out_factor, config.params.on_disk_payload) == (2, False)
    assert config.hnsw_config.full_scan_threshold == 5
    assert config.params.vectors == models.VectorParams(size=3, distance=models.Distance.DOT, on_disk=True)
    assert config.metadata == {"a": [2], "b": {"c": None}}
    with pytest.raises(UnexpectedResponse, match=r"`hnsw_config\.m` can.+t be changed, it is 16"):
        cluster.update_collection("red", hnsw_config=models.HnswConfigDiff(m=32))


def test_texts_that_clients_match(both: Both) -> None:
    cluster = both.cluster
    create("red")(cluster)
    change(aliased("live", "red"))(cluster)
    for call, status, text in [
        (create("red"), 409, "Wrong input: Collection `red` already exists!"),
        (create("live"), 400, "Wrong input: Collection `live` can't be created"),
        (change(aliased("red", "red")), 409, "Wrong input: Collection `red` already exists!"),
        (change(aliased("a", MISSING)), 404, "Not found: Collection `nothing` doesn't exist!"),
        (change(renamed(MISSING, "a")), 404, "Not found: Alias `nothing` doesn't exist!"),
        (lambda client: client.get_collection(MISSING), 404, "Not found: Collection `nothing` doesn't exist!"),
    ]:
        with pytest.raises(UnexpectedResponse) as refusal:
            call(cluster)
        assert refusal.value.status_code == status
        assert text in refusal.value.content.decode()


def test_what_the_reference_has_not_is_parsed_by_the_client(both: Both, url: str) -> None:
    cluster = both.cluster
    create("red")(cluster)
    change(aliased("live", "red"))(cluster)
    assert isinstance(cluster.cluster_status(), models.ClusterStatusOneOf)
    shards = cluster.collection_cluster_info("live")
    assert shards.shard_count == len(shards.local_shards)
    assert {shard.state for shard in shards.local_shards} == {models.ReplicaState.ACTIVE}
    telemetry = cluster.http.service_api.telemetry().result
    assert telemetry is not None
    assert telemetry.collections.number_of_collections == 1
    assert telemetry.requests is not None
    assert telemetry.requests.rest.responses["POST /collections/aliases"]["200"].count >= 1
    # The client's own call for it expects JSON, which no server of this API sends.
    text = httpx.get(f"{url}/metrics").raise_for_status().text
    samples = {sample.name: sample for family in text_string_to_metric_families(text) for sample in family.samples}
    assert samples["shoal_collection_points"].labels == {"collection": "red"}
    assert samples["shoal_shard_memory_level"].labels["level"] in ("normal", "throttle", "refuse")
