"""An alias is moved from collection to collection, and the old ones are deleted, while searches by it never stop.

No search may fail, and one that began after a move must be answered by the new collection, or a later one. Collections
take turns in their distance, one stores vectors normalised, the other as they come: a search or a write that mixed the two
would show. A writer overwrites one point by the alias, wherever it leads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from qdrant_client import QdrantClient, models

from tests.http_server import serving_cluster

GENERATIONS, ASKERS = 12, 3
DISTANCES = [models.Distance.COSINE, models.Distance.DOT]


@dataclass
class Exchange:
    """`shown`: the newest generation whose move has been answered."""

    url: str
    shown: int = 0
    asked_count: int = 0
    written_count: int = 0
    is_over: threading.Event = field(default_factory=threading.Event)

    def client(self) -> QdrantClient:
        return QdrantClient(url=self.url, check_compatibility=False)

    def bring(self, client: QdrantClient, generation: int) -> None:
        """A new collection with one point, and the alias to it; then the old collection goes."""
        name, distance = f"words-{generation}", DISTANCES[generation % 2]
        client.create_collection(name, vectors_config=models.VectorParams(size=2, distance=distance))
        client.upsert(name, [models.PointStruct(id=1, vector=[3.0, 4.0], payload={"generation": generation})])
        move = models.CreateAlias(collection_name=name, alias_name="words")
        client.update_collection_aliases([models.CreateAliasOperation(create_alias=move)])
        self.shown = generation
        if generation > 1:
            self.check_written(client, generation - 1)
            assert client.delete_collection(f"words-{generation - 1}")

    def check_written(self, client: QdrantClient, generation: int) -> None:
        expected = [-0.6, -0.8] if DISTANCES[generation % 2] == models.Distance.COSINE else [-3.0, -4.0]
        for point in client.retrieve(f"words-{generation}", [2], with_vectors=True):
            assert isinstance(point.vector, list)
            assert all(abs(a - b) < 1e-6 for a, b in zip(point.vector, expected, strict=True)), (
                generation,
                point.vector,
            )
            self.written_count += 1

    def ask(self) -> None:
        with closing(self.client()) as client:
            while not self.is_over.is_set():
                least = self.shown
                (point,) = client.query_points("words", query=[3.0, 4.0], limit=1, with_payload=True).points
                assert point.payload is not None
                generation = point.payload["generation"]
                assert generation >= least
                expected = 1.0 if DISTANCES[generation % 2] == models.Distance.COSINE else 25.0
                assert abs(point.score - expected) < 1e-5, (generation, point.score)
                self.asked_count += 1

    def write(self) -> None:
        """A point away from the query, so that the askers' hit stays the nearest."""
        with closing(self.client()) as client:
            while not self.is_over.is_set():
                client.upsert("words", [models.PointStruct(id=2, vector=[-3.0, -4.0])])


def test_searches_and_writes_never_notice(tmp_path: Path) -> None:
    with serving_cluster(tmp_path, 2) as url, ThreadPoolExecutor(ASKERS + 1) as pool:
        exchange = Exchange(url)
        with closing(exchange.client()) as client:
            exchange.bring(client, 1)
            others = [pool.submit(work) for work in [exchange.ask] * ASKERS + [exchange.write]]
            try:
                for generation in range(2, GENERATIONS + 1):
                    wait_for(lambda count=exchange.asked_count + 10: exchange.asked_count >= count, others)  # type: ignore[misc]
                    exchange.bring(client, generation)
            finally:
                exchange.is_over.set()
            for other in others:
                other.result(30)
            assert exchange.written_count > 0


def wait_for(holds: Callable[[], bool], others: list[Future[None]]) -> None:
    """Raises what ended one of the others."""
    deadline = time.monotonic() + 60
    while not holds():
        for other in others:
            if other.done():
                other.result()
        assert time.monotonic() < deadline, "the searches stand still"
        time.sleep(0.002)
