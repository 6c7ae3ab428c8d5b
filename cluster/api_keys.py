"""API keys as values: what a key may do, how it reads, how it is recognised, and what becomes of the list of keys.

A key reads `shoal_<id>_<secret>`. The id says which record to compare with, so recognising a key is one look-up and one
hash; it is no secret. The secret is 256 random bits, and what is kept is SHA-256 of the whole key, in which the id is the
salt. A slow hash would be wrong here: it protects what people choose, because that can be guessed; 256 random bits can't be
guessed at any speed, and every request would wait for it.

A grant gives a role over one collection or all, or to the points of one tenant there. Roles include each other: read <
write < admin. Grants only add: a key may do what any one of its grants allows. They hold for a name: a collection that
is deleted and made again under its old name is granted as before, and an alias is a name of its own.

A revoked key keeps its record. A cluster asks for keys as soon as there is a record, so revoking the last key never opens
a cluster; only ForgetKeys does.

Pure: random bytes and the time are handed in. TLS, rates for each key and an audit log are others' affair; `Access.key_id`
is what they need.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from shards.errors import Conflict, LimitExceeded, NotFound

PREFIX = "shoal"
ID_BYTES = 6
SECRET_BYTES = 32
KEYS_MAX = 1_000
"""Keys that count. All of them travel to every router with each change of the cluster's state."""
REVOKED_KEPT_MAX = 200
"""Records of revoked keys; beyond it the oldest are forgotten."""
GRANTS_MAX = 64
LABEL_LENGTH_MAX = 200
NAME_LENGTH_MAX = 255
LOCAL_ID = "local"
"""The id of the key that a data folder's owner has without making one (`local_key`)."""
_LOCAL_PURPOSE = b"shoal: the data folder's own key to the HTTP API"


class Role(StrEnum):
    """What a grant allows. Each includes those before it."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


_INCLUDED: dict[Role, frozenset[Role]] = {
    Role.READ: frozenset({Role.READ}),
    Role.WRITE: frozenset({Role.READ, Role.WRITE}),
    Role.ADMIN: frozenset(Role),
}
_NOTHING: frozenset[Role] = frozenset()
_Name = Annotated[str, Field(min_length=1, max_length=NAME_LENGTH_MAX)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Grant(_Frozen):
    """`collection` None: all of them, and the cluster as a whole. `tenant` None: every tenant's points."""

    role: Role
    collection: _Name | None = None
    tenant: _Name | None = None


class KeyRecord(_Frozen):
    """What is kept of a key. `digest`: SHA-256 of the key's text, in hex. Times are Unix time."""

    id: str
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    grants: Annotated[tuple[Grant, ...], Field(min_length=1, max_length=GRANTS_MAX)]
    created_s: int
    label: Annotated[str, Field(max_length=LABEL_LENGTH_MAX)] = ""
    revoked_s: int | None = None


Keys = tuple[KeyRecord, ...]
"""Every record that is kept, in the order of making. Empty: the cluster asks nobody for a key."""


class NewKey(NamedTuple):
    """`text` is the key itself, which nobody can tell again once it is let go."""

    text: str
    record: KeyRecord


def new_key(random_bytes: bytes, grants: tuple[Grant, ...], label: str, now_s: int) -> NewKey:
    """A key of ID_BYTES + SECRET_BYTES random bytes."""
    assert len(random_bytes) == ID_BYTES + SECRET_BYTES, "a key needs all of its randomness"
    key_id = random_bytes[:ID_BYTES].hex()
    text = f"{PREFIX}_{key_id}_{random_bytes[ID_BYTES:].hex()}"
    digest = _digest(text.encode()).hex()
    return NewKey(text, KeyRecord(id=key_id, digest=digest, grants=grants, created_s=now_s, label=label))


def local_key(secret: bytes) -> str:
    """The key of whoever can read the data folder's secret: admin of everything, and never written down.

    It is derived, so that the secret itself, which opens the shards' sockets, never travels over HTTP.
    """
    return f"{PREFIX}_{LOCAL_ID}_{hmac.digest(secret, _LOCAL_PURPOSE, 'sha256').hex()}"


@dataclass(frozen=True, slots=True)
class AddKey:
    record: KeyRecord


@dataclass(frozen=True, slots=True)
class RevokeKey:
    key_id: str
    now_s: int


@dataclass(frozen=True, slots=True)
class ForgetKeys:
    """Forget every key: from then on nobody is asked for one."""


