"""What to do next, given what should be (the catalogue) and what is (the observed shards); each act with its reason.

The supervisor calls these over and over and enacts what they return, so whatever was interrupted (a creation by a
crash, a deletion by a shard that was down) is finished by the next round, by whichever supervisor lives then:

    creating   every shard of it makes its part, or takes the one that it restored from a snapshot -> ready, and the
               collection that it replaces -> deleting; one of them refuses -> deleting
    ready      every shard has it open before the shard's address is shown
    deleting   every shard of it drops its part -> forgotten

A collection that a shard holds and the catalogue doesn't know is left alone: dropping what one doesn't know is how an
old catalogue, put back by hand, would destroy data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from cluster.catalogue_model import Catalogue, ShardRecord
from cluster.state import ClusterState, CollectionState, ShardAddress, ShardState
from shards.report import CollectionOrder, ShardReport


@dataclass(frozen=True, slots=True)
class ObservedShard:
    """What the supervisor knows of one shard's process.

    `report` is the last one heard, also while the process can't be reached. `open` and `dropped` are the collections
    (uids) that this life of the process has confirmed to have open, or dropped.
    """

    process: Literal["missing", "unreachable", "running"] = "missing"
    report: ShardReport | None = None
    open: frozenset[str] = frozenset()
    dropped: frozenset[str] = frozenset()
    trouble: str | None = None
    """Why the process is missing, where that is known."""

    def heard(self, report: ShardReport) -> ObservedShard:
        """After a report: what an earlier life confirmed no longer counts."""
        if self.report is not None and self.report.incarnation == report.incarnation:
            return replace(self, process="running", report=report, trouble=None)
        return ObservedShard("running", report)

    def silent(self) -> ObservedShard:
        """After no answer. The last address stays: the data plane may be well, and who uses it finds out at once."""
        return replace(self, process="unreachable")

    def gone(self, trouble: str) -> ObservedShard:
        """After proof that there is no process."""
        return ObservedShard("missing", trouble=trouble)

    def opened(self, uid: str) -> ObservedShard:
        return replace(self, open=self.open | {uid})

    def outdated(self, uid: str) -> ObservedShard:
        """After a change of what the shard has to know of a collection: it is told by opening it again."""
        return replace(self, open=self.open - {uid})

    def dropped_one(self, uid: str) -> ObservedShard:
        return replace(self, open=self.open - {uid}, dropped=self.dropped | {uid})


@dataclass(frozen=True, slots=True)
class CreateFolder:
    """Make the folder of a shard that the catalogue has just named."""

    shard_id: int
    node_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class StartShard:
    """Find the shard's process, or start one."""

    reason: str


@dataclass(frozen=True, slots=True)
class EnsureCollection:
    """Have the shard open its part of a collection."""

    order: CollectionOrder
    reason: str


@dataclass(frozen=True, slots=True)
class DropCollection:
    """Have the shard delete its part of a collection."""

    uid: str
    reason: str


@dataclass(frozen=True, slots=True)
class MarkReady:
    """Show the collection: every shard has made its part."""

    uid: str
    reason: str


@dataclass(frozen=True, slots=True)
class RollBack:
    """Give a creation up: some shard refused."""

    uid: str
    reason: str


@dataclass(frozen=True, slots=True)
class ForgetCollection:
    """Take the collection out of the catalogue: no shard has files of it."""

    uid: str
    reason: str


ShardAction = StartShard | EnsureCollection | DropCollection
CatalogueAction = MarkReady | RollBack | ForgetCollection
ObservedShards = Mapping[int, ObservedShard]


def plan_folders(catalogue: Catalogue) -> list[CreateFolder]:
    """The folders to make before the catalogue counts as initialised; never any later."""
    if catalogue.initialised:
        return []
    return [CreateFolder(item.shard_id, item.node_id, "the data folder is new") for item in catalogue.shards]


def plan_shard(catalogue: Catalogue, shard_id: int, observed: ObservedShard) -> list[ShardAction]:
    """What one shard's process needs. Nothing while it can't be reached: it may be well, or Ray is restarting it."""
    if observed.process == "missing":
        return [StartShard(observed.trouble or "no process of it is known")]
    if observed.process == "unreachable":
        return []
    ours = [item for item in catalogue.collections.values() if shard_id in item.shard_map.shard_ids]
    opens = [_ensure(item) for item in ours if item.status != "deleting" and item.uid not in observed.open]
    drops = [
        DropCollection(item.uid, f"collection {item.name} was deleted")
        for item in ours
        if item.status == "deleting" and item.uid not in observed.dropped
    ]
    return [*opens, *drops]


def _ensure(item: CollectionState) -> EnsureCollection:
    create = item.status == "creating"
    order = CollectionOrder(item.uid, item.spec, item.shard_map.epoch, create, item.restored and create)
    reason = "is being created" if create else "is ready, and this life of the shard has not opened it yet"
    return EnsureCollection(order, f"collection {item.name} {reason}")


def plan_catalogue(
    catalogue: Catalogue, observed: ObservedShards, refusals: Mapping[str, Exception]
) -> list[CatalogueAction]:
    """Which collections have come as far as their next status. `refusals`: why a creation (by uid) can't succeed."""
    actions: list[CatalogueAction] = []
    for item in catalogue.collections.values():
        parts = [observed.get(shard_id, ObservedShard()) for shard_id in item.shard_map.shard_ids]
        if item.status == "creating" and item.uid in refusals:
            actions.append(RollBack(item.uid, str(refusals[item.uid])))
        elif item.status == "creating" and all(item.uid in part.open for part in parts):
            actions.append(MarkReady(item.uid, f"{len(parts)} shards have made their part of {item.name}"))
        elif item.status == "deleting" and all(item.uid in part.dropped for part in parts):
            actions.append(ForgetCollection(item.uid, f"{len(parts)} shards have dropped their part of {item.name}"))
    return actions


def apply_action(catalogue: Catalogue, action: CatalogueAction) -> Catalogue:
    """The catalogue after one of the above."""
    match action:
        case MarkReady(uid):
            return catalogue.moved(uid, "ready")
        case RollBack(uid):
            return catalogue.moved(uid, "deleting")
        case ForgetCollection(uid):
            return catalogue.forgotten(uid)


def visible_state(catalogue: Catalogue, observed: ObservedShards, version: int) -> ClusterState:
    """What routers may see. A shard's address is shown once it has every ready collection open: one that has just
    restarted must not answer that it doesn't know a collection.
    """
    ready = catalogue.with_status("ready")
    shards = (
        _shard_state(record, observed.get(record.shard_id, ObservedShard()), ready) for record in catalogue.shards
    )
    return ClusterState(
        version=version,
        cluster_id=catalogue.cluster_id,
        shards=tuple(shards),
        collections={item.name: item for item in ready},
        keys=catalogue.keys,
        aliases=dict(catalogue.aliases),
    )


def _shard_state(record: ShardRecord, observed: ObservedShard, ready: list[CollectionState]) -> ShardState:
    report = observed.report
    if report is None:
        trouble = observed.trouble or f"shard {record.shard_id} is starting"
        return ShardState(shard_id=record.shard_id, node_id=record.node_id, problem=trouble)
    closed = sum(record.shard_id in item.shard_map.shard_ids and item.uid not in observed.open for item in ready)
    opening = f"shard {record.shard_id} is opening {closed} collections" if closed else None
    return ShardState(
        shard_id=record.shard_id,
        node_id=record.node_id,
        address=None if closed else ShardAddress(host=report.host, port=report.port),
        incarnation=report.incarnation,
        problem=report.problem or opening,
    )
