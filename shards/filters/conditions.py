"""The normal form of a filter: a tree of conditions with every spelling resolved.

A filter is one `Node`. Its leaves are `Field` (a path and a test of what is there) and conditions on the point itself.
What a request can say in two ways is said in one here: a bare condition and a list of one, `value` and `any`,
`{is_null: {key}}` and `{key, is_null: true}`, `gt` and `gte`. Nodes are values: equal ones mean the same.

A test is about the elements of a field (any of them may pass: `ElementTest`), or about all of what is there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from shards.filters.geometry import GeoBox, GeoCircle, GeoPolygon
from shards.filters.paths import JsonPath


@dataclass(frozen=True, slots=True)
class Interval:
    """Numbers between two bounds, which belong to it unless they are `open`."""

    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False

    def contains(self, value: float) -> bool:
        return (value > self.low if self.low_open else value >= self.low) and (
            value < self.high if self.high_open else value <= self.high
        )


@dataclass(frozen=True, slots=True)
class OneOf:
    """The value is one of these, all of one `kind`: bool, int or str, which never equal each other."""

    kind: type[bool] | type[int] | type[str]
    values: frozenset[bool | int | str]


@dataclass(frozen=True, slots=True)
class NoneOf:
    """The value is there (null is not) and is none of these. `kind`: int or str."""

    kind: type[int] | type[str]
    values: frozenset[bool | int | str]


@dataclass(frozen=True, slots=True)
class StartsWith:
    """The value is a text that begins so, letter by letter."""

    prefix: str


@dataclass(frozen=True, slots=True)
class HasWords:
    """The value is a text with all of these words; with none to look for nothing matches."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HasSomeWord:
    """The value is a text with at least one of these words."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HasPhrase:
    """The value is a text with these words one behind the other; with none to look for nothing matches."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class InNumbers:
    """The value is a number (never a bool) in the interval."""

    interval: Interval


@dataclass(frozen=True, slots=True)
class InDates:
    """The value is a date's text in the interval, whose bounds are microseconds since 1970."""

    interval: Interval


@dataclass(frozen=True, slots=True)
class InArea:
    """The value is a point `{"lat", "lon"}` in the area."""

    area: GeoBox | GeoCircle | GeoPolygon


@dataclass(frozen=True, slots=True)
class IsEmpty:
    """Nothing is there: missing, null or an empty array."""


@dataclass(frozen=True, slots=True)
class IsNull:
    """A null is there, or an array that holds one."""


@dataclass(frozen=True, slots=True)
class HasCount:
    """The number of values is in the interval: of an array its length, of null or nothing 0, of all else 1."""

    interval: Interval


ElementTest = OneOf | NoneOf | StartsWith | HasWords | HasSomeWord | HasPhrase | InNumbers | InDates | InArea
Test = ElementTest | IsEmpty | IsNull | HasCount


@dataclass(frozen=True, slots=True)
class Field:
    """A test of what a path leads to."""

    path: JsonPath
    test: Test


@dataclass(frozen=True, slots=True)
class HasId:
    """The point's key is one of these (see shards/point_ids.py)."""

    keys: frozenset[int]


@dataclass(frozen=True, slots=True)
class HasVector:
    """The point has a vector of this name."""

    name: str


@dataclass(frozen=True, slots=True)
class InSlice:
    """The point's id is in one of `total` slices (see slices.py)."""

    total: int
    index: int


@dataclass(frozen=True, slots=True)
class Nested:
    """One object of the array at `array` matches `node` by itself."""

    array: JsonPath
    node: Node


@dataclass(frozen=True, slots=True)
class And:
    """All hold; with no children every point matches."""

    children: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one holds; with no children no point matches."""

    children: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The child does not hold."""

    child: Node


@dataclass(frozen=True, slots=True)
class AtLeast:
    """So many of the children hold."""

    count: int
    children: tuple[Node, ...]


Leaf = Field | HasId | HasVector | InSlice
Node = Leaf | Nested | And | Or | Not | AtLeast

EVERYTHING = And(())
NOTHING = Or(())
