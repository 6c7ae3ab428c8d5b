"""What a filter means for one point: the rule that every faster way has to agree with.

A filter becomes a function once, and the function is asked for each point. Of children the cheap ones are asked first.

    elements      a test of elements passes where any element does; an array counts as its elements, one level deep
    types         bool, int and float never equal each other; a bool is no number; a float equals nothing
    NoneOf        null and missing fail; else an element outside the list passes
    IsEmpty       every value that the path leads to is null or `[]`, or there is none
    IsNull        some value is null, or an array with a null in it; a missing one is not null
    HasCount      missing and null count 0; where the path leads to several values, one has to meet both bounds
    Nested        the array's objects are asked one by one, each as if it were a payload; it has no id and no vectors
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any, NamedTuple, TypeVar

from shards.filters.conditions import (
    And,
    AtLeast,
    ElementTest,
    Field,
    HasCount,
    HasId,
    HasPhrase,
    HasSomeWord,
    HasVector,
    HasWords,
    InArea,
    InDates,
    InNumbers,
    InSlice,
    IsEmpty,
    IsNull,
    Leaf,
    Nested,
    Node,
    NoneOf,
    Not,
    OneOf,
    Or,
    StartsWith,
    Test,
)
from shards.filters.dates import instant
from shards.filters.geometry import coordinates
from shards.filters.paths import JsonPath, select, unwrap
from shards.filters.slices import slices_of
from shards.filters.words import has_phrase, words
from shards.point_ids import key_array


class Identity(NamedTuple):
    """What a condition may ask of a point beside its payload."""

    key: int
    vectors: Container[str]


NOBODY = Identity(-1, frozenset())
"""What an object inside a payload is."""

Who = TypeVar("Who")
Check = Callable[[Any, Who], bool]
"""Asked for a point: its payload, a parsed JSON object, and who it is."""


def matches(node: Node, payload: dict[str, Any], identity: Identity) -> bool:
    """Whether one point matches. For many points, take `compile_check` once."""
    return compile_check(node, check_of_leaf)(payload, identity)


def compile_check(node: Node, check_of: Callable[[Leaf | Nested], Check[Who]]) -> Check[Who]:
    """The filter as a function; `check_of` says how its leaves are checked."""
    if isinstance(node, And):
        return _all_of([compile_check(child, check_of) for child in _cheapest_first(node.children)])
    if isinstance(node, Or):
        return _any_of([compile_check(child, check_of) for child in _cheapest_first(node.children)])
    if isinstance(node, Not):
        check = compile_check(node.child, check_of)
        return lambda payload, who: not check(payload, who)
    if isinstance(node, AtLeast):
        return _so_many_of(node.count, [compile_check(child, check_of) for child in node.children])
    return check_of(node)


def check_of_leaf(leaf: Leaf | Nested) -> Check[Identity]:
    """How a leaf is checked where nothing but the point itself is known."""
    if isinstance(leaf, HasId):
        keys = leaf.keys
        return lambda _, who: who.key in keys
    if isinstance(leaf, HasVector):
        name = leaf.name
        return lambda _, who: name in who.vectors
    if isinstance(leaf, InSlice):
        total, index = leaf.total, leaf.index
        return lambda _, who: who.key >= 0 and int(slices_of(key_array([who.key]), total)[0]) == index
    check = check_of_payload(leaf)
    return lambda payload, _: check(payload)


def check_of_payload(leaf: Field | Nested) -> Callable[[Any], bool]:
    """How a condition on the payload is checked."""
    if isinstance(leaf, Nested):
        return _nested_check(leaf)
    path, test = leaf.path, leaf.test
    if isinstance(test, IsEmpty | IsNull | HasCount):
        whole = check_of_values(test)
        return lambda payload: whole(select(payload, path))
    return _element_check(path, check_of_element(test))


def check_of_element(test: ElementTest) -> Callable[[Any], bool]:
    """Whether one element passes. None, and so a missing value, never does."""
    if isinstance(test, OneOf):
        kind, values = test.kind, test.values
        return lambda value: type(value) is kind and value in values
    if isinstance(test, NoneOf):
        excluded_kind, excluded = test.kind, test.values
        return lambda value: value is not None and not (type(value) is excluded_kind and value in excluded)
    if isinstance(test, StartsWith):
        prefix = test.prefix
        return lambda value: type(value) is str and value.startswith(prefix)
    if isinstance(test, InNumbers):
        contains = test.interval.contains
        return lambda value: (type(value) is int or type(value) is float) and contains(value)
    if isinstance(test, InDates):
        in_interval = test.interval.contains
        return lambda value: type(value) is str and (at := instant(value)) is not None and in_interval(at)
    if isinstance(test, InArea):
        in_area = test.area.contains
        return lambda value: (point := coordinates(value)) is not None and bool(in_area(*point))
    return _text_check(test)


def check_of_values(test: IsEmpty | IsNull | HasCount) -> Callable[[list[Any]], bool]:
    """Whether all that a path leads to (arrays as they are) passes."""
    if isinstance(test, IsEmpty):
        return is_empty
    if isinstance(test, IsNull):
        return is_null
    contains = test.interval.contains
    return lambda values: any(contains(count) for count in value_counts(values))


def is_empty(values: list[Any]) -> bool:
    return all(value is None or value == [] for value in values)


def is_null(values: list[Any]) -> bool:
    return any(value is None or (type(value) is list and None in value) for value in values)


def value_counts(values: list[Any]) -> list[int]:
    """How many values each value is; at least one count."""
    return [_count(value) for value in values] or [0]


def cost_of(node: Node) -> int:
    """A rank, no unit: what is worth asking earlier."""
    if isinstance(node, Field):
        return _cost_of_test(node.test) + 2 * (len(node.path.steps) - 1)
    if isinstance(node, Nested):
        return 20 + 2 * cost_of(node.node)
    if isinstance(node, And | Or | AtLeast):
        return sum(cost_of(child) for child in node.children)
    return cost_of(node.child) if isinstance(node, Not) else 0


def _cost_of_test(test: Test) -> int:
    if isinstance(test, OneOf | NoneOf | StartsWith | InNumbers):
        return 1
    return 2 if isinstance(test, IsEmpty | IsNull | HasCount) else 10


def _cheapest_first(children: tuple[Node, ...]) -> list[Node]:
    return sorted(children, key=cost_of)


def _all_of(checks: list[Check[Who]]) -> Check[Who]:
    if len(checks) == 1:
        return checks[0]

    def check(payload: Any, who: Who) -> bool:
        for each in checks:  # noqa: SIM110 - `all` of a generator costs more than the checks
            if not each(payload, who):
                return False
        return True

    return check


def _any_of(checks: list[Check[Who]]) -> Check[Who]:
    if len(checks) == 1:
        return checks[0]

    def check(payload: Any, who: Who) -> bool:
        for each in checks:  # noqa: SIM110
            if each(payload, who):
                return True
        return False

    return check


def _so_many_of(count: int, checks: list[Check[Who]]) -> Check[Who]:
    return lambda payload, who: sum(check(payload, who) for check in checks) >= count


def _nested_check(leaf: Nested) -> Callable[[Any], bool]:
    check, array = compile_check(leaf.node, check_of_leaf), leaf.array

    def any_object(payload: Any) -> bool:
        return any(
            type(element) is dict and check(element, NOBODY)
            for value in select(payload, array)
            if type(value) is list
            for element in value
        )

    return any_object


def _element_check(path: JsonPath, passes: Callable[[Any], bool]) -> Callable[[Any], bool]:
    if len(path.steps) > 1:
        return lambda payload: any(map(passes, unwrap(select(payload, path))))
    name = path.steps[0]

    def check(payload: Any) -> bool:  # most paths are one name
        value = payload.get(name)
        return any(map(passes, value)) if type(value) is list else passes(value)

    return check


def _text_check(test: HasWords | HasSomeWord | HasPhrase) -> Callable[[Any], bool]:
    wanted, as_set = test.words, frozenset(test.words)
    if not wanted:
        return lambda value: False
    if isinstance(test, HasWords):
        return lambda value: type(value) is str and as_set.issubset(words(value))
    if isinstance(test, HasSomeWord):
        return lambda value: type(value) is str and not as_set.isdisjoint(words(value))
    return lambda value: type(value) is str and has_phrase(words(value), wanted)


def _count(value: Any) -> int:
    if value is None:
        return 0
    return len(value) if type(value) is list else 1
