"""The route for several writes at once: `points/batch`.

All operations are checked before the first is sent; then each is done when the one before it is. So an operation sees what
those before it did; where one fails (a shard that is down, a point that is missing), those before it stay done and those
after it are not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deployments.http_json import parse_body
from deployments.http_message import HttpContext, Reply, Request, success
from deployments.http_models import OperationBody, OperationsBody
from deployments.http_payloads import prepare_clear, prepare_delete, prepare_overwrite, prepare_set
from deployments.http_points import prepare_deletion, prepare_upsert
from deployments.http_vector_writes import prepare_vectors_deletion, prepare_vectors_update
from deployments.http_writes import Write, sending, written
from deployments.limits import LimitSettings
from shards.errors import InvalidRequest, LimitExceeded
from shards.schema import CollectionSpec

_KINDS: dict[str, Callable[[Any, CollectionSpec, LimitSettings], Write]] = {
    "upsert": prepare_upsert,
    "delete": prepare_deletion,
    "set_payload": prepare_set,
    "overwrite_payload": prepare_overwrite,
    "delete_payload": prepare_delete,
    "clear_payload": prepare_clear,
    "update_vectors": prepare_vectors_update,
    "delete_vectors": prepare_vectors_deletion,
}


async def change_points(context: HttpContext, request: Request) -> Reply:
    """POST /collections/{c}/points/batch"""
    operations = parse_body(OperationsBody, request.body).operations
    limits = context.limits
    if len(operations) > limits.batch_max:
        raise LimitExceeded(f"a batch holds {len(operations)} operations; the limit batch_max is {limits.batch_max}")
    spec = context.cluster.collection(request.collection).spec
    how = sending(context, request)
    writes = [
        _prepare(operation, f"operations[{number}]", spec, limits) for number, operation in enumerate(operations)
    ]
    request.charge(sum(write.cost for write in writes))
    receipts = [await write.send(context.cluster, how) for write in writes]
    lsn = max((receipt.lsn for receipt in receipts), default=0)
    results = b",".join(written(receipt, how) for receipt in receipts)
    return success(request, b"[%b]" % results, b'{"lsn":%d}' % lsn)


def _prepare(operation: OperationBody, place: str, spec: CollectionSpec, limits: LimitSettings) -> Write:
    given = [kind for kind in _KINDS if getattr(operation, kind) is not None]
    if len(given) != 1:
        raise InvalidRequest(
            f"Format error in JSON body: {place}: exactly one of {', '.join(_KINDS)} is needed; it has {len(given)}"
        )
    try:
        return _KINDS[given[0]](getattr(operation, given[0]), spec, limits)
    except InvalidRequest as error:
        raise type(error)(f"{place}.{given[0]}: {error.message}") from None