KeyChange = AddKey | RevokeKey | ForgetKeys


def apply_change(keys: Keys, change: KeyChange) -> Keys:
    """The records after a change. Revoking twice changes nothing.

    Raises Conflict where the id is taken, LimitExceeded where there are KEYS_MAX keys, NotFound where none has the id.
    """
    match change:
        case AddKey(record):
            return _with(keys, record)
        case RevokeKey(key_id, now_s):
            if all(key.id != key_id for key in keys):
                raise NotFound(f"Not found: there is no key with the id {key_id[:40]!r}")
            revoke = {"revoked_s": now_s}
            return tuple(
                key.model_copy(update=revoke) if key.id == key_id and key.revoked_s is None else key for key in keys
            )
        case ForgetKeys():
            return ()


def _with(keys: Keys, record: KeyRecord) -> Keys:
    if any(key.id == record.id for key in keys):
        raise Conflict(f"a key with the id {record.id} exists already; make another")
    revoked = [key for key in keys if key.revoked_s is not None]
    if len(keys) - len(revoked) >= KEYS_MAX:
        raise LimitExceeded(f"there are {KEYS_MAX} keys, which is the limit; revoke those that are not used any more")
    forgotten = {key.id for key in revoked[: max(0, len(revoked) - REVOKED_KEPT_MAX)]}
    return (*(key for key in keys if key.id not in forgotten), record)


@dataclass(frozen=True, slots=True)
class Access:
    """What a caller may do: a key's grants, ready to be asked. `within`: those that are for one tenant's points alone."""

    key_id: str = ""
    everywhere: frozenset[Role] = _NOTHING
    by_collection: Mapping[str, frozenset[Role]] = field(default_factory=dict)
    within: tuple[Grant, ...] = ()

    def allows(self, role: Role, collection: str) -> bool:
        """Whether it may do that to the whole collection ("": to the cluster as a whole)."""
        return role in self.everywhere or role in self.by_collection.get(collection, _NOTHING)

    def tenants(self, role: Role, collection: str) -> tuple[str, ...]:
        """The tenants to whose points in the collection it may do that, sorted."""
        names = {
            grant.tenant
            for grant in self.within
            if role in _INCLUDED[grant.role] and grant.collection in (None, collection)
        }
        return tuple(sorted(name for name in names if name is not None))

    def allows_somewhere(self, role: Role) -> bool:
        """Whether there may be a collection, or points, to which it may do that."""
        return (
            role in self.everywhere
            or any(role in roles for roles in self.by_collection.values())
            or any(role in _INCLUDED[grant.role] for grant in self.within)
        )


EVERYTHING = Access(everywhere=frozenset(Role))
"""Of everybody, where a cluster asks for no key."""


def access_of(key_id: str, grants: Iterable[Grant]) -> Access:
    """What a key with these grants may do."""
    everywhere = _NOTHING
    by_collection: dict[str, frozenset[Role]] = {}
    within: list[Grant] = []
    for grant in grants:
        if grant.tenant is not None:
            within.append(grant)
        elif grant.collection is None:
            everywhere |= _INCLUDED[grant.role]
        else:
            by_collection[grant.collection] = by_collection.get(grant.collection, _NOTHING) | _INCLUDED[grant.role]
    return Access(key_id, everywhere, by_collection, tuple(within))


class KeyRing:
    """The keys that count now, ready to recognise one."""

    def __init__(self, keys: Keys, own_key: str | None = None) -> None:
        """`own_key`: the data folder's (`local_key`), which can't be revoked."""
        self._known: dict[bytes, tuple[bytes, Access]] = {
            key.id.encode(): (bytes.fromhex(key.digest), access_of(key.id, key.grants))
            for key in keys
            if key.revoked_s is None
        }
        if own_key is not None:
            access = access_of(LOCAL_ID, [Grant(role=Role.ADMIN)])
            self._known[LOCAL_ID.encode()] = _digest(own_key.encode()), access

    def recognise(self, text: bytes) -> Access | None:
        """What the bearer of `text` may do; None where it is no key that counts. One look-up, at most one hash; how far
        a wrong secret is right can't be seen from the time that it takes.
        """
        _, _, rest = text.partition(b"_")
        known = self._known.get(rest.partition(b"_")[0])
        if known is None or not hmac.compare_digest(known[0], _digest(text)):
            return None
        return known[1]


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()
