"""The tree of errors: stable codes, and the same error after pickling and after the data plane."""

from __future__ import annotations

import pickle

import pytest

from shards import errors
from shards.errors import BY_CODE, Conflict, Internal, Overloaded, ShoalError, StaleEpoch, Unavailable, from_wire


def kinds(root: type[ShoalError] = ShoalError) -> list[type[ShoalError]]:
    return [root, *(kind for child in root.__subclasses__() for kind in kinds(child))]


def test_codes_are_the_published_ones() -> None:
    assert set(BY_CODE) == {
        "internal",
        "invalid_request",
        "dimension_mismatch",
        "bad_filter",
        "bad_vector",
        "damaged_snapshot",
        "limit_exceeded",
        "not_supported",
        "unauthenticated",
        "forbidden",
        "not_found",
        "conflict",
        "stale_epoch",
        "overloaded",
        "queue_full",
        "rate_limited",
        "memory_exhausted",
        "storage_full",
        "unavailable",
        "shard_unavailable",
        "breaker_open",
        "deadline_exceeded",
        "corrupt",
    }


def test_every_kind_but_the_root_has_a_code_of_its_own() -> None:
    declared = [kind for kind in kinds() if kind is not ShoalError and kind.__module__ == errors.__name__]
    assert len({kind.code for kind in declared}) == len(declared)
    assert all(BY_CODE[kind.code] is kind for kind in declared)


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_pickling_keeps_everything(kind: type[ShoalError]) -> None:
    error = kind("k is 0; ask for at least 1", retry_after_s=1.5)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert (copy.message, copy.retry_after_s, str(copy)) == (error.message, 1.5, error.message)


@pytest.mark.parametrize("code", sorted(BY_CODE))
def test_wire_round_trip(code: str) -> None:
    error = from_wire(code, "what is wrong", retry_after_s=2.0)
    assert (error.code, error.message, error.retry_after_s) == (code, "what is wrong", 2.0)


def test_unknown_code_becomes_internal_and_keeps_its_name() -> None:
    error = from_wire("from_the_future", "odd")
    assert type(error) is Internal
    assert error.message == "from_the_future: odd"
    assert error.retry_after_s is None


def test_transient_says_whether_a_repeat_may_help() -> None:
    transient = {kind.code for kind in BY_CODE.values() if kind.transient}
    assert transient == {
        *("overloaded", "queue_full", "rate_limited", "memory_exhausted", "storage_full"),
        *("unavailable", "shard_unavailable", "breaker_open", "deadline_exceeded", "stale_epoch"),
    }


def test_families_are_caught_by_their_root() -> None:
    assert issubclass(StaleEpoch, Conflict)
    assert issubclass(errors.StorageFull, Overloaded)
    assert issubclass(errors.DeadlineExceeded, Unavailable)
    assert not issubclass(errors.Corrupt, Unavailable)
