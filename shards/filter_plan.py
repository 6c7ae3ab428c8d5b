"""How a filtered search goes about it: over the graph, asking for more than is wanted, or over the matching rows alone. Pure.

A graph's search costs about as much for each candidate, whatever comes of it; of c candidates a filter that lets a fraction
s of the rows through leaves c x s. A scan costs for each matching row. So: many matches, ask the graph for 1 / s times as
many candidates; few, scan them, which is exact. What a filter leaves too few of (one that is correlated with the query)
is asked for more, then scanned (shards/sealed.py).
"""

from __future__ import annotations

CANDIDATE_COST = 40.0
"""A graph's candidate, in scanned rows of 50 dimensions: 20 where their vectors have to be collected first, 130 where they lie
side by side (shards/filter_memo.py). A tenth of 200,000 rows: 2.5 ms by the graph, 2 or 0.3 ms by a scan.
"""


def candidates_for(ef: int, matching_count: int, row_count: int) -> int:
    """Candidates that leave about `ef` of matching ones."""
    if not matching_count:
        return ef
    return min(row_count, -(-ef * row_count // matching_count))


def is_scan_cheaper(candidates: int, matching_count: int, row_count: int) -> bool:
    """Whether measuring every matching row costs less than walking the graph for so many candidates."""
    return matching_count <= CANDIDATE_COST * candidates or candidates >= row_count
