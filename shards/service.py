"""What a shard answers on the data plane. Lives on the shard's loop; every collection it hosts is changed here alone.

Searches that arrive together and ask alike are one pass over the segments. Few queries are answered on the loop
itself (a thread hop costs more than a search); many go to the search threads, so that the loop stays responsive.
Writes go through each collection's committer, loads through sessions with a thread of their own.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shards import messages
from shards.batch import decode_batch, decode_keys
from shards.bulk import BulkSession, check_known, remove_orphans
from shards.collection import ShardCollection
from shards.committer import Committer
from shards.distance import prepare_vectors
from shards.errors import DimensionMismatch, Internal, QueueFull, ShardUnavailable, ShoalError, StaleEpoch
from shards.hits import Hits
from shards.identity import ShardIdentity
from shards.log_frame import LogOp, OpKind
from shards.messages import SearchBody, Target, decode_target
from shards.nearest import Want
from shards.server import ShardConnection
from shards.settings import ShardSettings
from shards.wire import Frame, Kind, encode_error, encode_frame

QUEUED_QUERIES_MAX = 20_000
"""Queries that may wait for a search thread; about ten seconds of work for one core."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Hosted:
    """A collection that this shard serves."""

    collection: ShardCollection
    epoch: int
    committer: Committer
    sessions: dict[bytes, BulkSession] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Asked:
    """One search frame, decoded."""

    connection: ShardConnection
    request_id: int
    search: SearchBody


class ShardService:
    """Dispatches frames. `problem`: why the shard as a whole can't answer, or None."""

    def __init__(self, identity: ShardIdentity, settings: ShardSettings, searchers: Executor) -> None:
        self.name = json.dumps({"shard_id": identity.shard_id, "cluster_id": identity.cluster_id}).encode()
        self.shard_id = identity.shard_id
        self.problem: str | None = None
        self.hosted: dict[bytes, Hosted] = {}
        self.problems: dict[bytes, str] = {}
        """Why a collection that belongs here can't be served."""
        self._settings = settings
        self._searchers = searchers
        self._queued_queries = 0
        self._handlers: dict[Kind, Callable[[Hosted, memoryview, _Reply], None]] = {
            Kind.RETRIEVE: self._retrieve,
            Kind.COUNT: self._count,
            Kind.STATISTICS: self._statistics,
            Kind.UPSERT: self._upsert,
            Kind.DELETE: self._delete,
            Kind.BULK_BEGIN: self._bulk_begin,
            Kind.BULK_ROWS: self._bulk_rows,
            Kind.BULK_PREPARE: self._bulk_prepare,
            Kind.BULK_COMMIT: self._bulk_commit,
            Kind.BULK_ABORT: self._bulk_abort,
        }

    def handle(self, frames: list[Frame], connection: ShardConnection) -> None:
        """Answer frames that arrived together."""
        searches: dict[tuple[Any, ...], list[_Asked]] = {}
        for frame in frames:
            try:
                if frame.kind is Kind.SEARCH:
                    self._collect_search(frame, connection, searches)
                elif frame.kind is Kind.PING:
                    connection.answer(Kind.PONG, frame.request_id, [])
                else:
                    hosted, rest = self._find(frame.body)
                    reply = _Reply(connection, frame.request_id)
                    self._handlers[frame.kind](hosted, rest, reply)
            except Exception as error:
                connection.fail(frame.request_id, as_shoal_error(error))
        for (target, plan, want, _), group in searches.items():
            self._search(self.hosted[target.uid], plan, want, group)

    def _find(self, body: memoryview) -> tuple[Hosted, memoryview]:
        target, rest = decode_target(body)
        return self._hosted(target), rest

    def _hosted(self, target: Target) -> Hosted:
        if self.problem is not None:
            raise ShardUnavailable(self.problem)
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

    # Searching

    def _collect_search(
        self, frame: Frame, connection: ShardConnection, searches: dict[tuple[Any, ...], list[_Asked]]
    ) -> None:
        target, rest = decode_target(frame.body)
        dim = self._hosted(target).collection.dim
        search = messages.decode_search(rest)
        if search.queries.shape[1] != dim:
            raise DimensionMismatch(f"Vector dimension error: expected dim: {dim}, got {search.queries.shape[1]}")
        asked = _Asked(connection, frame.request_id, search)
        searches.setdefault((target, search.plan, search.want, frame.deadline_ms == 0), []).append(asked)

    def _search(self, hosted: Hosted, plan: Any, want: Want, group: list[_Asked]) -> None:
        queries = group[0].search.queries
        if len(group) > 1:
            queries = np.concatenate([asked.search.queries for asked in group])
        if len(queries) <= self._settings.inline_queries_max:
            _answer_search(hosted.collection, queries, plan, want, group)
            return
        if self._queued_queries + len(queries) > QUEUED_QUERIES_MAX:
            error = QueueFull(f"{self._queued_queries} queries wait for shard {self.shard_id}", 1.0)
            for asked in group:
                asked.connection.fail(asked.request_id, error)
            return
        self._queued_queries += len(queries)
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(
            self._searchers, _encoded_answers, hosted.collection, queries, plan, want, group
        )

        def answer(done: asyncio.Future[list[list[Any]]]) -> None:
            self._queued_queries -= len(queries)
            if not done.cancelled():
                for asked, buffers in zip(group, done.result(), strict=True):
                    asked.connection.send(buffers)

        future.add_done_callback(answer)

    # Reading

    def _retrieve(self, hosted: Hosted, body: memoryview, reply: _Reply) -> None:
        want = Want(payloads=bool(body[0] & 1), vectors=bool(body[0] & 2))
        records = hosted.collection.retrieve(decode_keys(body[8:]), want)
        reply(Kind.RECORDS, messages.encode_records(records))

    def _count(self, hosted: Hosted, body: memoryview, reply: _Reply) -> None:
        reply(Kind.WRITTEN, messages.encode_written(hosted.collection.count()))

    def _statistics(self, hosted: Hosted, body: memoryview, reply: _Reply) -> None:
        collection = hosted.collection
        reply(
            Kind.JSON,
            messages.encode_json(
                {
                    "shard_id": self.shard_id,
                    "point_count": collection.count(),
                    "segment_count": len(collection.segments()),
                    "growing_count": collection.count() - sum(sealed.live_count for sealed in collection.sealed),
                    "bytes": sum(sealed.file_bytes for sealed in collection.sealed),
                }
            ),
        )

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

    # Bulk loads

    def _bulk_begin(self, hosted: Hosted, body: memoryview, reply: _Reply) -> None:
        session, rest = messages.decode_write(body)
        if session not in hosted.sessions:
            remove_orphans(hosted.collection)
            expected_rows = int(messages.decode_json(rest)["expected_rows"])
            hosted.sessions[session] = BulkSession(hosted.collection, session, expected_rows)
        reply(Kind.WRITTEN, messages.encode_written(0))

    def _bulk_rows(self, hosted: Hosted, body: memoryview, reply: _Reply) -> None:
        session, rest = messages.decode_write(body)
        load = check_known(hosted.sessions, session)
        batch = decode_batch(rest)
        vectors = prepare_vectors(batch.vectors, hosted.collection.spec.vector.distance, hosted.collection.dim)
        added = _run(load, load.add, type(batch)(batch.keys, vectors, batch.payload_offsets, batch.payloads))
        reply.when(added, lambda rows: (Kind.WRITTEN, messages.encode_written(rows)))

    def _bulk_prepare(self, hosted: Hosted, body: memoryview, reply: _Reply) -> None:
        load = check_known(hosted.sessions, messages.decode_write(body)[0])
        reply.when(_run(load, load.prepare), lambda counts: (Kind.JSON, messages.encode_json(counts)))

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
        attached.add_done_callback(lambda _: hosted.sessions.pop(session).close())
        reply.when(attached, lambda lsn: (Kind.WRITTEN, messages.encode_written(lsn)))

    def _bulk_abort(self, hosted: Hosted, body: memoryview, reply: _Reply) -> None:
        session = messages.decode_write(body)[0]
        load = hosted.sessions.pop(session, None)
        if load is None or hosted.collection.history.lsn_of(session) is not None:
            reply(Kind.WRITTEN, messages.encode_written(0))
            return
        aborted = _run(load, load.abort)
        aborted.add_done_callback(lambda _: load.close())
        reply.when(aborted, lambda _: (Kind.WRITTEN, messages.encode_written(0)))


