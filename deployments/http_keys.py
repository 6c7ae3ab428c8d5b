"""The routes on API keys: make, list, revoke, forget. Ours, not of the API that clients know; for `shoal keys`.

They need admin over the whole cluster, and a key even where a cluster is open: else whoever reaches an open cluster
first could lock its owner's clients out. The first key is made with the data folder's own (cluster/api_keys.py).
"""

from __future__ import annotations

import secrets
import time
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, ConfigDict, Field

from cluster.api_keys import (
    GRANTS_MAX,
    ID_BYTES,
    LABEL_LENGTH_MAX,
    SECRET_BYTES,
    AddKey,
    ForgetKeys,
    Grant,
    KeyRecord,
    RevokeKey,
    new_key,
)
from deployments.http_collections import check_name
from deployments.http_json import parse_body
from deployments.http_message import HttpContext, Reply, Request, success


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CreateKeyBody(_Body):
    """`grants` as in cluster/api_keys.py."""

    grants: Annotated[tuple[Grant, ...], Field(min_length=1, max_length=GRANTS_MAX)]
    label: Annotated[str, Field(max_length=LABEL_LENGTH_MAX)] = ""


class RevokeKeyBody(_Body):
    id: str


async def list_keys(context: HttpContext, request: Request) -> Reply:
    """GET /shoal/keys: all records, without their hashes"""
    described = [_described(record) for record in context.cluster.state.keys]
    return success(request, orjson.dumps({"keys": described}))


async def create_key(context: HttpContext, request: Request) -> Reply:
    """POST /shoal/keys: the only answer that ever shows the key"""
    body = parse_body(CreateKeyBody, request.body)
    for grant in body.grants:
        if grant.collection is not None:
            check_name(grant.collection, context.limits)
    made = new_key(secrets.token_bytes(ID_BYTES + SECRET_BYTES), body.grants, body.label, int(time.time()))
    await context.cluster.catalogue.change_keys(AddKey(made.record), request.deadline_s(context.limits))
    return success(request, orjson.dumps({"key": made.text, **_described(made.record)}))


async def revoke_key(context: HttpContext, request: Request) -> Reply:
    """POST /shoal/keys/revoke"""
    body = parse_body(RevokeKeyBody, request.body)
    change = RevokeKey(body.id, int(time.time()))
    await context.cluster.catalogue.change_keys(change, request.deadline_s(context.limits))
    return success(request, b"true")


async def forget_keys(context: HttpContext, request: Request) -> Reply:
    """DELETE /shoal/keys: the cluster is open afterwards"""
    await context.cluster.catalogue.change_keys(ForgetKeys(), request.deadline_s(context.limits))
    return success(request, b"true")


def _described(record: KeyRecord) -> dict[str, Any]:
    return record.model_dump(mode="json", exclude={"digest"})
