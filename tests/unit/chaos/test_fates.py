"""The judge of a chaos run: what it accepts, and that it finds each wrong by its name."""

from __future__ import annotations

import numpy as np
import orjson
import pytest

from tests.chaos.fates import ABSENT, Fates
from tests.chaos.points import PointMaker
from tests.chaos.report import Report, in_words, to_json


@pytest.fixture
def fates() -> Fates:
    """1: version 2 of 2; 2: deleted by its second write; 3: version 1, and a second write is open."""
    made = Fates()
    for point_id in (1, 2, 3):
        made.acknowledge([(point_id, made.next_version(point_id))])
    made.acknowledge([(1, made.next_version(1))])
    made.next_version(2)
    made.acknowledge([(2, ABSENT)])
    made.leave_open([(3, made.next_version(3))])
    return made


@pytest.mark.parametrize(
    ("point_id", "found", "kind"),
    [
        *((1, 2, None), (1, ABSENT, "lost"), (1, 1, "lost"), (1, 3, "phantom"), (1, None, "damaged")),
        *((2, ABSENT, None), (2, 1, "resurrected")),
        *((3, 1, None), (3, 2, None), (3, ABSENT, "lost")),
        *((9, ABSENT, None), (9, 1, "phantom")),
    ],
)
def test_each_wrong_has_its_name(fates: Fates, point_id: int, found: int | None, kind: str | None) -> None:
    wrong = fates.judge(point_id, found)
    assert (wrong.kind if wrong else None) == kind


def test_an_open_delete_may_count_or_not(fates: Fates) -> None:
    fates.leave_open([(1, ABSENT)])
    assert fates.judge(1, ABSENT) is None
    assert fates.judge(1, 2) is None
    fates.settle(1, ABSENT)
    assert fates.judge(1, 2) is not None
    assert (fates.acknowledged, fates.unknown) == (5, 2)


def test_a_point_that_was_read_is_whole_or_not() -> None:
    maker = PointMaker(seed=5, dim=16)
    (body,) = orjson.loads(orjson.dumps(maker.bodies([7], [3])))
    assert maker.version_of(body) == 3
    other = maker.bodies([7], [4])[0]
    assert maker.version_of({**body, "vector": other["vector"]}) is None
    assert maker.version_of({**body, "payload": {**body["payload"], "text": "x"}}) is None
    assert maker.version_of({**body, "payload": None}) is None
    one_bit = np.array(body["vector"], np.float32)
    one_bit[3] = np.nextafter(one_bit[3], np.float32(2))
    assert maker.version_of({**body, "vector": one_bit.tolist()}) is None


def test_vectors_differ_by_seed_id_and_version() -> None:
    made = [PointMaker(seed, 8).vectors([key], [version]) for seed in (1, 2) for key in (0, 1) for version in (1, 2)]
    assert len({vectors.tobytes() for vectors in made}) == len(made)
    assert all(np.abs(vectors).max() <= 1 for vectors in made)


def test_a_run_without_a_fault_has_failed() -> None:
    report = Report(1, "kills", seed=1, acknowledged=10)
    assert report.verdict == "FAILED"
    assert "no fault" in in_words(report)
    report.faults = 1
    assert report.verdict == "passed"
    report.wrongs["lost"] += 1
    assert report.verdict == "FAILED"
    assert orjson.loads(to_json([report]))[0]["wrongs"] == {"lost": 1}
