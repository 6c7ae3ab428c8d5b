"""From the grammar to the normal form: what can be said in several ways becomes one.

The result has no clause that constrains nothing, no list of one, and no `AtLeast` that is an And or an Or.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from shards.filters import grammar
from shards.filters.conditions import (
    EVERYTHING,
    NOTHING,
    And,
    AtLeast,
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
    Interval,
    IsEmpty,
    IsNull,
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
from shards.filters.geometry import GeoBox, GeoCircle, GeoPolygon, Ring
from shards.filters.paths import JsonPath, parse_path
from shards.filters.words import words
from shards.point_ids import parse_point_id


def normal_form(parsed: grammar.Filter) -> Node:
    """The filter as a tree of conditions."""
    parts = _nodes(parsed.must)
    should = _nodes(parsed.should)
    if should:
        parts.append(_or(should))
    parts += [_not(node) for node in _nodes(parsed.must_not)]
    if parsed.min_should is not None:
        parts.append(_at_least(parsed.min_should.min_count, _nodes(parsed.min_should.conditions)))
    return _and(parts)


def _nodes(clause: grammar.Clause | None) -> list[Node]:
    if clause is None:
        return []
    conditions = clause if isinstance(clause, list) else [clause]
    return [_node(condition) for condition in conditions]


def _node(condition: grammar.Condition) -> Node:
    if isinstance(condition, grammar.FieldCondition):
        return _field(condition)
    if isinstance(condition, grammar.IsEmptyCondition):
        return Field(parse_path(condition.is_empty.key), IsEmpty())
    if isinstance(condition, grammar.IsNullCondition):
        return Field(parse_path(condition.is_null.key), IsNull())
    if isinstance(condition, grammar.HasIdCondition):
        return HasId(frozenset(map(parse_point_id, condition.has_id)))
    if isinstance(condition, grammar.HasVectorCondition):
        return HasVector(condition.has_vector)
    if isinstance(condition, grammar.SliceCondition):
        return InSlice(condition.slice.total, condition.slice.index)
    if isinstance(condition, grammar.NestedCondition):
        return Nested(_array_path(condition.nested.key), normal_form(condition.nested.filter))
    return normal_form(condition)


def _array_path(text: str) -> JsonPath:
    """`a[]` is `a`: the array itself."""
    steps = parse_path(text).steps
    return JsonPath(steps[:-1] if steps[-1] is None else steps)


def _field(condition: grammar.FieldCondition) -> Node:
    path = parse_path(condition.key)
    if condition.is_empty is not None:
        return _positive_if(condition.is_empty, Field(path, IsEmpty()))
    if condition.is_null is not None:
        return _positive_if(condition.is_null, Field(path, IsNull()))
    return Field(path, _test(condition))


def _positive_if(positive: bool, node: Node) -> Node:
    return node if positive else Not(node)


def _test(condition: grammar.FieldCondition) -> Test:
    if condition.match is not None:
        return _match(condition.match)
    if condition.range is not None:
        return _range(condition.range)
    if condition.values_count is not None:
        bounds = condition.values_count
        return HasCount(_interval(bounds.gt, bounds.gte, bounds.lt, bounds.lte))
    if condition.geo_bounding_box is not None:
        top_left, bottom_right = condition.geo_bounding_box.top_left, condition.geo_bounding_box.bottom_right
        return InArea(GeoBox(top_left.lat, top_left.lon, bottom_right.lat, bottom_right.lon))
    if condition.geo_radius is not None:
        center = condition.geo_radius.center
        return InArea(GeoCircle(center.lat, center.lon, condition.geo_radius.radius))
    assert condition.geo_polygon is not None, "the grammar asks for exactly one"
    polygon = condition.geo_polygon
    return InArea(GeoPolygon(_ring(polygon.exterior), tuple(map(_ring, polygon.interiors or ()))))


def _ring(ring: grammar.GeoRing) -> Ring:
    return tuple((point.lat, point.lon) for point in ring.points)


def _match(match: grammar.Match) -> Test:
    if match.value is not None:
        return OneOf(type(match.value), frozenset([match.value]))
    if match.any is not None:
        return OneOf(_kind(match.any), frozenset(match.any))
    if match.except_ is not None:
        return NoneOf(_kind(match.except_), frozenset(match.except_))
    if match.prefix is not None:
        return StartsWith(match.prefix)
    if match.text is not None:
        return HasWords(_distinct_words(match.text))
    if match.text_any is not None:
        return HasSomeWord(_distinct_words(match.text_any))
    assert match.phrase is not None, "the grammar asks for exactly one"
    return HasPhrase(tuple(words(match.phrase)))


def _kind(values: Sequence[int | str]) -> type[int] | type[str]:
    return int if values and isinstance(values[0], int) else str


def _distinct_words(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(words(text)))


def _range(bounds: grammar.Range) -> Test:
    if not bounds.is_of_dates:
        numbers = (
            None if bound is None else float(bound) for bound in (bounds.gt, bounds.gte, bounds.lt, bounds.lte)
        )
        return InNumbers(_interval(*numbers))
    instants = (None if bound is None else instant(bound) for bound in (bounds.gt, bounds.gte, bounds.lt, bounds.lte))
    return InDates(_interval(*instants))


def _interval(gt: float | None, gte: float | None, lt: float | None, lte: float | None) -> Interval:
    """The values that meet all bounds."""
    above, from_ = -math.inf if gt is None else gt, -math.inf if gte is None else gte
    below, to = math.inf if lt is None else lt, math.inf if lte is None else lte
    return Interval(
        low=max(above, from_),
        high=min(below, to),
        low_open=gt is not None and above >= from_,
        high_open=lt is not None and below <= to,
    )


def _and(nodes: list[Node]) -> Node:
    return _combined(And, NOTHING, nodes)


def _or(nodes: list[Node]) -> Node:
    return _combined(Or, EVERYTHING, nodes)


def _combined(kind: type[And] | type[Or], deciding: Node, nodes: list[Node]) -> Node:
    """The nodes as children of one, those of the same kind among them replaced by their own; `deciding`: one such settles
    the whole.
    """
    flat: list[Node] = []
    for node in nodes:
        flat += node.children if isinstance(node, kind) else [node]
    if deciding in flat:
        return deciding
    return flat[0] if len(flat) == 1 else kind(tuple(flat))


def _not(node: Node) -> Node:
    if isinstance(node, Not):
        return node.child
    if node in (EVERYTHING, NOTHING):
        return NOTHING if node == EVERYTHING else EVERYTHING
    return Not(node)


def _at_least(count: int, nodes: list[Node]) -> Node:
    if count > len(nodes):
        return NOTHING
    if count == 1:
        return _or(nodes)
    return _and(nodes) if count == len(nodes) else AtLeast(count, tuple(nodes))
