"""Keys as values: what a grant allows, who is recognised, and what becomes of the list."""

from __future__ import annotations

import hashlib

import pytest
from pydantic import ValidationError

from cluster import api_keys
from cluster.api_keys import (
    ID_BYTES,
    SECRET_BYTES,
    AddKey,
    ForgetKeys,
    Grant,
    KeyRecord,
    KeyRing,
    Keys,
    NewKey,
    RevokeKey,
    Role,
    access_of,
    apply_change,
    local_key,
    new_key,
)
from shards.errors import Conflict, LimitExceeded, NotFound

READ, WRITE, ADMIN = Role.READ, Role.WRITE, Role.ADMIN


def make(number: int = 1, *grants: Grant, label: str = "") -> NewKey:
    random_bytes = number.to_bytes(ID_BYTES, "big") + hashlib.sha256(b"%d" % number).digest()
    return new_key(random_bytes, grants or (Grant(role=READ),), label, now_s=1000 + number)


def records(*made: NewKey) -> Keys:
    return tuple(key.record for key in made)


def test_a_key_reads_as_its_parts_and_its_record_does_not_tell_it() -> None:
    text, record = make(7, label="x")
    prefix, key_id, secret = text.split("_")
    assert (prefix, key_id, record.id) == ("shoal", "000000000007", "000000000007")
    assert len(bytes.fromhex(secret)) == SECRET_BYTES == 32
    assert secret not in record.model_dump_json()
    assert record.digest == hashlib.sha256(text.encode()).hexdigest()
    assert (record.created_s, record.revoked_s, record.label) == (1007, None, "x")


def test_a_record_survives_json() -> None:
    record = make(1, Grant(role=WRITE, collection="a", tenant="t"), Grant(role=ADMIN)).record
    assert KeyRecord.model_validate_json(record.model_dump_json()) == record


@pytest.mark.parametrize(
    "bad",
    [{"grants": ()}, {"digest": "no hash"}, {"label": "x" * 201}, {"more": 1}, {"grants": (Grant(role=READ),) * 65}],
)
def test_what_no_record_is(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        KeyRecord.model_validate({**make().record.model_dump(), **bad})


@pytest.mark.parametrize(("role", "allowed"), [(READ, {READ}), (WRITE, {READ, WRITE}), (ADMIN, {READ, WRITE, ADMIN})])
def test_roles_include_those_below(role: Role, allowed: set[Role]) -> None:
    everywhere = access_of("k", [Grant(role=role)])
    over_a = access_of("k", [Grant(role=role, collection="a")])
    for wanted in Role:
        assert everywhere.allows(wanted, "a") is everywhere.allows(wanted, "") is (wanted in allowed)
        assert over_a.allows(wanted, "a") is over_a.allows_somewhere(wanted) is (wanted in allowed)
        assert not over_a.allows(wanted, "b")
        assert not over_a.allows(wanted, ""), "a collection is not the cluster"


def test_grants_add() -> None:
    access = access_of("k", [Grant(role=READ, collection="a"), Grant(role=WRITE, collection="b"), Grant(role=READ)])
    assert access.allows(READ, "c")
    assert not access.allows(WRITE, "a")
    assert access.allows(WRITE, "b")


def test_a_tenants_grant_is_about_its_points_alone() -> None:
    access = access_of("k", [
        Grant(role=WRITE, tenant="t"), Grant(role=READ, collection="a", tenant="u"), Grant(role=ADMIN, collection="b"),
    ])  # fmt: skip
    assert not any(access.allows(role, name) for role in Role for name in ("", "a"))
    assert access.tenants(READ, "a") == ("t", "u")
    assert access.tenants(WRITE, "a") == access.tenants(READ, "c") == ("t",)
    assert access.tenants(ADMIN, "a") == ()
    assert access.allows(ADMIN, "b")
    assert access_of("k", [Grant(role=READ, tenant="t")]).allows_somewhere(READ)
    assert not access_of("k", [Grant(role=READ, tenant="t")]).allows_somewhere(WRITE)


def test_only_whole_keys_are_recognised() -> None:
    one, other = make(1), make(2, Grant(role=WRITE, collection="a"))
    ring = KeyRing(records(one, other))
    text = other.text.encode()
    found = ring.recognise(text)
    assert found is not None
    assert (found.key_id, found.allows(WRITE, "a")) == (other.record.id, True)
    for place in range(len(text)):
        assert ring.recognise(text[:place]) is None
        assert ring.recognise(text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :]) is None
    secret = one.text.rsplit("_", 1)[1].encode()
    for stranger in (
        b"",
        b"_",
        b"__",
        text + b"0",
        text.upper(),
        secret,
        b"shoal_" + secret,
        b"\xff" * 20,
        b" " + text,
    ):
        assert ring.recognise(stranger) is None
    assert ring.recognise(f"shoal_{other.record.id}_".encode() + secret) is None, "the secret of another key"


def test_a_revoked_key_is_not_recognised_but_kept() -> None:
    one, other = make(1), make(2)
    keys = apply_change(records(one, other), RevokeKey(one.record.id, now_s=5))
    assert [key.revoked_s for key in keys] == [5, None]
    ring = KeyRing(keys)
    assert ring.recognise(one.text.encode()) is None
    assert ring.recognise(other.text.encode()) is not None
    assert apply_change(keys, RevokeKey(one.record.id, now_s=9)) == keys, "revoked once, at its first time"


def test_the_folders_own_key_is_derived_from_its_secret() -> None:
    own = local_key(b"s" * 32)
    assert own == local_key(b"s" * 32) != local_key(b"t" * 32)
    assert (b"s" * 32).hex() not in own
    access = KeyRing((), own).recognise(own.encode())
    assert access is not None
    assert access.allows(ADMIN, "")
    for ring in (KeyRing(()), KeyRing((), local_key(b"t" * 32)), KeyRing(records(make(1)))):
        assert ring.recognise(own.encode()) is None


def test_changes_of_the_list() -> None:
    one, other = make(1), make(2)
    keys = apply_change(apply_change((), AddKey(one.record)), AddKey(other.record))
    assert keys == records(one, other)
    with pytest.raises(Conflict, match=one.record.id):
        apply_change(keys, AddKey(one.record))
    with pytest.raises(NotFound, match="no key with the id 'none'"):
        apply_change(keys, RevokeKey("none", 5))
    assert apply_change(keys, ForgetKeys()) == ()


def test_the_list_stays_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_keys, "KEYS_MAX", 3)
    monkeypatch.setattr(api_keys, "REVOKED_KEPT_MAX", 2)
    keys: Keys = ()
    for number in range(3):
        keys = apply_change(keys, AddKey(make(number).record))
    with pytest.raises(LimitExceeded, match="3 keys, which is the limit"):
        apply_change(keys, AddKey(make(3).record))
    for number in range(3, 9):
        keys = apply_change(keys, RevokeKey(make(number - 3).record.id, 5))
        keys = apply_change(keys, AddKey(make(number).record))
    assert [key.revoked_s is None for key in keys] == [False, False, True, True, True]
    assert [key.id[-1] for key in keys] == ["4", "5", "6", "7", "8"], "the oldest were forgotten"
