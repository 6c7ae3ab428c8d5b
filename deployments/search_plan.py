"""How a query's body is carried out: as a plan, which is a SearchRequest without its vectors, and what its answer shows."""

from __future__ import annotations

from typing import NamedTuple

from deployments.cost import read_cost, search_cost
from deployments.degradation import lowered_ef
from deployments.http_coverage import LESS_WIDTH
from deployments.http_filters import NO_FILTER, encoded_filter
from deployments.http_message import HttpContext, Request
from deployments.http_models import QueryBody, SearchParameters
from deployments.http_vectors import searched_vector
from deployments.limits import LimitSettings
from deployments.payload_selection import PayloadSelection, parse_selection
from deployments.vector_selection import VectorSelection, parse_vector_selection
from shards.errors import LimitExceeded
from shards.schema import CollectionSpec
from shards.vector_layout import UNNAMED

LIMIT_DEFAULT = 10
_NO_PARAMETERS = SearchParameters()


class Plan(NamedTuple):
    """A SearchRequest without its vectors, fields in its order. Queries with equal plans go out as one.

    A tuple, because it is made for every query and a frozen dataclass of so many fields costs 2 us.
    """

    k: int
    ef: int | None
    exact: bool
    score_threshold: float | None
    with_payload: bool
    with_vectors: bool
    offset: int
    vector: str
    filter: bytes
    min_coverage: float


class Shown(NamedTuple):
    """What an answer shows of a point."""

    payload: PayloadSelection
    vectors: VectorSelection


def shown_of(body: QueryBody, spec: CollectionSpec) -> Shown:
    """What the body asks to see. Raises InvalidRequest for names that the collection does not have."""
    return Shown(parse_selection(body.with_payload, default=False), parse_vector_selection(spec, body.vectors_shown))


def plan_of(body: QueryBody, shown: Shown, limits: LimitSettings, place: str = "") -> Plan:
    """The body's parameters; `place` is where it stands. Raises LimitExceeded and BadFilter."""
    parameters = body.params or _NO_PARAMETERS
    k = LIMIT_DEFAULT if body.limit is None else body.limit
    offset = body.offset or 0
    if k + offset > limits.k_max:
        raise LimitExceeded(f"limit + offset is {k + offset}; the limit k_max is {limits.k_max}")
    ef = parameters.hnsw_ef
    if ef is not None and ef > limits.ef_max:
        raise LimitExceeded(f"params.hnsw_ef is {ef}; the limit ef_max is {limits.ef_max}")
    exact, vector = parameters.exact is True, body.using or UNNAMED
    encoded = NO_FILTER if body.filter is None else encoded_filter(body.filter, limits, f"{place}filter")
    payload, vectors = shown.payload.wanted, shown.vectors.wanted
    return Plan(k, ef, exact, body.score_threshold, payload, vectors, offset, vector, encoded, 1.0)


def cost_of(body: QueryBody, plan: Plan, spec: CollectionSpec) -> float:
    """What it costs (deployments/cost.py)."""
    if body.query is None:
        return read_cost(plan.k + plan.offset, bool(plan.filter))
    ef = plan.ef or spec.hnsw_of(searched_vector(spec, plan.vector)).ef_search
    return search_cost(max(ef, plan.k + plan.offset), plan.exact, bool(plan.filter))


def fitted(context: HttpContext, request: Request, plan: Plan, spec: CollectionSpec) -> Plan:
    """The plan as it is carried out: a router that is short of time gives less width to who asks for none, and says so."""
    ef = fitted_ef(context, plan, spec)
    if ef == plan.ef:
        return plan
    context.admission.counts.lowered_ef += 1
    request.degraded = LESS_WIDTH
    return plan._replace(ef=ef)


def fitted_ef(context: HttpContext, plan: Plan, spec: CollectionSpec) -> int | None:
    """The width that a search gets now: the plan's own, or a lower one than its collection has."""
    fraction = context.admission.degradation.ef_fraction
    if fraction == 1.0 or plan.ef is not None or plan.exact:
        return plan.ef
    usual = spec.hnsw_of(searched_vector(spec, plan.vector)).ef_search
    ef = lowered_ef(usual, plan.k + plan.offset, fraction)
    return plan.ef if ef == usual else ef
