"""A router's cache of answers to queries: an answer that is kept is given again if nothing that it depends on has changed.

Freshness: a kept answer carries the stamps of the shards at the moment of its search (shards/generations.py), and before it
is given the shards are asked how they stand now, by a probe that leaves after the request arrived and that all requests of
a turn share (cluster/generation_probe.py). So an answer is never older than the request, whichever router a write
went through. Where only some shards moved, only these are searched. A caller, or the settings, may allow an answer that was
checked a while ago; then nobody is asked, and the answer says so.

The same question asked by several at once is searched once. Who arrived before that search began has the answer as it is;
who came later checks it like any kept one, for a write may have been acknowledged in between.

Answers that are partial, or of which a shard told no stamp, are not kept. What is evicted is deployments/cache_policy.py's
affair, keys are cache_key.py's. Lives on the router's loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from random import random
from typing import NamedTuple

from cluster.cached_reads import footprint_of
from cluster.requests import Footprint, SearchAnswer
from cluster.scope import Scope
from cluster.slots import slot_of_name
from cluster.state import CollectionState
from deployments.cache_counts import CacheCounts, Level
from deployments.cache_entry import Entry, entry_of
from deployments.cache_key import Arrival, Directives, canonical_key, directives_of, raw_key
from deployments.cache_level_one import LevelOne
from deployments.cache_level_two import LevelTwo
from deployments.cache_question import Answer, Question, SearchedCluster
from deployments.cache_sampler import Sampler
from deployments.cache_settings import CacheSettings
from deployments.http_coverage import coverage_json
from shards.errors import DeadlineExceeded, NotFound, StaleEpoch

FOOTPRINTS_MAX = 4096
JOINS_MAX = 2
"""Searches of others that one request waits for: the one under way when it came, and the next."""


class _Asked(NamedTuple):
    """A question on its way through the cache."""

    arrival: Arrival
    raw: bytes
    question: Question
    key: bytes
    footprint: Footprint

    @property
    def scope(self) -> Scope:
        """What its searches are held to: the answer is kept for this collection and these tenants."""
        return _scope(self.arrival)

    @property
    def kind(self) -> Hashable:
        """Searches of one kind take about as long."""
        request = self.question.request
        return self.footprint.asked.uid, request.vector, request.exact, request.ef, bool(request.filter)


class _Check(NamedTuple):
    """A kept answer, and what came of asking whether it holds: the answer to give, or the shards that moved.
    `asked_at`: the loop's time before the probe was sent.
    """

    entry: Entry
    answer: Answer | None
    moved: Sequence[int]
    asked_at: float


class _Found(NamedTuple):
    """What a search gave. `is_whole`: every shard was searched."""

    answer: Answer
    entry: Entry | None
    is_whole: bool


class _Flight:
    """A search that is under way, and who waits for it. `number` counts up: who arrived before it began may have the answer
    of a whole search unchecked.
    """

    __slots__ = ("done", "entry", "is_whole", "number", "was_cancelled")

    def __init__(self, number: int) -> None:
        self.number = number
        self.entry: Entry | None = None
        self.is_whole = False
        self.was_cancelled = False
        """Whoever searched went away: nothing is known of the answer."""
        self.done = asyncio.Event()


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
        self._flights: dict[bytes, _Flight] = {}
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
        plan, vectors = question.request[1:], question.request.vectors
        key = canonical_key(arrival, plan, question.shown, vectors.tobytes())
        footprint = self._shared(footprint_of(arrival.collection, question.request.filter))
        asked = _Asked(arrival, raw, question, key, footprint)
        if directives.is_fresh:
            self.counts.bypassed += 1
            return (await self._search(asked, None)).answer
        return await self._join_or_lead(asked, check, directives, arrived_at_flight)

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

    def _shared(self, footprint: Footprint) -> Footprint:
        """The same footprint for all answers that have it: there are few, and many answers."""
        if len(self._footprints) >= FOOTPRINTS_MAX:
            self._footprints.clear()
        return self._footprints.setdefault(footprint, footprint)

    def _sample(self, arrival: Arrival, entry: Entry, read: Callable[[], Question]) -> None:
        # Just now its caller may have no tokens left, or would get less width: then there is no sample.
        with contextlib.suppress(Exception):
            question = read()
            search = partial(self._cluster.search, _scope(arrival), question.request, question.deadline_s)
            self._sampler.compare(entry, search, question.write)

    async def _check(self, entry: Entry, directives: Directives, level: Level = "l1") -> _Check:
        """Whether a kept answer may be given."""
        now = asyncio.get_running_loop().time()
        allowed_s = max(self._settings.staleness_s(directives.staleness_ms), self._pressed_staleness_s)
        if allowed_s and (age_s := now - entry.asked_at) <= allowed_s:
            self.counts.unvalidated += 1
            self._count_hit(entry, "l1")
            return _Check(entry, Answer(entry.points, entry.shoal("l1", age_s)), (), now)
        moved = entry.moved(await self._cluster.stamps(entry.footprint))
        if moved:
            return _Check(entry, None, moved, now)
        entry.asked_at = max(entry.asked_at, now)
        self.counts.validated += 1
        self._count_hit(entry, level)
        return _Check(entry, Answer(entry.points, entry.shoal(level)), (), now)

    async def _join_or_lead(
        self, asked: _Asked, check: _Check | None, directives: Directives, arrived_at_flight: int
    ) -> Answer:
        """Wait for whoever searches for the same, or search. One whose flights bring nothing goes on alone."""
        joined = 0
        while joined < JOINS_MAX:
            flight = self._flights.get(asked.key)
            if flight is None:
                return await self._lead(asked, check, directives)
            self.counts.shared_searches += 1
            asked = await _wait(flight, asked)
            if flight.was_cancelled:
                continue
            joined += 1
            if flight.entry is None:
                break
            if flight.is_whole and flight.number > arrived_at_flight:
                self._count_hit(flight.entry, "l1")
                return Answer(flight.entry.points, flight.entry.shoal("l1"))
            check = await self._check(flight.entry, directives)
            if check.answer is not None:
                return check.answer
        return self._counted(asked, await self._search(asked, check))

    async def _lead(self, asked: _Asked, check: _Check | None, directives: Directives) -> Answer:
        """Check what is kept, search what is not; whoever asks the same meanwhile waits for this."""
        self._flight_count += 1
        flight = self._flights[asked.key] = _Flight(self._flight_count)
        try:
            entry = self._level_one.get(asked.key)
            if entry is not None and (check is None or entry is not check.entry):
                self._level_one.link(entry, asked.raw)
                check = await self._check(entry, directives)
                if check.answer is not None:
                    flight.entry = entry
                    return check.answer
            elif check is None and self._level_two is not None:
                entry = await self._level_two.find(asked.key, asked.footprint, asked.kind)
                if entry is not None:
                    check = await self._check(entry, directives, "l2")
                    if check.answer is not None:
                        self._level_one.put(entry, asked.raw)
                        flight.entry = entry
                        return check.answer
            found = await self._search(asked, check)
            flight.entry, flight.is_whole = found.entry, found.is_whole
            return self._counted(asked, found)
        except asyncio.CancelledError:
            flight.was_cancelled = True
            raise
        finally:
            del self._flights[asked.key]
            flight.done.set()

    async def _search(self, asked: _Asked, check: _Check | None) -> _Found:
        """Search the shards that moved, or all of them, and keep the answer if it may be kept."""
        asked_at = asyncio.get_running_loop().time()
        answer = None
        if check is not None and len(check.moved) < len(check.entry.bodies):
            asked_at = check.asked_at
            answer = await self._search_moved(asked, check)
        is_whole = answer is None
        if answer is None:
            question = asked.question
            answer = await self._cluster.search(asked.scope, question.request, question.deadline_s)
            if self._level_two is not None:
                self._level_two.observe(asked.kind, asyncio.get_running_loop().time() - asked_at)
        points = asked.question.write(answer)
        entry = entry_of(asked.key, asked.footprint, answer, points, asked_at)
        if entry is not None:
            self._level_one.put(entry, asked.raw)
            if self._level_two is not None:
                self._level_two.keep(entry)
        if entry is None or is_whole:
            said = coverage_json(answer.coverage, answer.missing)
            return _Found(Answer(points, said, answer.times), entry, is_whole)
        return _Found(Answer(points, entry.shoal("shard")), entry, is_whole)

    async def _search_moved(self, asked: _Asked, check: _Check) -> SearchAnswer | None:
        """None where the collection is no longer what it was."""
        entry, moved = check.entry, check.moved
        kept = {shard_id: body for shard_id, body in entry.parts.items() if shard_id not in moved}
        question = asked.question
        try:
            answer = await self._cluster.search_moved(asked.scope, question.request, kept, moved, question.deadline_s)
        except (StaleEpoch, NotFound):
            return None
        self.counts.moved_shards += len(moved)
        return answer

    def _counted(self, asked: _Asked, found: _Found) -> Answer:
        if found.is_whole:
            self.counts.misses += 1
        else:
            self.counts.hits_shard += 1
        self.counts.cross_shard += len(asked.footprint.shard_ids) > 1
        return found.answer

    def _count_hit(self, entry: Entry, level: Level) -> None:
        self.counts.hit(level)
        self.counts.cross_shard += len(entry.footprint.shard_ids) > 1


def _scope(arrival: Arrival) -> Scope:
    return Scope(arrival.collection.name, arrival.collection.uid, arrival.tenants)


async def _wait(flight: _Flight, asked: _Asked) -> _Asked:
    """Wait for a flight's end; what is asked, with the time that is left for it."""
    clock, question = asyncio.get_running_loop().time, asked.question
    give_up_at = clock() + question.deadline_s
    try:
        async with asyncio.timeout_at(give_up_at):
            await flight.done.wait()
    except TimeoutError:
        waited_s = question.deadline_s
        raise DeadlineExceeded(f"the same query, asked before, did not come back within {waited_s:.3g} s") from None
    return asked._replace(question=question._replace(deadline_s=max(0.001, give_up_at - clock())))
