"""The hostile corpus in short (`python -m tests.hostile` sends more of it)."""

from __future__ import annotations

from pathlib import Path

from tests.hostile.assault import assault, assault_as_stranger
from tests.hostile.corpus import FAMILIES, Traps, cases
from tests.hostile.parquet import read_mutants


def test_nothing_breaks_and_nothing_escapes(tmp_path: Path) -> None:
    outcome = assault(tmp_path, seed=1, count=300)
    assert outcome.sent == 300
    assert outcome.complaints == []
    assert len({family for family, _status in outcome.statuses}) == len(FAMILIES)


def test_a_stranger_gets_401_alone(tmp_path: Path) -> None:
    outcome = assault_as_stranger(tmp_path, seed=1, count=100)
    assert outcome.complaints == []
    assert {status for _family, status in outcome.statuses} <= {400, 401}
    assert outcome.statuses["every route", 401] > 30


def test_damaged_parquet_is_read_or_refused_in_words() -> None:
    outcomes = read_mutants(seed=1, count=200)
    assert outcomes.keys() == {"read", "refused"}
    assert sum(outcomes.values()) == 200


def test_a_seed_gives_the_same_requests() -> None:
    traps = Traps(Path("nowhere"), "http://192.0.2.1:1")
    assert list(cases(3, 50, traps)) == list(cases(3, 50, traps))
    assert list(cases(3, 50, traps)) != list(cases(4, 50, traps))
