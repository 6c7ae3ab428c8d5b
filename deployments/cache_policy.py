"""What a full cache keeps: W-TinyLFU (Einziger, Friedman, Manes: "TinyLFU: A Highly Efficient Cache Admission Policy", 2017),
bounded in bytes. Pure.

New values enter a small window (LRU). What the window pushes out is admitted to the main part only if it is asked for more
often than what would have to go: so one pass over a million queries that nobody repeats (a crawler, an evaluation) does not
empty the cache, as it would with LRU. The main part is an LRU in two segments: a value that is asked for again is
protected, and what falls out of the protected segment has another chance in the other. How often a key is asked for is
estimated by a count-min sketch whose counters are halved now and then, so yesterday's favourites go.

Invariants: the weights held never sum to more than `bytes_max`; every value that was put is got, or was given back
as evicted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from struct import Struct
from typing import Generic, NamedTuple, TypeVar

WINDOW_FRACTION = 0.02
PROTECTED_FRACTION = 0.8
"""Of the main part. Both as in the paper's implementations, the window a little larger, for values are of many sizes."""
ENTRY_BYTES_TYPICAL = 2048
SAMPLE_PER_COUNTER = 10
COUNTER_MAX = 15

Value = TypeVar("Value")
_FOUR_WORDS = Struct("<4I")
_HALVED = bytes(count // 2 for count in range(256))


class FrequencySketch:
    """How often keys were added lately, at most COUNTER_MAX, never less than it is but for ageing. Keys are digests, at
    least 16 bytes that are as good as random: they are their own hashes.
    """

    def __init__(self, width: int) -> None:
        """`width`: counters a row, a power of two. Each has a byte of its own, so that ageing is one translation."""
        assert width & (width - 1) == 0, "a power of two"
        self._mask = width - 1
        self._rows = [bytearray(width) for _ in range(4)]
        self._added = 0
        self._sample = SAMPLE_PER_COUNTER * width

    def add(self, key: bytes) -> None:
        """Count one request for the key."""
        mask = self._mask
        for row, word in zip(self._rows, _FOUR_WORDS.unpack_from(key), strict=True):
            place = word & mask
            if row[place] < COUNTER_MAX:
                row[place] += 1
        self._added += 1
        if self._added >= self._sample:
            self._added //= 2
            self._rows = [row.translate(_HALVED) for row in self._rows]

    def estimate(self, key: bytes) -> int:
        """The count of the key, or a little more."""
        mask = self._mask
        return min(row[word & mask] for row, word in zip(self._rows, _FOUR_WORDS.unpack_from(key), strict=True))


class _Held(NamedTuple, Generic[Value]):
    value: Value
    weight: int


class _Segment(Generic[Value]):
    """Values in the order in which they were asked for last."""

    __slots__ = ("byte_count", "held")

    def __init__(self) -> None:
        self.held: OrderedDict[bytes, _Held[Value]] = OrderedDict()
        self.byte_count = 0

    def put(self, key: bytes, one: _Held[Value]) -> None:
        self.held[key] = one
        self.byte_count += one.weight

    def take(self, key: bytes) -> _Held[Value]:
        one = self.held.pop(key)
        self.byte_count -= one.weight
        return one

    def take_oldest(self) -> tuple[bytes, _Held[Value]]:
        key, one = self.held.popitem(last=False)
        self.byte_count -= one.weight
        return key, one


class TinyLfu(Generic[Value]):
    """See the module. Weights are bytes, above 0."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self._window_max = int(WINDOW_FRACTION * bytes_max)
        self._main_max = bytes_max - self._window_max
        self._window: _Segment[Value] = _Segment()
        self._probation: _Segment[Value] = _Segment()
        self._protected: _Segment[Value] = _Segment()
        entries = max(64, bytes_max // ENTRY_BYTES_TYPICAL)
        self._sketch = FrequencySketch(1 << (4 * entries - 1).bit_length())

    def __len__(self) -> int:
        return sum(len(segment.held) for segment in self._segments)

    def __iter__(self) -> Iterator[tuple[bytes, Value]]:
        for segment in self._segments:
            for key, one in segment.held.items():
                yield key, one.value

    @property
    def byte_count(self) -> int:
        """Of what is held."""
        return sum(segment.byte_count for segment in self._segments)

    def get(self, key: bytes) -> Value | None:
        """The value, which counts as asked for; None where there is none, which counts as well."""
        self._sketch.add(key)
        if (one := self._protected.held.get(key)) is not None:
            self._protected.held.move_to_end(key)
        elif (one := self._window.held.get(key)) is not None:
            self._window.held.move_to_end(key)
        elif (one := self._probation.held.get(key)) is not None:
            self._protect(key)
        return None if one is None else one.value

    def put(self, key: bytes, value: Value, weight: int) -> list[Value]:
        """Keep a value, in place of an older one of the key if there is one. What is not held any more: that older one,
        values that had to go, or `value` itself.
        """
        gone: list[Value] = []
        held = _Held(value, weight)
        if (old := self._segment_of(key)) is not None:
            gone.append(old.take(key).value)
        if weight > self._main_max:
            return [*gone, value]
        (self._window if old is None else old).put(key, held)
        while self._window.byte_count > self._window_max:
            gone += self._admit(*self._window.take_oldest())
        while self._probation.byte_count + self._protected.byte_count > self._main_max:
            gone.append(self._oldest_of_main().take_oldest()[1].value)
        return gone

    def pop(self, key: bytes) -> Value | None:
        """Let go of a value; None where there is none."""
        segment = self._segment_of(key)
        return None if segment is None else segment.take(key).value

    @property
    def _segments(self) -> tuple[_Segment[Value], _Segment[Value], _Segment[Value]]:
        return self._window, self._probation, self._protected

    def _segment_of(self, key: bytes) -> _Segment[Value] | None:
        return next((segment for segment in self._segments if key in segment.held), None)

    def _protect(self, key: bytes) -> None:
        self._protected.put(key, self._probation.take(key))
        while self._protected.byte_count > PROTECTED_FRACTION * self._main_max:
            self._probation.put(*self._protected.take_oldest())

    def _admit(self, key: bytes, candidate: _Held[Value]) -> Iterator[Value]:
        """What has to go so that the candidate can stay, or the candidate."""
        frequency = self._sketch.estimate(key)
        while self._probation.byte_count + self._protected.byte_count + candidate.weight > self._main_max:
            segment = self._oldest_of_main()
            if frequency <= self._sketch.estimate(next(iter(segment.held))):
                yield candidate.value
                return
            yield segment.take_oldest()[1].value
        self._probation.put(key, candidate)

    def _oldest_of_main(self) -> _Segment[Value]:
        return self._probation if self._probation.held else self._protected
