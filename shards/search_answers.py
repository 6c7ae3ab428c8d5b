"""The answers to searches that ask alike and are answered together, as frames to send. On the loop, or on a search thread.

An error becomes the answer of every one of them; what nobody waits for any more (waiting_work.py) is left out of the pass.
"""

from __future__ import annotations

import logging
from itertools import compress, count
from typing import Any, NamedTuple

import numpy as np

from shards import messages
from shards.batch import Vectors
from shards.errors import DeadlineExceeded, Internal, ShoalError
from shards.generations import Stamp
from shards.index import VectorIndex
from shards.messages import SearchHead
from shards.nearest import nearest
from shards.waiting_work import CalledOff, Ticket
from shards.wire import Kind, encode_error, encode_frame

log = logging.getLogger(__name__)


class Seen(NamedTuple):
    """What a search looks at, and the moment of it."""

    segments: list[VectorIndex]
    stamp: Stamp


def answer_awaited(seen: Seen, head: SearchHead, queries: Vectors, tickets: list[Ticket]) -> list[Any]:
    """The answers to those of the searches that somebody still waits for."""
    awaited, failures = [], []
    for ticket in tickets:
        try:
            ticket.check()
        except CalledOff:
            awaited.append(False)
        except DeadlineExceeded as error:
            awaited.append(False)
            failures += encoded_failures(error, [ticket.request_id])
        else:
            awaited.append(True)
    request_ids = [ticket.request_id for ticket in compress(tickets, awaited)]
    if not request_ids:
        return failures
    if len(request_ids) < len(tickets):
        queries = queries[np.repeat(awaited, head.query_count)]
    return failures + encoded_answers(seen, head, queries, request_ids)


def encoded_answers(seen: Seen, head: SearchHead, queries: Vectors, request_ids: list[int]) -> list[Any]:
    """The answers, in one pass; `queries` are those of all requests, in their order."""
    try:
        hits = nearest(seen.segments, queries, head.plan, head.want)
        if len(request_ids) == 1:
            return encode_frame(Kind.HITS, request_ids[0], messages.encode_hits(hits, seen.stamp))
        buffers: list[Any] = []
        for start, request_id in zip(count(step=head.query_count), request_ids):
            part = hits.slice(start, start + head.query_count)
            buffers += encode_frame(Kind.HITS, request_id, messages.encode_hits(part, seen.stamp))
        return buffers
    except Exception as error:
        return encoded_failures(error, request_ids)


def encoded_failures(error: Exception, request_ids: list[int]) -> list[Any]:
    failure = [encode_error(as_shoal_error(error))]
    return [buffer for request_id in request_ids for buffer in encode_frame(Kind.ERROR, request_id, failure)]


def as_shoal_error(error: BaseException) -> ShoalError:
    """The error as it travels. What is not one of ours is our mistake: it is logged whole, and told in one line."""
    if isinstance(error, ShoalError):
        return error
    log.error("an unexpected error while answering", exc_info=error)
    return Internal(f"{type(error).__name__}: {error}")
