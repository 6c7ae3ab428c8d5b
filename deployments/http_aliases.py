"""The routes on aliases, and the one that changes what a collection shows.

Every other route takes an alias for its collection (`http_app.py` resolves it, once for a whole request). Not so those
that make, delete or list by a collection's own name: an alias is not what they mean.
"""

from __future__ import annotations

import orjson

from cluster.aliases import AliasAction, CreateAlias, DeleteAlias, RenameAlias
from deployments.http_access import sees
from deployments.http_collection_config import settings_of_change
from deployments.http_collection_models import AliasActionBody, ChangeAliasesBody, UpdateCollectionBody
from deployments.http_collections import check_name
from deployments.http_json import parse_body
from deployments.http_message import HttpContext, Reply, Request, success
from deployments.limits import LimitSettings
from shards.errors import InvalidRequest


async def change_aliases(context: HttpContext, request: Request) -> Reply:
    """POST /collections/aliases: all actions, or none"""
    body = parse_body(ChangeAliasesBody, request.body)
    actions = [_action(one, f"actions[{place}]", context.limits) for place, one in enumerate(body.actions)]
    await context.cluster.catalogue.change_aliases(actions, request.deadline_s(context.limits))
    return success(request, b"true")


async def list_aliases(context: HttpContext, request: Request) -> Reply:
    """GET /aliases: those by which, or to which, the caller may see something"""
    access, state = request.access, context.cluster.state
    seen = {
        key: name
        for key, name in state.aliases.items()
        if any(sees(access, one, state.collections.get(name)) for one in (key, name))
    }
    return success(request, _described(seen))


async def list_collection_aliases(context: HttpContext, request: Request) -> Reply:
    """GET /collections/{c}/aliases: of the collection that has this name itself; none where there is none"""
    aliases = context.cluster.state.aliases
    return success(request, _described({key: name for key, name in aliases.items() if name == request.named}))


async def update_collection(context: HttpContext, request: Request) -> Reply:
    """PATCH /collections/{c}"""
    body = parse_body(UpdateCollectionBody, request.body)
    changes = settings_of_change(body, context.cluster.collection(request.collection).spec)
    deadline_s = request.deadline_s(context.limits)
    await context.cluster.catalogue.update_collection(request.collection.name, changes, deadline_s)
    return success(request, b"true")


def _described(aliases: dict[str, str]) -> bytes:
    listed = [{"alias_name": alias, "collection_name": aliases[alias]} for alias in sorted(aliases)]
    return orjson.dumps({"aliases": listed})


def _action(body: AliasActionBody, place: str, limits: LimitSettings) -> AliasAction:
    """Raises InvalidRequest or LimitExceeded where it is not one action, or makes an alias of a name that can't be one."""
    match (body.create_alias, body.delete_alias, body.rename_alias):
        case (create, None, None) if create is not None:
            check_name(create.alias_name, limits)
            return CreateAlias(create.alias_name, create.collection_name)
        case (None, delete, None) if delete is not None:
            return DeleteAlias(delete.alias_name)
        case (None, None, rename) if rename is not None:
            check_name(rename.new_alias_name, limits)
            return RenameAlias(rename.old_alias_name, rename.new_alias_name)
    raise InvalidRequest(
        f"Format error in JSON body: {place}: exactly one of create_alias, delete_alias and rename_alias is needed"
    )
