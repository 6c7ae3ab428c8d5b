"""Client threads of a chaos run: each writes, deletes, reads and searches ids of its own, and judges every answer.

A client knows what every one of its points must be at any moment, for nobody else writes them: a read of its own ids is
judged by its fates, a search by what each hit says of itself. An answer that did not come makes a write open, a
read nothing. A write that is refused by any other error than "unavailable" must not have happened.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from deployments.http_client import ClusterClient, collection_path
from deployments.http_errors import status_of
from shards.errors import InvalidRequest, Overloaded, ShoalError, Unavailable
from tests.chaos.fates import ABSENT, Fates
from tests.chaos.points import PointMaker
from tests.chaos.real_cluster import REQUEST_S, delete_points, read_points, upsert_points
from tests.chaos.report import Wrong

BATCH_MAX = 16
SEARCH_LIMIT = 20
HASTY_S = 0.3


@dataclass(frozen=True)
class Habits:
    """How often a client does what, as shares of its requests; what is left are searches.

    `hasty` is the share of writes that wait HASTY_S at most, less than a shard is away: their fate is often unknown.
    """

    upserts: float = 0.6
    deletes: float = 0.15
    reads: float = 0.15
    hasty: float = 0.0


@dataclass
class Client:
    """One client and its ids. It lives through the whole run; `work` is the body of a thread for a part of it."""

    collection: str
    ids: range
    maker: PointMaker
    random: np.random.Generator
    habits: Habits = Habits()
    fates: Fates = field(default_factory=Fates)
    wrongs: list[Wrong] = field(default_factory=list)
    operations: int = 0
    unanswered_reads: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    """Writes of one point that were refused, by the answer's status."""

    def work(self, connection: ClusterClient, enough: threading.Event) -> None:
        """One request after the other until it is enough."""
        with connection:
            while not enough.is_set():
                self.step(connection)

    def step(self, connection: ClusterClient) -> None:
        """One request."""
        self.operations += 1
        habits, drawn = self.habits, self.random.random()
        try:
            if drawn < habits.upserts:
                self.upsert(connection, self._draw())
            elif drawn < habits.upserts + habits.deletes:
                self.delete(connection, self._draw())
            elif drawn < habits.upserts + habits.deletes + habits.reads:
                self.read(connection, self._draw())
            else:
                self.search(connection)
        except (Unavailable, Overloaded):
            self.unanswered_reads += 1

    def upsert(self, connection: ClusterClient, ids: list[int]) -> None:
        """Write the ids that no open write may still change, in one request."""
        ids = [point_id for point_id in ids if point_id not in self.fates.open]
        versions = [self.fates.next_version(point_id) for point_id in ids]
        bodies = self.maker.bodies(ids, versions)
        self._write(ids, versions, lambda deadline_s: upsert_points(connection, self.collection, bodies, deadline_s))

    def delete(self, connection: ClusterClient, ids: list[int]) -> None:
        """Delete those of the ids that no open write may still change."""
        ids = [point_id for point_id in ids if point_id not in self.fates.open]
        for point_id in ids:
            self.fates.next_version(point_id)
        self._write(
            ids, [ABSENT] * len(ids), lambda deadline_s: delete_points(connection, self.collection, ids, deadline_s)
        )

    def read(self, connection: ClusterClient, ids: list[int]) -> dict[int, int | None]:
        """Read ids and judge them; the states that were found. Raises Unavailable or Overloaded unanswered."""
        found = read_points(connection, self.collection, ids)
        states: dict[int, int | None] = dict.fromkeys(ids, ABSENT)
        for point in found:
            if point["id"] not in states:
                self.wrongs.append(Wrong("phantom", f"point {point['id']} was answered, but not asked for"))
            states[point["id"]] = self.maker.version_of(point)
        if len(found) > len({point["id"] for point in found}):
            self.wrongs.append(Wrong("doubled", f"a read of {ids} was answered with {[p['id'] for p in found]}"))
        judged = (self.fates.judge(point_id, state) for point_id, state in states.items())
        self.wrongs += [wrong for wrong in judged if wrong is not None]
        return states

    def search(self, connection: ClusterClient) -> None:
        """Search for a vector, and judge the hits: whole, none twice, and one's own as they must be."""
        (query,) = self.maker.vectors([int(self.random.integers(2**40))], [0])
        body = {"query": query.tolist(), "limit": SEARCH_LIMIT, "with_payload": True, "with_vector": True}
        path = f"{collection_path(self.collection)}/points/query?timeout={REQUEST_S}"
        hits = connection.call("POST", path, body)["points"]
        ids = [hit["id"] for hit in hits]
        if len(set(ids)) < len(ids):
            self.wrongs.append(Wrong("doubled", f"a search found {ids}"))
        for hit in hits:
            state = self.maker.version_of(hit)
            if state is None:
                self.wrongs.append(Wrong("damaged", f"a search found point {hit['id']}, which is not whole"))
            elif hit["id"] in self.ids and (wrong := self.fates.judge(hit["id"], state)):
                self.wrongs.append(Wrong(wrong.kind, f"in a search: {wrong.evidence}"))

    def _write(self, ids: list[int], states: list[int], send: Callable[[float], None]) -> None:
        if not ids:
            return
        outcome = list(zip(ids, states, strict=True))
        try:
            send(HASTY_S if self.random.random() < self.habits.hasty else REQUEST_S)
        except InvalidRequest:
            raise  # this program's own mistake
        except Overloaded as error:
            self.refused[status_of(error)] += len(ids)
            if len(ids) > 1:  # another shard may have taken its part
                self.fates.leave_open(outcome)
        except ShoalError as error:
            self.fates.leave_open(outcome)
            if not isinstance(error, Unavailable):
                self.wrongs.append(Wrong("damaged", f"a write was answered with {type(error).__name__}: {error}"))
        else:
            self.fates.acknowledge(outcome)

    def _draw(self) -> list[int]:
        count = int(self.random.integers(1, BATCH_MAX + 1))
        places = self.random.choice(len(self.ids), size=count, replace=False)
        return [self.ids[place] for place in places.tolist()]
