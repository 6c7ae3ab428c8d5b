"""The budget: levels with hysteresis as tables of events, permits, and the reason in words."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from shards.memory import MemoryParts
from shards.memory_budget import MemoryBudget, MemoryLevel, MemoryThresholds
from shards.settings import ShardSettings

THRESHOLDS = MemoryThresholds(target=0.7, throttle=0.8, refuse=0.9, margin=0.05)
NORMAL, THROTTLE, REFUSE = MemoryLevel


def budget_of(limit: int | None = 1_000) -> MemoryBudget:
    return MemoryBudget(limit, THRESHOLDS)


def using(used: int, limit: int | None = 1_000) -> MemoryBudget:
    budget = budget_of(limit)
    budget.observe(MemoryParts(graphs=used))
    return budget


EVENTS = [
    ("below every threshold", [(0, NORMAL), (700, NORMAL), (799, NORMAL)]),
    ("the throttle begins at its threshold", [(800, THROTTLE), (899, THROTTLE)]),
    ("it ends a margin below", [(800, THROTTLE), (750, THROTTLE), (749, NORMAL)]),
    ("once it has ended it begins at its threshold again", [(800, THROTTLE), (749, NORMAL), (799, NORMAL)]),
    ("refusing begins at its threshold", [(899, THROTTLE), (900, REFUSE), (1_500, REFUSE)]),
    ("refusing ends a margin below", [(900, REFUSE), (850, REFUSE), (849, THROTTLE), (899, THROTTLE)]),
    ("from refusing straight to normal", [(900, REFUSE), (100, NORMAL)]),
    ("from refusing into the throttle's margin", [(900, REFUSE), (760, THROTTLE), (749, NORMAL)]),
    ("on the edge nothing flaps", [(900, REFUSE), (899, REFUSE), (901, REFUSE), (851, REFUSE)]),
]


@pytest.mark.parametrize("events", [events for _, events in EVENTS], ids=[name for name, _ in EVENTS])
def test_levels_follow_what_is_used(events: list[tuple[int, MemoryLevel]]) -> None:
    budget = budget_of()
    for used, level in events:
        assert budget.observe(MemoryParts(graphs=used)) is level, used


def test_a_permit_counts_as_used_until_it_is_released() -> None:
    budget = using(500)
    permit = budget.reserve(350, "a load of 7 rows")
    assert permit is not None
    assert (budget.used_bytes, budget.reserved_bytes, budget.level) == (850, 350, THROTTLE)
    assert budget.reserve(50, "another") is None, "900 is where refusing begins"
    assert budget.reserve(49, "another") is not None
    budget.release(permit)
    budget.release(permit)
    assert (budget.used_bytes, budget.level) == (549, NORMAL)


def test_equal_permits_are_different_ones() -> None:
    budget = using(0)
    one, other = budget.reserve(100, "a load"), budget.reserve(100, "a load")
    assert one is not None
    assert other is not None
    budget.release(one)
    budget.release(one)
    assert budget.reserved_bytes == 100


def test_at_the_level_refuse_nothing_has_room_however_small() -> None:
    budget = using(900)
    budget.observe(MemoryParts(graphs=880))
    assert budget.level is REFUSE
    assert not budget.has_room_for(0)
    assert budget.reserve(0, "nothing") is None
    assert budget.bytes_to_free() == 31, "849 is where refusing has ended"
    assert budget.bytes_to_free(100) == 81, "and with 100 more 899 is the most"


def test_what_has_to_be_freed_makes_the_room() -> None:
    budget = using(800)
    assert budget.bytes_to_free(99) == 0
    missing = budget.bytes_to_free(300)
    assert missing == 201
    budget.observe(MemoryParts(graphs=800 - missing))
    assert budget.has_room_for(300)
    assert not budget.has_room_for(301)


def test_pressure_ascends_from_the_end_of_the_throttle_to_refusing() -> None:
    found = [using(used).pressure for used in (0, 750, 825, 900, 2_000)]
    assert found == pytest.approx([0.0, 0.0, 0.5, 1.0, 1.0])


def test_without_a_limit_everything_goes() -> None:
    budget = using(10**15, None)
    assert (budget.level, budget.pressure, budget.bytes_to_free(10**15)) == (NORMAL, 0.0, 0)
    assert budget.reserve(10**15, "a load") is not None
    assert budget.bytes_over_target() == 0
    assert "without a limit" in budget.in_words()


def test_the_reason_says_what_is_used_by_what_and_what_is_to_be_freed() -> None:
    budget = budget_of(1_000_000)
    budget.observe(MemoryParts(graphs=200_000, growing=600_000))
    budget.reserve(50_000, "a load of 7 rows")
    assert budget.in_words(100_000) == (
        "memory is at level throttle: 850,000 of 1,000,000 bytes used (growing 600,000, graphs 200,000,"
        " reserved for a load of 7 rows 50,000), 50,001 bytes would have to be freed"
    )
    assert budget.bytes_over_target() == 150_000


@pytest.mark.parametrize(
    ("fractions", "word"),
    [
        ({"memory_target_fraction": 0.85}, "ascend"),
        ({"memory_refuse_fraction": 0.8}, "ascend"),
        ({"memory_refuse_fraction": 1.0}, "less than 1"),
        ({"memory_margin_fraction": 0.1}, "margin"),
        ({"memory_bytes_max": 5}, "greater than or equal"),
    ],
)
def test_thresholds_ascend_and_stay_below_the_limit(fractions: dict[str, float], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        ShardSettings.model_validate(fractions)


def test_thresholds_come_from_the_settings() -> None:
    found = MemoryThresholds.of(ShardSettings(memory_throttle_fraction=0.75))
    assert found == MemoryThresholds(target=0.7, throttle=0.75, refuse=0.9, margin=0.03)