@dataclass(frozen=True, slots=True)
class _Reply:
    """Where one answer goes."""

    connection: ShardConnection
    request_id: int

    def __call__(self, kind: Kind, parts: list[Any]) -> None:
        self.connection.answer(kind, self.request_id, parts)

    def when(self, future: asyncio.Future[Any], encode: Callable[[Any], tuple[Kind, list[Any]]]) -> None:
        """Answer when the future is done, with what `encode` makes of its result, or with its error."""

        def answer(done: asyncio.Future[Any]) -> None:
            error = ShardUnavailable("the shard is stopping") if done.cancelled() else done.exception()
            if error is not None:
                self.connection.fail(self.request_id, as_shoal_error(error))
            else:
                self(*encode(done.result()))

        future.add_done_callback(answer)


def _run(load: BulkSession, step: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
    return asyncio.get_running_loop().run_in_executor(load.thread, step, *args)


def _answer_search(collection: ShardCollection, queries: Any, plan: Any, want: Want, group: list[_Asked]) -> None:
    answers = _encoded_answers(collection, queries, plan, want, group)
    buffers: list[Any] = []
    for number, asked in enumerate(group):
        buffers += answers[number]
        if number + 1 == len(group) or group[number + 1].connection is not asked.connection:
            asked.connection.send(buffers)
            buffers = []


def _encoded_answers(
    collection: ShardCollection, queries: Any, plan: Any, want: Want, group: list[_Asked]
) -> list[list[Any]]:
    """One encoded frame for each search of the group; an error becomes every one's answer."""
    try:
        hits = collection.search(queries, plan, want)
        return [
            encode_frame(Kind.HITS, asked.request_id, messages.encode_hits(part))
            for asked, part in zip(group, _split(hits, group), strict=True)
        ]
    except Exception as error:
        failure = [encode_error(as_shoal_error(error))]
        return [encode_frame(Kind.ERROR, asked.request_id, failure) for asked in group]


def _split(hits: Hits, group: list[_Asked]) -> list[Hits]:
    if len(group) == 1:
        return [hits]
    parts, start = [], 0
    for asked in group:
        end = start + len(asked.search.queries)
        parts.append(hits.slice(start, end))
        start = end
    return parts


def as_shoal_error(error: BaseException) -> ShoalError:
    """The error as it travels. What is not one of ours is our mistake: it is logged whole, and told in one line."""
    if isinstance(error, ShoalError):
        return error
    log.error("an unexpected error while answering", exc_info=error)
    return Internal(f"{type(error).__name__}: {error}")
