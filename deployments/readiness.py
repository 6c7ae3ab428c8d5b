"""Whether this router can answer: proved by searches, as users make them, not by being there.

A check searches up to COLLECTIONS_MAX collections for one nearest neighbour on every shard (in turn, so that all get
searched in the end; those that failed are searched again first), pings every shard, and looks at what these shards say of
their memory: all at once, within DEADLINE_S. Not ready means: a shard is silent, a search failed or missed shards, or a
shard refuses writes for want of memory. Each check searches for another vector, so that no cache answers for the shards.

A verdict is kept for AGE_S (BAD_AGE_S where it says no) and shared by all who ask meanwhile: anybody may ask, without a
key, and gets shards by number and errors by kind, never a collection's name. Names go to the log, when a verdict changes.

Readiness is not liveness. A router that is not ready is to be passed by while others are (HAProxy asks /readyz, see
haproxy_wrapper.py), but restarting it would not bring a shard back: Serve is told to restart a router by
`Coordinator.check_alive` alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np

from cluster.requests import SearchRequest
from cluster.scope import Scope
from deployments.cluster_api import ClusterApi
from deployments.shared_answer import SharedAnswer
from shards.distance import prepare_vectors
from shards.errors import Conflict, Internal, NotFound, Overloaded, ShoalError, StaleEpoch

DEADLINE_S = 1.0
AGE_S = 1.0
BAD_AGE_S = 0.1
"""Of a verdict that says no: short, because whoever starts or mends something waits for the next."""
COLLECTIONS_MAX = 4
REASONS_MAX = 10
RETRY_AFTER_S = 2

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Probe:
    """What came of one collection's search. `coverage`: the fraction of its shards that answered. `problem`: an error's
    code. `levels`: of memory, by shard.
    """

    collection: str
    coverage: float = 1.0
    problem: str | None = None
    levels: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reasons` and `detail` are for everybody: they name no collection. `failed`: collections to search again first."""

    reasons: tuple[str, ...]
    detail: Mapping[str, Any]
    failed: tuple[str, ...]
    at: float

    @property
    def is_ready(self) -> bool:
        return not self.reasons


def judge(probes: Sequence[Probe], silent: Mapping[int, str], shard_count: int, at: float) -> Verdict:
    """The verdict over a check's findings. `silent`: the code of each shard's error that did not answer its ping."""
    reasons = [f"shard {shard_id} does not answer ({code})" for shard_id, code in sorted(silent.items())]
    codes = [probe.problem for probe in probes if probe.problem is not None]
    reasons += [f"{codes.count(code)} of {len(probes)} searches failed ({code})" for code in sorted(set(codes))]
    coverage = min((probe.coverage for probe in probes), default=1.0)
    if coverage < 1.0:
        reasons.append(f"a search reached {coverage:.0%} of its shards")
    levels: dict[int, str] = {}
    for probe in probes:
        levels.update(probe.levels)
    refusing = sorted(shard_id for shard_id, level in levels.items() if level == "refuse")
    reasons += [f"shard {shard_id} refuses writes: its memory is used up" for shard_id in refusing]
    detail = {
        "searched_collections": len(probes),
        "failed_collections": len(codes),
        "coverage": coverage,
        "shards": {"count": shard_count, "silent": sorted(silent)},
        "memory": {
            "throttling_shards": sorted(shard_id for shard_id, level in levels.items() if level == "throttle"),
            "refusing_shards": refusing,
        },
    }
    failed = tuple(probe.collection for probe in probes if probe.problem is not None or probe.coverage < 1.0)
    return Verdict(tuple(reasons[:REASONS_MAX]), detail, failed, at)


def choose(names: Sequence[str], failed: Sequence[str], turn: int) -> list[str]:
    """Which collections the `turn`-th check searches, at most COLLECTIONS_MAX: what failed last, then the others in turn."""
    again = [name for name in failed if name in set(names)][: COLLECTIONS_MAX - 1]
    others = [name for name in names if name not in again]
    start = turn * COLLECTIONS_MAX % len(others) if others else 0
    return [*again, *(others[start:] + others[:start])[: COLLECTIONS_MAX - len(again)]]


class Readiness:
    """One per router, on its loop."""

    def __init__(self, cluster: ClusterApi) -> None:
        self._cluster = cluster
        self._shared = SharedAnswer(self._check, lambda verdict: AGE_S if verdict.is_ready else BAD_AGE_S)
        self._facts: dict[str, Callable[[], Any]] = {}
        self._turn = 0

    def report(self, name: str, read: Callable[[], Any]) -> None:
        """Show a number beside the verdict (such as `hit_rate`); it decides nothing."""
        self._facts[name] = read

    async def check(self) -> Verdict:
        """The verdict, at most AGE_S old. Takes DEADLINE_S at most, and raises for mistakes of ours only."""
        return await self._shared.get()

    def describe(self, verdict: Verdict) -> dict[str, Any]:
        """For everybody, as JSON."""
        facts = {name: read() for name, read in self._facts.items()}
        age_s = round(perf_counter() - verdict.at, 3)
        return {
            "ready": verdict.is_ready,
            "reasons": list(verdict.reasons),
            **verdict.detail,
            **facts,
            "age_s": age_s,
        }

    async def _check(self) -> Verdict:
        before = self._shared.newest
        state = self._cluster.state
        names = sorted(name for name, collection in state.collections.items() if collection.spec.vectors)
        chosen = choose(names, before.failed if before else (), self._turn)
        self._turn += 1
        ping = asyncio.ensure_future(self._cluster.silent_shards(DEADLINE_S))
        probes = await asyncio.gather(*(self._probe(name) for name in chosen))
        silent = {shard_id: error.code for shard_id, error in (await ping).items()}
        verdict = judge(probes, silent, len(state.shards), perf_counter())
        self._tell(verdict, before)
        return verdict

    async def _probe(self, name: str) -> Probe:
        try:
            async with asyncio.timeout(DEADLINE_S):
                collection = self._cluster.collection(name)
                scope, column = Scope(name, collection.uid), collection.spec.layout.columns[0]
                query = np.cos(np.arange(column.size, dtype=np.float32) + self._turn % 10_000)[None]
                query = prepare_vectors(query, column.distance, column.size, "query")
                answer = await self._cluster.search(scope, SearchRequest(query, k=1, vector=column.name), DEADLINE_S)
                told = await self._cluster.statistics(scope, DEADLINE_S) if answer.coverage >= 1.0 else []
                levels = {one.shard_id: str(one.memory.get("shard", {}).get("level", "normal")) for one in told}
                return Probe(name, answer.coverage, levels=levels)
        except (NotFound, Conflict, StaleEpoch, Overloaded):
            return Probe(name)  # dropped or replaced meanwhile, or there is too much to do: both are answers
        except TimeoutError:
            return Probe(name, problem="deadline_exceeded")
        except ShoalError as error:
            return Probe(name, problem=error.code)
        except Exception:  # a mistake of ours about one collection; the others still have a verdict
            _log.exception("searching %s for readiness failed", name)
            return Probe(name, problem=Internal.code)

    def _tell(self, verdict: Verdict, before: Verdict | None) -> None:
        if verdict.is_ready and before is not None and not before.is_ready:
            _log.warning("ready again")
        elif not verdict.is_ready and (before is None or before.reasons != verdict.reasons):
            level = logging.INFO if before is None else logging.WARNING  # at first the shards are just starting
            _log.log(level, "not ready: %s; collections: %s", "; ".join(verdict.reasons), list(verdict.failed))
