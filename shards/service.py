"""What a shard answers on the data plane. Lives on the shard's loop; every collection it hosts is changed here alone.

Searches that arrive together and ask alike are one pass over the segments. Few queries are answered on the loop
itself (a thread hop costs more than a search); many go to the search threads, so that the loop stays responsive.
A read that nobody waits for any more is dropped before it begins (waiting_work.py): its caller took it back, or its deadline
has passed.
Writes go through each collection's committer, loads through sessions with a thread of their own.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any

from shards import messages
from shards.batch import Vectors, decode_batch
from shards.bulk import BulkSession, check_known, remove_orphans
from shards.collection import ShardCollection
from shards.committer import Committer, WaitingWrite
from shards.errors import (
    Corrupt,
    DimensionMismatch,
    InvalidRequest,
    QueueFull,
    ShardUnavailable,
    StaleEpoch,
    StorageFull,
)
from shards.filter_memo import matching
from shards.filter_query import FilterQuery, filter_query
from shards.filters.paths import parse_path
from shards.generations import NO_STAMP, decode_asked, encode_stamps
from shards.identity import ShardIdentity
from shards.index import SearchPlan, VectorIndex
from shards.log_frame import LogOp, OpKind
from shards.lookup import look_up
from shards.memory_account import LoadPermits, MemoryAccount
from shards.messages import SearchHead, Target, decode_target
from shards.point_writes import check_write, decode_point_write
from shards.recall_probe import RecallProbe
from shards.resident import Resident, read_resident
from shards.scrolling import scroll
from shards.search_answers import Seen, answer_awaited, as_shoal_error, encoded_answers, encoded_failures
from shards.server import ShardConnection
from shards.settings import ShardSettings
from shards.snapshot_requests import SHELF_KINDS, SnapshotRequests
from shards.waiting_work import CalledOff, Ticket, WaitingWork, too_late
from shards.wire import Frame, Kind

QUEUED_QUERIES_MAX = 20_000
"""Queries that may wait for a search thread; about ten seconds of work for one core."""


@dataclass(slots=True)
class Hosted:
    """A collection that this shard serves."""

    collection: ShardCollection
    epoch: int
    committer: Committer
    sessions: dict[bytes, BulkSession] = field(default_factory=dict)


class ShardService:
    """Dispatches frames. `problem`: why the shard as a whole can't answer, or None."""

    def __init__(
        self,
        identity: ShardIdentity,
        settings: ShardSettings,
        searchers: Executor,
        probe: RecallProbe,
        snapshots: SnapshotRequests,
    ) -> None:
        self.name = json.dumps({"shard_id": identity.shard_id, "cluster_id": identity.cluster_id}).encode()
        self.shard_id = identity.shard_id
        self.problem: str | None = None
        self.hosted: dict[bytes, Hosted] = {}
        self.problems: dict[bytes, str] = {}
        """Why a collection that belongs here can't be served."""
        self.memory = MemoryAccount(settings, f"shard {identity.shard_id}")
        self._settings = settings
        self._searchers = searchers
        self._probe = probe
        self._waiting = WaitingWork()
        self._snapshots = snapshots
        self._handlers: dict[Kind, Callable[[Hosted, memoryview, _Reply], None]] = {
            Kind.RETRIEVE: self._retrieve,
            Kind.COUNT: self._count,
            Kind.SCROLL: self._scroll,
            Kind.STATISTICS: self._statistics,
            Kind.UPSERT: self._upsert,
            Kind.DELETE: self._delete,
            Kind.WRITE: self._point_write,
            Kind.FIELDS: self._fields,
            Kind.BULK_BEGIN: self._bulk_begin,
            Kind.BULK_ROWS: self._bulk_rows,
            Kind.BULK_PREPARE: self._bulk_prepare,
            Kind.BULK_COMMIT: self._bulk_commit,
            Kind.BULK_ABORT: self._bulk_abort,
            Kind.SNAPSHOT_TAKE: self._take_snapshot,
            Kind.SNAPSHOT_MARK: self._mark,
        }

    def handle(self, frames: list[Frame], connection: ShardConnection) -> None:
        """Answer frames that arrived together."""
        searches: dict[bytes, list[Frame]] = {}
        for frame in frames:
            if frame.kind is Kind.SEARCH:
                searches.setdefault(messages.search_head_of(frame.body), []).append(frame)
            elif frame.kind is Kind.CANCEL:
                self._waiting.call_off(connection, frame.request_id)
                for group in searches.values():
                    group[:] = [search for search in group if search.request_id != frame.request_id]
            else:
                self._answer(frame, connection)
        arrived_at = monotonic() if len(searches) > 1 else 0.0
        for number, (head, group) in enumerate(searches.items()):
            awaited = group if not number else _awaited(group, monotonic() - arrived_at, connection)
            if awaited:
                self._search(head, awaited, connection)

    def forget(self, connection: ShardConnection) -> None:
        """See Service."""
        self._waiting.call_off_all(connection)

    def _answer(self, frame: Frame, connection: ShardConnection) -> None:
        try:
            if frame.kind is Kind.PING:
                connection.answer(Kind.PONG, frame.request_id, [])
                return
            if frame.kind is Kind.GENERATIONS:
                connection.answer(Kind.STAMPS, frame.request_id, self._stamps(bytes(frame.body)))
                return
            reply = _Reply(connection, frame)
            if frame.kind in SHELF_KINDS:
                self._check_well()
                reply.when(*self._snapshots.answer(frame.kind, frame.body))
                return
            target, rest = decode_target(frame.body)
            self._handlers[frame.kind](self._hosted(target), rest, reply)
        except Exception as error:
            connection.fail(frame.request_id, as_shoal_error(error))

    def _check_well(self) -> None:
        if self.problem is not None:
            raise ShardUnavailable(self.problem)

    def _hosted(self, target: Target) -> Hosted:
        self._check_well()
        hosted = self.hosted.get(target.uid)
        if hosted is None:
            if (problem := self.problems.get(target.uid)) is not None:
                raise ShardUnavailable(f"shard {self.shard_id} can't serve collection {target.uid.hex()}: {problem}")
            raise StaleEpoch(f"shard {self.shard_id} serves no collection {target.uid.hex()}: it was dropped")
        if hosted.epoch != target.epoch:
            raise StaleEpoch(
                f"the request's shard map has epoch {target.epoch}, shard {self.shard_id} has {hosted.epoch}"
            )
        return hosted

    def _stamps(self, body: bytes) -> list[Any]:
        """What a result cache asks: how the collections, or slots of them, stand; no stamp of what can't be searched here."""
        stamps = []
        for asked in decode_asked(body):
            hosted = self.hosted.get(asked.uid)
            if hosted is None or hosted.epoch != asked.epoch or self.problem is not None:
                stamps.append(NO_STAMP)
            elif asked.field:
                stamps.append(hosted.collection.generations.stamp_of(asked.field, asked.slots))
            else:
                stamps.append(hosted.collection.generations.stamp)
        return encode_stamps(stamps)

    # Searching

    def _search(self, head_bytes: bytes, group: list[Frame], connection: ShardConnection) -> None:
        """Answer searches that ask alike in one pass: here, or on a search thread where they are many."""
        try:
            head = messages.decode_search_head(head_bytes)
            collection = self._hosted(head.target).collection
            self._check_search(head, group, collection)
            queries = messages.decode_queries(head, [frame.body for frame in group])
            self._probe.saw(collection, queries, head.plan)
            if len(queries) <= self._settings.inline_queries_max and not _takes_long(head.plan):
                seen = Seen(collection.segments(), collection.generations.stamp)
                connection.send(encoded_answers(seen, head, queries, [frame.request_id for frame in group]))
            else:
                tickets = self._take_tickets(head, group, connection)
                self._search_on_thread(collection, head, queries, tickets).add_done_callback(
                    lambda done: None if done.cancelled() else connection.send(done.result())
                )
        except Exception as error:
            connection.send(encoded_failures(error, [frame.request_id for frame in group]))

    @staticmethod
    def _check_search(head: SearchHead, group: list[Frame], collection: ShardCollection) -> None:
        columns = collection.spec.layout.columns
        if head.plan.vector >= len(columns):
            raise InvalidRequest(f"there is no vector number {head.plan.vector}; the collection has {len(columns)}")
        if head.dim != (size := columns[head.plan.vector].size):
            raise DimensionMismatch(f"Vector dimension error: expected dim: {size}, got {head.dim}")
        for frame in group:
            if len(frame.body) != head.body_bytes:
                raise Corrupt(f"a search of {head.query_count} queries x {head.dim} has {len(frame.body)} bytes")

    def _take_tickets(self, head: SearchHead, group: list[Frame], connection: ShardConnection) -> list[Ticket]:
        waiting = self._waiting.query_count
        if waiting + len(group) * head.query_count > QUEUED_QUERIES_MAX:
            raise QueueFull(f"{waiting} queries wait for shard {self.shard_id}", 1.0)
        return [
            self._waiting.add(Ticket(connection, frame.request_id, frame.deadline_ms, head.query_count))
            for frame in group
        ]

    def _search_on_thread(
        self, collection: ShardCollection, head: SearchHead, queries: Vectors, tickets: list[Ticket]
    ) -> asyncio.Future[list[Any]]:
        seen = Seen(collection.snapshot(), collection.generations.stamp)
        future = asyncio.get_running_loop().run_in_executor(
            self._searchers, answer_awaited, seen, head, queries, tickets
        )

        def leave(_: asyncio.Future[list[Any]]) -> None:
            for ticket in tickets:
                self._waiting.remove(ticket)

        future.add_done_callback(leave)
        return future

    # Reading

    def _retrieve(self, hosted: Hosted, body: memoryview, reply: _Reply) -> None:
        keys, want, which = messages.decode_retrieve(body)
        if which is None:
            reply(Kind.RECORDS, messages.encode_records(hosted.collection.retrieve(keys, want)))
            return
        self._read_on_thread(
            reply,
            partial(look_up, hosted.collection.snapshot(), keys, want, which),
            Kind.RECORDS,
            messages.encode_records,
        )

    def _count(self, hosted: Hosted, body: memoryview, reply: _Reply) -> None:
        if not body:
            reply(Kind.WRITTEN, messages.encode_written(hosted.collection.count()))
            return
        query = filter_query(bytes(body))
        self._read_on_thread(
            reply,
            partial(_count_matching, hosted.collection.snapshot(), query),
            Kind.WRITTEN,
            messages.encode_written,
        )

    def _scroll(self, hosted: Hosted, body: memoryview, reply: _Reply) -> None:
        plan = messages.decode_scroll(body)
        self._read_on_thread(
            reply, partial(scroll, hosted.collection.snapshot(), plan), Kind.PAGE, messages.encode_page
        )

    def _read_on_thread(
        self, reply: _Reply, read: Callable[[], Any], kind: Kind, encode: Callable[[Any], list[Any]]
    ) -> None:
        """Answer what may take longer than the loop should be held: a look at many payloads."""
        ticket = self._waiting.add(Ticket(reply.connection, reply.request.request_id, reply.request.deadline_ms, 0))
        found = asyncio.get_running_loop().run_in_executor(self._searchers, ticket.run, read)
        found.add_done_callback(lambda _: self._waiting.remove(ticket))
        reply.when(found, lambda result: (kind, encode(result)))

    def _statistics(self, hosted: Hosted, body: memoryview, reply: _Reply) -> None:
        collection = hosted.collection
        recall = self._probe.recall_of(collection)
        written = {
            "log": collection.wal.written_bytes,
            "seals": collection.sealed_bytes,
            "compactions": collection.compacted_bytes,
        }

        def encode(resident: Resident | None) -> tuple[Kind, list[Any]]:
            content = {
                "shard_id": self.shard_id,
                "point_count": collection.count(),
                "segment_count": len(collection.segments()),
                "growing_count": collection.count() - sum(sealed.live_count for sealed in collection.sealed),
                "bytes": sum(sealed.file_bytes for sealed in collection.sealed),
                "is_building": hosted.committer.upkeep.is_building,
                "waits_for": hosted.committer.upkeep.waits_for,
                "recall": recall and recall._asdict(),
                "written_bytes": written,
                "memory": self.memory.report(collection, resident),
                "fields": _field_statistics(collection),
            }
            return Kind.JSON, messages.encode_json(content)

        reply.when(asyncio.get_running_loop().run_in_executor(None, read_resident), encode)

    # Writing

    def _upsert(self, hosted: Hosted, body: memoryview, reply: _Reply) -> None:
        self._write(hosted, OpKind.UPSERT, body, reply)

    def _delete(self, hosted: Hosted, body: memoryview, reply: _Reply) -> None:
        self._write(hosted, OpKind.DELETE, body, reply)

    def _write(self, hosted: Hosted, kind: OpKind, body: memoryview, reply: _Reply) -> None:
        op_id, op_body = messages.decode_write(body)
        op = LogOp(kind, op_id, op_body)
        hosted.collection.check(op)
        reply.when(
            hosted.committer.submit(op, hosted.epoch), lambda lsn: (Kind.WRITTEN, messages.encode_written(lsn))
        )

    def _point_write(self, hosted: Hosted, body: memoryview, reply: _Reply) -> None:
        op_id, encoded = messages.decode_write(body)
        write = decode_point_write(encoded)
        check_write(write, hosted.collection.spec.layout)
        written = hosted.committer.submit(WaitingWrite(write, op_id, encoded), hosted.epoch)
        reply.when(written, lambda lsn: (Kind.WRITTEN, messages.encode_written(lsn)))

    def _fields(self, hosted: Hosted, body: memoryview, reply: _Reply) -> None:
        """Declare a field, or take a declaration back."""
        declared = asyncio.get_running_loop().create_task(hosted.committer.declare(*messages.decode_field(body)))
        reply.when(declared, lambda changed: (Kind.WRITTEN, messages.encode_written(int(changed))))

    # Bulk loads

    def _bulk_begin(self, hosted: Hosted, body: memoryview, reply: _Reply) -> None:
        session, rest = messages.decode_write(body)
        if session not in hosted.sessions:
            remove_orphans(hosted.collection, [load.name for load in hosted.sessions.values()])
            expected_rows = int(messages.decode_json(rest)["expected_rows"])
            permits = LoadPermits(self.memory, hosted.collection, expected_rows)
            try:
                load = BulkSession(hosted.collection, session, expected_rows)
            except BaseException:
                permits.release()
                raise
            load.permits, hosted.sessions[session] = permits, load
        reply(Kind.WRITTEN, messages.encode_written(0))

    def _bulk_rows(self, hosted: Hosted, body: memoryview, reply: _Reply) -> None:
        session, rest = messages.decode_write(body)
        load = check_known(hosted.sessions, session)
        batch = decode_batch(rest)
        vectors = hosted.collection.spec.layout.prepare(batch.vectors)
        if load.permits is not None:
            load.permits.add_rows(len(batch))
        added = _run(load, load.add, type(batch)(batch.keys, vectors, batch.payload_offsets, batch.payloads))
        reply.when(added, lambda rows: (Kind.WRITTEN, messages.encode_written(rows)))

    def _bulk_prepare(self, hosted: Hosted, body: memoryview, reply: _Reply) -> None:
        load = check_known(hosted.sessions, messages.decode_write(body)[0])

        def encode(counts: dict[str, int]) -> tuple[Kind, list[Any]]:
            if not counts["rows"] and load.permits is not None:
                load.permits.release()  # nothing was built, nor will be
            return Kind.JSON, messages.encode_json(counts)

        reply.when(_run(load, load.prepare), encode)

    def _bulk_commit(self, hosted: Hosted, body: memoryview, reply: _Reply) -> None:
        session = messages.decode_write(body)[0]
        lsn = hosted.collection.history.lsn_of(session)
        if lsn is not None:
            reply(Kind.WRITTEN, messages.encode_written(lsn))
            return
        op = check_known(hosted.sessions, session).attach_op()
        if op is None:
            reply(Kind.WRITTEN, messages.encode_written(hosted.collection.wal.last_lsn))
            return
        attached = hosted.committer.submit(op, hosted.epoch)
        attached.add_done_callback(lambda done: _end_commit(hosted, session, done))
        reply.when(attached, lambda lsn: (Kind.WRITTEN, messages.encode_written(lsn)))

    def _bulk_abort(self, hosted: Hosted, body: memoryview, reply: _Reply) -> None:
        session = messages.decode_write(body)[0]
        load = hosted.sessions.get(session)
        if load is None or hosted.collection.history.lsn_of(session) is not None:
            reply(Kind.WRITTEN, messages.encode_written(0))
            return
        load.check_abortable()
        del hosted.sessions[session]
        aborted = _run(load, load.abort)
        aborted.add_done_callback(lambda _: load.close())
        reply.when(aborted, lambda _: (Kind.WRITTEN, messages.encode_written(0)))

    # Snapshots

    def _take_snapshot(self, hosted: Hosted, body: memoryview, reply: _Reply) -> None:
        reply.when(*self._snapshots.take(hosted.committer, messages.decode_json(body)))

    def _mark(self, hosted: Hosted, body: memoryview, reply: _Reply) -> None:
        reply(Kind.JSON, messages.encode_json({"mark": hosted.committer.withdrawal_mark}))


