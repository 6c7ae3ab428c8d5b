"""What requests cost, in tokens: 1 is a plain search (k 10 at the default width, no filter). Pure arithmetic on what a
request says; nothing is asked for it.

search                  its width, max(ef, k + offset), in units of 80 (the default `ef_search`), at least 1; twice
                        that with a filter
exact search            50, twice that with a filter
write                   10; an upsert 1 for each further point (a place in a graph takes as long as a search), others
                        0.1 for each further id; twice that where a filter selects
retrieve, scroll, count 1, and 0.01 for each point that may come back; twice that with a filter or an order
batch                   the sum

How selective a filter is, is known to shards only: one that lets much through costs a search little more, one that
lets little through is answered from few rows; between the two a search is repeated, wider. So it counts twice.
Dimensions are left out: they weigh on all requests of a collection alike.
"""

from __future__ import annotations

READ_COST = 1.0
WRITE_COST = 10.0
"""What a request is charged before its body is read; the rest follows when the body has been parsed."""
PLAIN_COST_MAX = 4.0
"""Reads up to this cost are plain: their latency tells how busy a router is, not how much was asked."""
WIDTH_UNIT = 80
EXACT_COST = 50.0
FILTER_FACTOR = 2.0
RETURNED_COST = 0.01
POINT_COST = 1.0
ID_COST = 0.1


def search_cost(width: int, exact: bool, filtered: bool) -> float:
    """One query. `width`: max(ef, k + offset)."""
    cost = EXACT_COST if exact else max(READ_COST, width / WIDTH_UNIT)
    return cost * FILTER_FACTOR if filtered else cost


def read_cost(point_count: int, filtered: bool = False) -> float:
    """Points that are looked up or listed, at most so many."""
    cost = READ_COST + RETURNED_COST * point_count
    return cost * FILTER_FACTOR if filtered else cost


def upsert_cost(point_count: int) -> float:
    """Points, or vectors of points, that are written."""
    return WRITE_COST + POINT_COST * max(0, point_count - 1)


def change_cost(id_count: int | None) -> float:
    """Points that are changed or deleted: so many ids, or what a filter selects (None)."""
    if id_count is None:
        return WRITE_COST * FILTER_FACTOR
    return WRITE_COST + ID_COST * max(0, id_count - 1)


def weight_of(cost: float, writes: bool) -> float:
    """What a request in progress takes of a router's and its shards' attention. A write mostly waits for the disk, together
    with others, and its graph is built later; so it counts as two searches, whatever it costs.
    """
    return 2.0 if writes else cost
