"""One story of calls (tests/point_calls.py) told to two implementations, whose answers have to be the same.

The reference is the client library's in-process mode. Where it has ways of its own, this is what Shoal does instead, and
what the story therefore leaves open or does not ask for:

    equal values, equal scores    the reference keeps the order of arrival, Shoal that of ids; either is accepted
    an id twice in one upsert     under a condition the reference asks it of each in turn, Shoal of the points as they were
                                  before the request, and the last one counts
    an empty list of ids          in a batch of operations the reference refuses it when its turn comes, Shoal before the first
    vectors of unknown names      the reference shows nothing for them, Shoal refuses the request
    `order_by` with `offset`      the reference refuses it only where there are points
    score_threshold               the reference leaves out a score that equals it
    vectors of length 0           the reference stores them under Cosine as they are
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from tests.point_calls import Call, Caller

NAME = "story"
SCORE_TOLERANCE = 1e-5
EVERYTHING = 10_000


@dataclass(frozen=True)
class Refusal:
    """A call that was not done, or not wholly. `missing`: the id of a point that was not there."""

    text: str
    missing: str | None = None


def tell(
    client: QdrantClient, seed: int, vectors: dict[str, models.VectorParams], length: int, crowd: int = 0
) -> int:
    """Tells a story of `length` calls to `client` and to the reference; returns how many points were read. `crowd`: how
    many points there are from the beginning, about.

    Raises AssertionError at the first difference, with the seed and the call.
    """
    reference = QdrantClient(":memory:")
    config: Any = vectors[""] if vectors.keys() == {""} else vectors
    for one in (client, reference):
        one.delete_collection(NAME)
        one.create_collection(NAME, vectors_config=config)
    caller, read_count = Caller(seed, vectors, crowd), 0
    for number in range(length):
        call = caller.draw()
        try:
            read_count += _tell_one(client, reference, call)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, call {number}: {call}: {error}") from None
    client.delete_collection(NAME)
    reference.close()
    return read_count


def _tell_one(client: QdrantClient, reference: QdrantClient, call: Call) -> int:
    found = _outcome(client, call)
    if call.method.endswith("payload_index"):  # the reference has none
        assert not isinstance(found, Refusal), found
        return _compare_everything(client, reference)
    expected = _outcome(reference, call)
    if isinstance(expected, Refusal) or isinstance(found, Refusal):
        assert isinstance(expected, Refusal) and isinstance(found, Refusal), f"{found} instead of {expected}"
        assert found.missing == expected.missing, f"{found} instead of {expected}"
        return _compare_everything(client, reference)
    if call.method == "scroll" and call.arguments.get("order_by") is not None:
        whole = _outcome(reference, Call("scroll", {**call.arguments, "limit": EVERYTHING}))
        _compare_ordered(found, whole[0], call.arguments["limit"])
    elif call.method == "scroll":
        assert found[1] == expected[1], f"next_page_offset {found[1]!r} instead of {expected[1]!r}"
        _compare_records(found[0], expected[0])
    elif call.method == "retrieve":
        _compare_records(found, expected)
    elif call.method == "query_points":
        _compare_hits(found.points, expected.points)
    elif call.method == "query_batch_points":
        for one, other in zip(found, expected, strict=True):
            _compare_hits(one.points, other.points)
    elif call.method == "count":
        assert found.count == expected.count, f"{found.count} points instead of {expected.count}"
        return int(found.count)
    else:
        return _compare_everything(client, reference)
    return 1


def _outcome(client: QdrantClient, call: Call) -> Any:
    """What a call returns, or how it was refused."""
    try:
        return getattr(client, call.method)(NAME, **call.arguments)
    except UnexpectedResponse as error:
        if error.status_code not in (400, 404, 422):
            raise
        text = json.loads(error.content)["status"]["error"]
        missing = text.removeprefix("Not found: No point with id ").split()[0] if error.status_code == 404 else None
        return Refusal(text, missing)
    except KeyError as error:
        return Refusal(repr(error), str(error.args[0]))
    except ValueError as error:
        return Refusal(repr(error))


def _compare_everything(client: QdrantClient, reference: QdrantClient) -> int:
    """After a write: every point is the same."""
    arguments = {"limit": EVERYTHING, "with_vectors": True}
    (found, _), (expected, _) = client.scroll(NAME, **arguments), reference.scroll(NAME, **arguments)
    _compare_records(found, expected)
    return len(found)


def _compare_records(found: list[Any], expected: list[Any]) -> None:
    assert [record.id for record in found] == [record.id for record in expected]
    for one, other in zip(found, expected, strict=True):
        _compare_point(one, other)


def _compare_point(found: Any, expected: Any) -> None:
    # As JSON, because 1, 1.0 and True are equal in Python.
    shown, wanted = (json.dumps(point.payload, sort_keys=True) for point in (found, expected))
    assert shown == wanted, f"point {found.id} has payload {shown} instead of {wanted}"
    ours, theirs = (_by_name(point.vector) for point in (found, expected))
    assert ours.keys() == theirs.keys(), f"point {found.id} has vectors {found.vector} instead of {expected.vector}"
    for name, vector in ours.items():
        np.testing.assert_allclose(vector, theirs[name], rtol=1e-5, atol=1e-6)


def _by_name(vector: Any) -> dict[str, Any]:
    if vector is None:
        return {}
    return vector if isinstance(vector, dict) else {"": vector}


def _compare_hits(found: list[Any], expected: list[Any]) -> None:
    scores, wanted = ([hit.score for hit in hits] for hits in (found, expected))
    assert len(scores) == len(wanted), f"{len(scores)} hits instead of {len(wanted)}"
    np.testing.assert_allclose(scores, wanted, rtol=SCORE_TOLERANCE, atol=SCORE_TOLERANCE)
    for place, (one, other) in enumerate(zip(found, expected, strict=True)):
        if one.id == other.id:
            _compare_point(one, other)
            continue
        near = [score for at, score in enumerate(wanted) if at != place and abs(score - one.score) <= SCORE_TOLERANCE]
        assert near or place == len(found) - 1, f"hit {place} is {one.id} instead of {other.id}"


def _compare_ordered(page: tuple[list[Any], Any], whole: list[Any], limit: int) -> None:
    """`whole`: all that the reference has, of which the page is a beginning, equal values in any order."""
    records, following = page
    assert following is None
    assert [record.order_value for record in records] == [record.order_value for record in whole[:limit]]
    by_place = {(record.order_value, record.id): record for record in whole}
    places = [(record.order_value, record.id) for record in records]
    assert len(set(places)) == len(places), f"{places} names a point twice"
    for record, place in zip(records, places, strict=True):
        assert place in by_place, f"{place} does not belong here"
        _compare_point(record, by_place[place])
