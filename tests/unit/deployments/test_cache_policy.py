"""What a full cache keeps: the bound holds, nothing is lost unsaid, and a scan does not push out what is asked for."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Iterable
from hashlib import blake2b

from hypothesis import given
from hypothesis import strategies as st

from deployments.cache_policy import COUNTER_MAX, FrequencySketch, TinyLfu


def digest(number: int) -> bytes:
    return blake2b(number.to_bytes(8, "little"), digest_size=16).digest()


def zipf_with_scans(seed: int, length: int = 40_000, universe: int = 20_000, scan_share: float = 0.3) -> list[int]:
    """Requests of which most follow Zipf's law (s = 1), the others ask for something that nobody asks for again."""
    rng = random.Random(seed)
    weights = [1 / rank for rank in range(1, universe + 1)]
    popular = iter(rng.choices(range(universe), weights, k=length))
    return [next(popular) if rng.random() > scan_share else universe + n for n in range(length)]


def hits_of_tiny_lfu(trace: Iterable[int], entries: int) -> int:
    cache: TinyLfu[int] = TinyLfu(entries * 1_000)
    hits = 0
    for number in trace:
        key = digest(number)
        if cache.get(key) is not None:
            hits += 1
        else:
            cache.put(key, number, 1_000)
    return hits


def hits_of_lru(trace: Iterable[int], entries: int) -> int:
    held: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for number in trace:
        if number in held:
            hits += 1
            held.move_to_end(number)
        else:
            held[number] = None
            if len(held) > entries:
                held.popitem(last=False)
    return hits


def test_beats_lru_where_scans_pollute() -> None:
    for entries in (200, 1_000):
        trace = zipf_with_scans(seed=entries)
        assert hits_of_tiny_lfu(trace, entries) > 1.1 * hits_of_lru(trace, entries)


def test_new_favourites_replace_old_ones() -> None:
    cache: TinyLfu[int] = TinyLfu(100 * 1_000)
    for round_ in range(400):
        for number in range(80):
            key = digest(number + (10**6 if round_ >= 40 else 0))
            if cache.get(key) is None:
                cache.put(key, number, 1_000)
    assert sum(cache.get(digest(number + 10**6)) is not None for number in range(80)) >= 75


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 400), st.sampled_from("pgd")), max_size=300))
def test_the_bound_holds_and_nothing_vanishes(steps: list[tuple[int, int, str]]) -> None:
    cache: TinyLfu[tuple[int, int]] = TinyLfu(1_000)
    held: dict[bytes, tuple[int, int]] = {}
    for turn, (number, weight, step) in enumerate(steps):
        key = digest(number)
        if step == "g":
            assert cache.get(key) == held.get(key)
        elif step == "d":
            assert cache.pop(key) == held.pop(key, None)
        else:
            value = number, turn
            gone = cache.put(key, value, weight)
            held_then, held[key] = held.get(key), value
            for one in gone:
                if one != held_then:
                    assert held.pop(digest(one[0])) == one
            assert held_then is None or held_then in gone
        assert dict(cache) == held
        assert cache.byte_count <= 1_000
        assert len(cache) == len(held)


def test_what_is_too_large_is_refused_at_once_and_takes_its_older_version_along() -> None:
    cache: TinyLfu[str] = TinyLfu(10_000)
    assert cache.put(digest(1), "small", 10) == []
    assert cache.put(digest(1), "huge", 10_000) == ["small", "huge"]
    assert cache.get(digest(1)) is None


def test_counters_stop_and_are_halved() -> None:
    sketch = FrequencySketch(16)
    for _ in range(100):
        sketch.add(digest(1))
    assert sketch.estimate(digest(1)) == COUNTER_MAX
    assert FrequencySketch(16).estimate(digest(1)) == 0
    for _ in range(60):
        sketch.add(digest(1))
    assert sketch.estimate(digest(1)) == COUNTER_MAX // 2
