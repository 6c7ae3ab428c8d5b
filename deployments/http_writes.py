"""Writes as values: a body is checked as a whole and becomes a Write, which is sent afterwards.

So a batch of operations checks all of them before it does the first. A write by ids whose points are not all there does
the rest, and then says which is the first that is missing; it has to ask for that, and does so only for a caller who
waits for the outcome.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import orjson
from pydantic import BaseModel

from cluster.requests import Selection, UpsertCondition, WriteReceipt
from cluster.scope import Scope
from deployments.cluster_api import ClusterApi
from deployments.cost import change_cost, upsert_cost
from deployments.http_errors import MissingPoint
from deployments.http_json import parse_body
from deployments.http_message import HttpContext, Reply, Request, success
from deployments.limits import LimitSettings
from shards.batch import PointBatch
from shards.point_change import PointChange
from shards.point_ids import key_list, point_id
from shards.schema import CollectionSpec

Body = TypeVar("Body", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Sending:
    """How a write is sent. `waits`: the caller waits for its outcome."""

    collection: Scope
    deadline_s: float
    waits: bool


class Write(Protocol):
    """A write that was checked. `send` raises what the cluster raises, and MissingPoint."""

    @property
    def cost(self) -> float:
        """In tokens (deployments/cost.py)."""
        ...

    async def send(self, cluster: ClusterApi, how: Sending) -> WriteReceipt: ...


Preparing = Callable[[Body, CollectionSpec, LimitSettings], Write]
"""Checks a body; raises InvalidRequest."""


@dataclass(frozen=True, slots=True)
class Upsert:
    """Points as a whole."""

    batch: PointBatch
    condition: UpsertCondition

    @property
    def cost(self) -> float:
        """See Write."""
        return upsert_cost(len(self.batch))

    async def send(self, cluster: ClusterApi, how: Sending) -> WriteReceipt:
        """See Write."""
        return await cluster.upsert(how.collection, self.batch, how.deadline_s, self.condition)


@dataclass(frozen=True, slots=True)
class Deletion:
    """Points go; that one is not there is no error."""

    selection: Selection

    @property
    def cost(self) -> float:
        """See Write."""
        return _change_cost(self.selection)

    async def send(self, cluster: ClusterApi, how: Sending) -> WriteReceipt:
        """See Write."""
        return await cluster.delete(how.collection, self.selection, how.deadline_s)


@dataclass(frozen=True, slots=True)
class Change:
    """Payloads, or which vectors there are, of points that exist."""

    selection: Selection
    change: PointChange

    @property
    def cost(self) -> float:
        """See Write."""
        return _change_cost(self.selection)

    async def send(self, cluster: ClusterApi, how: Sending) -> WriteReceipt:
        """See Write."""
        receipt = await cluster.change(how.collection, self.selection, self.change, how.deadline_s)
        if self.selection.keys is not None:
            await _check_all_exist(cluster, self.selection.keys, how)
        return receipt


@dataclass(frozen=True, slots=True)
class NewVectors:
    """Vectors of points that exist. `batch`: NaN runs for those that stay."""

    batch: PointBatch
    condition: UpsertCondition

    @property
    def cost(self) -> float:
        """See Write."""
        return upsert_cost(len(self.batch))

    async def send(self, cluster: ClusterApi, how: Sending) -> WriteReceipt:
        """See Write."""
        receipt = await cluster.update_vectors(how.collection, self.batch, how.deadline_s, self.condition)
        await _check_all_exist(cluster, key_list(self.batch.keys), how)
        return receipt


async def answer_write(context: HttpContext, request: Request, model: type[Body], prepare: Preparing[Body]) -> Reply:
    """The whole of a route that writes: parse, check, send, answer."""
    body = parse_body(model, request.body)
    spec = context.cluster.collection(request.collection).spec
    how = sending(context, request)
    write = prepare(body, spec, context.limits)
    request.charge(write.cost)
    receipt = await write.send(context.cluster, how)
    return success(request, written(receipt, how), b'{"lsn":%d}' % receipt.lsn)


def sending(context: HttpContext, request: Request) -> Sending:
    """What the request says about how it is written."""
    return Sending(request.collection, request.deadline_s(context.limits), request.wait())


def written(receipt: WriteReceipt, how: Sending) -> bytes:
    """The JSON of a write's result."""
    return orjson.dumps({"operation_id": receipt.lsn, "status": "completed" if how.waits else "acknowledged"})


def _change_cost(selection: Selection) -> float:
    return change_cost(None if selection.keys is None else len(selection.keys))


async def _check_all_exist(cluster: ClusterApi, keys: list[int], how: Sending) -> None:
    """Raises MissingPoint with the first that is missing."""
    if not how.waits:
        return
    found = await cluster.retrieve(how.collection, keys, False, False, how.deadline_s)
    if len(found) == len(keys):
        return
    there = {record.key for record in found}
    missing = next(key for key in keys if key not in there)
    raise MissingPoint(f"Not found: No point with id {point_id(missing)} found; the others were written")
