"""What the supervisor decides, by value: a catalogue and observed shards in, acts and the visible state out."""

from __future__ import annotations

from cluster.catalogue_model import Catalogue, new_catalogue
from cluster.reconcile import (
    CreateFolder,
    DropCollection,
    EnsureCollection,
    ForgetCollection,
    MarkReady,
    ObservedShard,
    RollBack,
    StartShard,
    apply_action,
    plan_catalogue,
    plan_folders,
    plan_shard,
    visible_state,
)
from cluster.state import ShardAddress, Status
from shards.distance import Distance
from shards.errors import StorageFull
from shards.report import CollectionOrder, ShardReport
from shards.schema import CollectionSpec, VectorSpec

SPEC = CollectionSpec(vectors={"": VectorSpec(size=4, distance=Distance.COSINE)})
UID = "a" * 32
NEW = new_catalogue("c", "n", 2)
REPORT = ShardReport("127.0.0.1", 4711, "life 1", None, 99)
RUNNING = ObservedShard().heard(REPORT)


def with_collection(status: Status, shard_count: int | None = None) -> Catalogue:
    return NEW.as_initialised().creating("words", UID, SPEC, shard_count).moved(UID, status)


def test_folders_are_made_before_initialised_and_never_again() -> None:
    assert [(act.shard_id, act.node_id) for act in plan_folders(NEW)] == [(0, "n"), (1, "n")]
    assert all(isinstance(act, CreateFolder) and act.reason for act in plan_folders(NEW))
    assert plan_folders(NEW.as_initialised()) == []


def test_a_missing_process_is_started_and_the_reason_told() -> None:
    assert plan_shard(NEW, 0, ObservedShard()) == [StartShard("no process of it is known")]
    assert plan_shard(NEW, 0, RUNNING.gone("it died")) == [StartShard("it died")]


def test_a_silent_process_is_left_alone() -> None:
    assert plan_shard(with_collection("creating"), 0, RUNNING.silent()) == []


def test_a_collection_is_made_while_creating_and_only_opened_when_ready() -> None:
    for status, create in (("creating", True), ("ready", False)):
        [act] = plan_shard(with_collection(status), 0, RUNNING)
        assert isinstance(act, EnsureCollection)
        assert act.order == CollectionOrder(UID, SPEC, 1, create)
        assert plan_shard(with_collection(status), 0, RUNNING.opened(UID)) == []  # type: ignore[arg-type]


def test_a_shard_that_has_no_part_of_a_collection_hears_nothing_of_it() -> None:
    for status in ("creating", "ready", "deleting"):
        assert plan_shard(with_collection(status, 1), 1, RUNNING) == []  # type: ignore[arg-type]


def test_a_new_life_opens_everything_again() -> None:
    again = RUNNING.opened(UID).heard(ShardReport("127.0.0.1", 4712, "life 2", None, 100))
    assert [type(act) for act in plan_shard(with_collection("ready"), 0, again)] == [EnsureCollection]
    same = RUNNING.opened(UID).silent().heard(REPORT)
    assert plan_shard(with_collection("ready"), 0, same) == []


def test_a_deleted_collection_is_dropped_once_a_life() -> None:
    deleting = with_collection("deleting")
    assert [type(act) for act in plan_shard(deleting, 0, RUNNING.opened(UID))] == [DropCollection]
    assert plan_shard(deleting, 0, RUNNING.opened(UID).dropped_one(UID)) == []


def test_ready_when_every_shard_has_made_its_part() -> None:
    creating, made = with_collection("creating"), RUNNING.opened(UID)
    assert plan_catalogue(creating, {0: made, 1: RUNNING}, {}) == []
    assert plan_catalogue(creating, {0: made}, {}) == []
    [act] = plan_catalogue(creating, {0: made, 1: made}, {})
    assert isinstance(act, MarkReady)
    assert apply_action(creating, act).find_ready("words").uid == UID


def test_a_refusal_rolls_back() -> None:
    creating, made = with_collection("creating"), RUNNING.opened(UID)
    [act] = plan_catalogue(creating, {0: made, 1: RUNNING}, {UID: StorageFull("no room on shard 1")})
    assert act == RollBack(UID, "no room on shard 1")
    assert apply_action(creating, act).find("words") is None


def test_a_refusal_that_comes_too_late_changes_nothing() -> None:
    ready = with_collection("ready")
    assert plan_catalogue(ready, {0: RUNNING, 1: RUNNING}, {UID: StorageFull("late")}) == []


def test_forgotten_when_every_shard_has_dropped_its_part() -> None:
    deleting, dropped = with_collection("deleting"), RUNNING.dropped_one(UID)
    assert plan_catalogue(deleting, {0: dropped, 1: RUNNING.silent()}, {}) == []
    [act] = plan_catalogue(deleting, {0: dropped, 1: dropped}, {})
    assert isinstance(act, ForgetCollection)
    assert apply_action(deleting, act).collections == {}


def test_routers_see_ready_collections_only() -> None:
    for status, names in (("creating", []), ("ready", ["words"]), ("deleting", [])):
        state = visible_state(with_collection(status), {}, 7)  # type: ignore[arg-type]
        assert list(state.collections) == names
        assert (state.version, state.cluster_id) == (7, "c")


def test_an_address_is_shown_once_every_ready_collection_is_open() -> None:
    ready = with_collection("ready")
    first, second = visible_state(ready, {0: RUNNING.opened(UID), 1: RUNNING}, 1).shards
    assert first.address == ShardAddress(host="127.0.0.1", port=4711)
    assert first.problem is None
    assert second.address is None
    assert second.problem == "shard 1 is opening 1 collections"


def test_a_collection_in_the_making_hides_no_address() -> None:
    assert all(
        shard.address for shard in visible_state(with_collection("creating"), {0: RUNNING, 1: RUNNING}, 1).shards
    )


def test_a_silent_shard_keeps_its_address_and_a_dead_one_does_not() -> None:
    state = visible_state(NEW, {0: RUNNING.silent(), 1: RUNNING.gone("it died")}, 1)
    assert state.shards[0].address is not None
    assert (state.shards[1].address, state.shards[1].problem) == (None, "it died")


def test_a_shard_that_lost_its_files_is_shown_with_its_problem() -> None:
    lost = ObservedShard().heard(ShardReport("127.0.0.1", 4711, "life 1", "its folder is missing", 99))
    shard = visible_state(NEW, {0: lost}, 1).shards[0]
    assert (shard.address is not None, shard.problem) == (True, "its folder is missing")
