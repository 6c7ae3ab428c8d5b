"""A router's cache of answers to queries: an answer that is kept is given again if nothing that it depends on has changed.

Freshness: a kept answer carries the stamps of the shards at the moment of its search (shards/generations.py), and before it
is given the shards are asked how they stand now, by a probe that leaves after the request arrived and that all requests of
a turn share (cluster/generation_probe.py). So an answer is never older than the request, whichever router a write
went through. Where only some shards moved, only these are searched. A caller, or the settings, may allow an answer that was
checked a while ago; then nobody is asked, and the answer says so.

The same question asked by several at once is searched once. Who arrived before that search began has the answer as it is;
who came later checks it like any kept one, for a write may have been acknowledged in between.

A router that is short of time searches with less width (Question.narrow), but only where it searches: what is kept is of full
width, is looked for first, and an answer with less width is shared only among those who would get no better.

The queries of a batch are questions of their own, but searched together, and neither wait for others nor are waited for.

Answers that are partial, or of which a shard told no stamp, are not kept. What is evicted is deployments/cache_policy.py's
affair, keys are cache_key.py's. Lives on the router's loop.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from random import random
from typing import NamedTuple

from cluster.cached_reads import footprint_of
from cluster.requests import Footprint, SearchAnswer, SearchRequest
from cluster.scope import Scope
from cluster.shard_calls import countdown
from cluster.slots import slot_of_name
from cluster.state import CollectionState
from deployments.cache_counts import CacheCounts, Level
from deployments.cache_deadline import TimeLeft
from deployments.cache_entry import Entry, entry_of
from deployments.cache_flight import Flight, Found
from deployments.cache_key import Arrival, Directives, canonical_key, directives_of, raw_key
from deployments.cache_level_one import LevelOne
from deployments.cache_level_two import LevelTwo
from deployments.cache_question import Answer, BatchAnswer, BatchQuery, Question, SearchedCluster, SearchSome
from deployments.cache_sampler import Sampler
from deployments.cache_settings import CacheSettings
from deployments.http_coverage import LESS_WIDTH, coverage_json, degraded_json
from shards.errors import DeadlineExceeded, NotFound, ShoalError, StaleEpoch

FOOTPRINTS_MAX = 4096
_log = logging.getLogger(__name__)

JOINS_MAX = 2
"""Searches of others that one request waits for: the one under way when it came, and the next."""


class _Asked(NamedTuple):
    """A question on its way through the cache. `arrived_at_flight`: the newest flight when it came."""

    arrival: Arrival
    raw: bytes
    directives: Directives
    arrived_at_flight: int
    question: Question
    time: TimeLeft
    key: bytes
    footprint: Footprint

    @property
    def scope(self) -> Scope:
        """What its searches are held to: the answer is kept for this collection and these tenants."""
        return _scope(self.arrival)

    @property
    def kind(self) -> Hashable:
        """Searches of one kind take about as long. Widths count by their power of two: callers choose them, and a kind that
        was never searched has no time of its own.
        """
        request, is_narrowed = self.question.request, self.question.narrow is not None
        width = (request.ef or 0).bit_length()
        return self.footprint.asked.uid, request.vector, request.exact, width, bool(request.filter), is_narrowed


class _Check(NamedTuple):
    """A kept answer, and what came of asking whether it holds: the answer to give, or the shards that moved.
    `asked_at`: the loop's time before the probe was sent.
    """

    entry: Entry
    answer: Answer | None
    moved: Sequence[int]
    asked_at: float


class _Kept(NamedTuple):
    """An answer to a query of a batch. `age_s`: None where the shards vouch for it."""

    entry: Entry
    age_s: float | None


class ResultCache:
    """See the module. One per router."""

    def __init__(
        self,
        cluster: SearchedCluster,
        settings: CacheSettings,
        counts: CacheCounts | None = None,
        level_two: LevelTwo | None = None,
    ) -> None:
        self.counts = CacheCounts() if counts is None else counts
        self._level_two = level_two
        self._sampler = Sampler(settings.sample_fraction, self.counts, random)
        self._cluster = cluster
        self._settings = settings
        self._secret = secrets.token_bytes(16)
        self._level_one = LevelOne(settings.l1_bytes, self.counts)
        self._flights: dict[bytes, Flight] = {}
        self._flight_count = 0
        self._footprints: dict[Footprint, Footprint] = {}
        self._pressed_staleness_s = 0.0

    def __repr__(self) -> str:
        return f"<ResultCache: {len(self._level_one)} answers, {self.counts.l1_bytes} bytes>"

    def press(self, staleness_s: float, extras_allowed: bool) -> None:
        """The router is short of time, or no longer (deployments/degradation.py): how old an answer may be that any request
        gets, and whether some are compared with fresh ones.
        """
        self._pressed_staleness_s = staleness_s
        self._sampler.is_paused = not extras_allowed

    async def answer(self, arrival: Arrival, read: Callable[[], Question]) -> Answer:
        """The answer to a request; `read` its body where its bytes are not known. Raises what reading and searching raise."""
        arrived_at_flight = self._flight_count
        directives = directives_of(arrival.headers)
        raw = raw_key(arrival, self._secret)
        check = None
        if not directives.is_fresh and (entry := self._level_one.find(raw)) is not None:
            check = await self._check(entry, directives)
            if check.answer is not None:
                if self._sampler.picks():
                    self._sample(arrival, check.entry, read)
                return check.answer
        question = read()
        time = TimeLeft(question.deadline_s, countdown(question.deadline_s))
        plan, vectors = question.request[1:], question.request.vectors
        key = canonical_key(arrival, plan, question.shown, vectors.tobytes())
        footprint = self._shared(footprint_of(arrival.collection, question.request.filter))
        asked = _Asked(arrival, raw, directives, arrived_at_flight, question, time, key, footprint)
        if directives.is_fresh:
            self.counts.bypassed += 1
            return (await self._search(asked, None)).answer
        return await self._join_or_lead(asked, check)

    async def answer_all(
        self, arrival: Arrival, queries: Sequence[BatchQuery], search: SearchSome, deadline_s: float
    ) -> BatchAnswer:
        """The answers to a batch's queries, in order. What is kept in this router and holds, by one probe for all of it, is
        given; the rest is searched by one call of `search`, every shard anew, and kept. A question that comes twice is
        searched once. Nobody else's search is waited for, nor Redis. Raises what searching raises.
        """
        time = TimeLeft(deadline_s, countdown(deadline_s))
        directives = directives_of(arrival.headers)
        keys = [canonical_key(arrival, one.request[1:], one.shown, one.request.vectors.tobytes()) for one in queries]
        kept = {} if directives.is_fresh else await self._kept_of(keys, directives, time)
        numbers = {key: number for number, key in reversed([*enumerate(keys)]) if key not in kept}
        missing = sorted(numbers.values())
        asked_at = asyncio.get_running_loop().time()
        searched = await search(missing, time.search_s()) if missing else []
        points = {key: entry.points for key, (entry, _) in kept.items()}
        filters = {one.request.filter for one in queries}
        footprints = {one: self._shared(footprint_of(arrival.collection, one)) for one in filters}
        for number, found in zip(missing, searched, strict=True):
            key, footprint = keys[number], footprints[queries[number].request.filter]
            points[key] = found.points
            entry = entry_of(key, footprint, found.answer, found.points, asked_at)
            if entry is not None and not found.is_narrowed:
                self._level_one.put(entry)
        self._count_batch([kept.get(key) for key in keys], len(missing), directives)
        self.counts.cross_shard += sum(len(footprints[one.request.filter].shard_ids) > 1 for one in queries)
        stale_s = max((age_s for _, age_s in kept.values() if age_s is not None), default=None)
        return BatchAnswer([points[key] for key in keys], searched, sum(key in kept for key in keys), stale_s)

    async def clear(self, collection: CollectionState | None, tenant: str | None) -> tuple[int, bool | None]:
        """Let go of the answers of a collection (None: of all), or of its tenant: how many were here, and whether those that
        are shared count no more (None: none are shared).
        """
        uids = None if collection is None else {bytes.fromhex(collection.uid)}
        slot = None if tenant is None else slot_of_name(tenant)
        cleared = self._level_one.drop(
            lambda entry: (
                (uids is None or entry.footprint.asked.uid in uids)
                and (slot is None or not entry.footprint.asked.slots or slot in entry.footprint.asked.slots)
            )
        )
        if self._level_two is None:
            return cleared, None
        return cleared, await self._level_two.clear(None if collection is None else collection.uid, slot)

    async def _kept_of(self, keys: Sequence[bytes], directives: Directives, time: TimeLeft) -> dict[bytes, _Kept]:
        """Those answers to the questions of these keys that are kept and may be given."""
        entries = {key: entry for key in dict.fromkeys(keys) if (entry := self._level_one.get(key)) is not None}
        now = asyncio.get_running_loop().time()
        kept = {key: _Kept(entry, self._unchecked_age_s(entry, directives, now)) for key, entry in entries.items()}
        footprints = {entry.footprint for entry, age_s in kept.values() if age_s is None}
        if not footprints:
            return kept
        async with time.limits("what the shards say of kept answers"):
            told = await asyncio.gather(*map(self._cluster.stamps, footprints))
        stamps = dict(zip(footprints, told, strict=True))
        for key, (entry, age_s) in [*kept.items()]:
            if age_s is None:
                if entry.moved(stamps[entry.footprint]):
                    del kept[key]
                else:
                    entry.asked_at = max(entry.asked_at, now)
        return kept

    def _count_batch(self, kept: Sequence[_Kept | None], searched_count: int, directives: Directives) -> None:
        """`kept`: of each query; what comes again in the batch is answered by the same search."""
        counts = self.counts
        if directives.is_fresh:
            counts.bypassed += len(kept)
            return
        given = [one for one in kept if one is not None]
        again = len(kept) - len(given) - searched_count
        counts.unvalidated += sum(one.age_s is not None for one in given)
        counts.validated += sum(one.age_s is None for one in given)
        counts.hits_l1 += len(given) + again
        counts.shared_searches += again
        counts.misses += searched_count

    def _shared(self, footprint: Footprint) -> Footprint:
        """The same footprint for all answers that have it: there are few, and many answers."""
        if len(self._footprints) >= FOOTPRINTS_MAX:
            self._footprints.clear()
        return self._footprints.setdefault(footprint, footprint)

    def _sample(self, arrival: Arrival, entry: Entry, read: Callable[[], Question]) -> None:
        try:
            question = read()
        except ShoalError:  # just now its caller may have no tokens left: then there is no sample
            return
        except Exception:
            _log.exception("a kept answer was given; its question can't be read again to sample it")
            return
        search = partial(self._cluster.search, _scope(arrival), question.request, question.deadline_s)
        self._sampler.compare(entry, search, question.write)

    async def _check(self, entry: Entry, directives: Directives, level: Level = "l1") -> _Check:
        """Whether a kept answer may be given."""
        now = asyncio.get_running_loop().time()
        if (age_s := self._unchecked_age_s(entry, directives, now)) is not None:
            self.counts.unvalidated += 1
            self._count_hit(entry.footprint, "l1")
            return _Check(entry, Answer(entry.points, entry.shoal("l1", age_s)), (), now)
        moved = entry.moved(await self._cluster.stamps(entry.footprint))
        if moved:
            return _Check(entry, None, moved, now)
        entry.asked_at = max(entry.asked_at, now)
        self.counts.validated += 1
        self._count_hit(entry.footprint, level)
        return _Check(entry, Answer(entry.points, entry.shoal(level)), (), now)

    def _unchecked_age_s(self, entry: Entry, directives: Directives, now: float) -> float | None:
        """How old a kept answer is that may be given without asking the shards; None where it may not."""
        allowed_s = max(self._settings.staleness_s(directives.staleness_ms), self._pressed_staleness_s)
        age_s = now - entry.asked_at
        return age_s if allowed_s and age_s <= allowed_s else None

    async def _check_in_time(self, asked: _Asked, entry: Entry, level: Level = "l1") -> _Check:
        async with asked.time.limits("what the shards say of a kept answer"):
            return await self._check(entry, asked.directives, level)

    async def _join_or_lead(self, asked: _Asked, check: _Check | None) -> Answer:
        """Wait for whoever searches for the same, or search. One whose flights bring nothing goes on alone."""
        joined = 0
        while joined < JOINS_MAX:
            flight = self._flights.get(asked.key)
            if flight is None:
                return await self._lead(asked, check)
            self.counts.shared_searches += 1
            async with asked.time.limits("the answer to the same query, asked before,"):
                await flight.done.wait()
            if flight.was_given_up:
                continue
            joined += 1
            found = flight.found
            if found is None:
                break
            if found.is_narrowed and asked.question.narrow is None:
                continue
            answer = flight.answer_for(asked.arrived_at_flight)
            if answer is not None:
                self._count_hit(asked.footprint, "l1")
                return answer
            if found.entry is not None:
                newest = await self._check_in_time(asked, found.entry)
                if newest.answer is not None:
                    return _narrowed(newest.answer) if found.is_narrowed else newest.answer
                check = check if found.is_narrowed else newest
        return self._counted(asked, await self._search(asked, check))

    async def _lead(self, asked: _Asked, check: _Check | None) -> Answer:
        """Check what is kept, search what is not; whoever asks the same meanwhile waits for this."""
        self._flight_count += 1
        flight = self._flights[asked.key] = Flight(self._flight_count)
        try:
            check = await self._look(asked, check)
            if check is not None and check.answer is not None:
                flight.found = Found(check.answer, check.entry, is_whole=False)
                return check.answer
            flight.found = await self._search(asked, check)
            return self._counted(asked, flight.found)
        except (asyncio.CancelledError, DeadlineExceeded):
            flight.was_given_up = True
            raise
        finally:
            del self._flights[asked.key]
            flight.done.set()

    async def _look(self, asked: _Asked, check: _Check | None) -> _Check | None:
        """What is kept by the question's canonical key, checked; `check`, if there is nothing but what it is of."""
        entry = self._level_one.get(asked.key)
        if entry is not None:
            if check is not None and entry is check.entry:
                return check
            self._level_one.link(entry, asked.raw)
            return await self._check_in_time(asked, entry)
        if check is not None or self._level_two is None:
            return check
        entry = await self._level_two.find(asked.key, asked.footprint, asked.kind, asked.time.left_s())
        if entry is None:
            return None
        check = await self._check_in_time(asked, entry, "l2")
        if check.answer is not None:
            self._level_one.put(entry, asked.raw)
        return check

    async def _search(self, asked: _Asked, check: _Check | None) -> Found:
        """Search the shards that moved, or all of them, and keep the answer if it may be kept."""
        asked_at = asyncio.get_running_loop().time()
        question, request, answer = asked.question, asked.question.searched(), None
        if check is not None and len(check.moved) < len(check.entry.bodies):
            asked_at = check.asked_at
            answer = await self._search_moved(asked, request, check)
        is_whole = answer is None
        if answer is None:
            answer = await self._cluster.search(asked.scope, request, asked.time.search_s())
            if self._level_two is not None:
                self._level_two.observe(asked.kind, asyncio.get_running_loop().time() - asked_at)
        points = question.write(answer)
        entry = entry_of(asked.key, asked.footprint, answer, points, asked_at)
        whole_said = coverage_json(answer.coverage, answer.missing)
        said = whole_said if entry is None or is_whole else entry.shoal("shard")
        if request.ef != question.request.ef:
            return Found(_narrowed(Answer(points, said, answer.times)), entry, is_whole, is_narrowed=True)
        if entry is not None:
            self._keep(asked, entry)
        return Found(Answer(points, said, answer.times), entry, is_whole)

    def _keep(self, asked: _Asked, entry: Entry) -> None:
        self._level_one.put(entry, asked.raw)
        if self._level_two is not None:
            self._level_two.keep(entry)

    async def _search_moved(self, asked: _Asked, request: SearchRequest, check: _Check) -> SearchAnswer | None:
        """None where the collection is no longer what it was."""
        entry, moved = check.entry, check.moved
        kept = {shard_id: body for shard_id, body in entry.parts.items() if shard_id not in moved}
        try:
            answer = await self._cluster.search_moved(asked.scope, request, kept, moved, asked.time.search_s())
        except (StaleEpoch, NotFound):
            return None
        self.counts.moved_shards += len(moved)
        return answer

    def _counted(self, asked: _Asked, found: Found) -> Answer:
        if found.is_whole:
            self.counts.misses += 1
        else:
            self.counts.hits_shard += 1
        self.counts.cross_shard += len(asked.footprint.shard_ids) > 1
        return found.answer

    def _count_hit(self, footprint: Footprint, level: Level) -> None:
        self.counts.hit(level)
        self.counts.cross_shard += len(footprint.shard_ids) > 1


def _narrowed(answer: Answer) -> Answer:
    return answer._replace(shoal=degraded_json(answer.shoal, LESS_WIDTH))


def _scope(arrival: Arrival) -> Scope:
    return Scope(arrival.collection.name, arrival.collection.uid, arrival.tenants)
