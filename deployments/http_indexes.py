"""The routes on payload indexes: declare a field, withdraw it; and how declared fields are shown.

A field is declared by the name of its kind, or by an object with the kind as `type` and options (http_index_options.py).
It is known by its path in the shortest spelling, however it was written. A keyword field with `is_tenant` says where points
live from then on, if the collection holds none yet (cluster/tenants.py); else it is an index like any other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from cluster.requests import CollectionStatistics, WriteReceipt
from deployments.http_index_options import OPTIONS
from deployments.http_json import described, parse_body
from deployments.http_message import HttpContext, Reply, Request, success
from deployments.http_models import FieldIndexBody
from deployments.http_payloads import canonical_path
from deployments.http_writes import sending, written
from deployments.limits import LimitSettings
from shards.errors import InvalidRequest, LimitExceeded
from shards.field_schema import FieldSchema
from shards.filters.indexes import FieldKind

_DONE = WriteReceipt(lsn=0)


async def create_index(context: HttpContext, request: Request) -> Reply:
    """PUT /collections/{c}/index"""
    body = parse_body(FieldIndexBody, request.body)
    field = _field(body.field_name, context.limits)
    schema = field_schema(body.field_schema)
    context.cluster.collection(request.collection)
    how = sending(context, request)
    await context.cluster.create_index(how.collection, field, schema, how.deadline_s)
    return success(request, written(_DONE, how))


async def delete_index(context: HttpContext, request: Request) -> Reply:
    """DELETE /collections/{c}/index/{field}; that there is none is no error"""
    field = _field(request.point, context.limits)
    context.cluster.collection(request.collection)
    how = sending(context, request)
    await context.cluster.delete_index(how.collection, field, how.deadline_s)
    return success(request, written(_DONE, how))


def field_schema(given: Any) -> FieldSchema:
    """What `field_schema` declares. Raises InvalidRequest, NotSupported."""
    name = given.get("type") if isinstance(given, dict) else given
    if not isinstance(name, str) or name not in list(FieldKind):
        raise InvalidRequest(
            f"Format error in JSON body: field_schema: one of {', '.join(FieldKind)} is needed, or an object with one of "
            f"them as `type`; got {name!r:.40}"
        )
    kind = FieldKind(name)
    if not isinstance(given, dict):
        return FieldSchema(kind=kind)
    try:
        options = OPTIONS[kind].model_validate(given).model_dump(exclude_none=True, exclude={"type"})
    except ValidationError as error:
        raise described(error, "JSON body: field_schema") from None
    return FieldSchema(kind=kind, is_tenant=options.pop("is_tenant", False), options=options)


def payload_schema(statistics: Iterable[CollectionStatistics]) -> dict[str, Any]:
    """`payload_schema` of a collection: each declared field with the number of points that have a value in it."""
    shown: dict[str, Any] = {}
    for shard in statistics:
        for field, about in shard.fields.items():
            if field not in shown:
                shown[field] = {**_shown(FieldSchema.model_validate(about["schema"])), "points": 0}
            shown[field]["points"] += about["points"]
    return shown


def _shown(schema: FieldSchema) -> dict[str, Any]:
    params = {**schema.options, **({"is_tenant": True} if schema.is_tenant else {})}
    if not params:
        return {"data_type": schema.kind.value}
    return {"data_type": schema.kind.value, "params": {"type": schema.kind.value, **params}}


def _field(text: str, limits: LimitSettings) -> str:
    if len(text) > limits.name_length_max:
        raise LimitExceeded(
            f"a field's path has {len(text)} characters; the limit name_length_max is {limits.name_length_max}"
        )
    return canonical_path(text, "field_name")