@dataclass(frozen=True, slots=True)
class _Reply:
    """Where one answer goes."""

    connection: ShardConnection
    request: Frame

    def __call__(self, kind: Kind, parts: list[Any]) -> None:
        self.connection.answer(kind, self.request.request_id, parts)

    def when(self, future: asyncio.Future[Any], encode: Callable[[Any], tuple[Kind, list[Any]]]) -> None:
        """Answer when the future is done, with what `encode` makes of its result, or with its error."""

        def answer(done: asyncio.Future[Any]) -> None:
            error = ShardUnavailable("the shard is stopping") if done.cancelled() else done.exception()
            if isinstance(error, CalledOff):
                return
            if error is not None:
                self.connection.fail(self.request.request_id, as_shoal_error(error))
            else:
                self(*encode(done.result()))

        future.add_done_callback(answer)


def _takes_long(plan: SearchPlan) -> bool:
    """Whether one query may take so long that nothing else, not even a ping, should wait for it on the loop."""
    return plan.exact or plan.filter is not None


def _count_matching(segments: list[VectorIndex], query: FilterQuery) -> int:
    return sum(int(matching(segment, query).sum()) for segment in segments if segment.live_count)


def _field_statistics(collection: ShardCollection) -> dict[str, Any]:
    """Of each declared field its schema, and how many points have a value of it, as far as it is indexed."""
    return {
        path: {
            "schema": schema.model_dump(mode="json"),
            "points": sum(
                index.valued_count
                for segment in collection.segments()
                if (index := segment.indexes.get(parse_path(path))) is not None
            ),
        }
        for path, schema in collection.fields.items()
    }


def _end_commit(hosted: Hosted, session: bytes, attached: asyncio.Future[int]) -> None:
    """Let go of a load that counts; keep one that does not. A commit may come twice, and end once."""
    error = None if attached.cancelled() else attached.exception()
    load = hosted.sessions.get(session)
    if load is None:
        return
    if error is None and not attached.cancelled():
        hosted.sessions.pop(session).close()
    elif isinstance(error, StorageFull):
        load.is_committing = False  # nothing of it is in the log; after any other error it may be there


def _run(load: BulkSession, step: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
    return asyncio.get_running_loop().run_in_executor(load.thread, step, *args)


def _awaited(group: list[Frame], waited_s: float, connection: ShardConnection) -> list[Frame]:
    """Those of the searches whose deadline has not passed while others had their turn; the rest is answered."""
    late = [frame for frame in group if frame.deadline_ms and frame.deadline_ms <= 1000 * waited_s]
    if not late:
        return group
    connection.send(encoded_failures(too_late(), [frame.request_id for frame in late]))
    return [frame for frame in group if frame not in late]
