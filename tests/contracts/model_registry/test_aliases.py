"""Aliases, pins, pruning and leftovers on every backend."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import obstore
import pytest

from recsys.errors import Conflict, InvalidInput, NotFound
from recsys.stores.model_registry.aliases import aliases_of, pin, promote, rollback, unpin, versions_in_service
from recsys.stores.model_registry.object_store import ObjectStoreModelRegistry
from recsys.stores.model_registry.pruning import collect, prunable, prune
from tests.contracts.model_registry.tiny_versions import START, Publish

Point = Callable[..., None]


@pytest.fixture
def point(registry: ObjectStoreModelRegistry) -> Point:
    """`point(canary="v1")`; what is no name for Python goes as `point(**{"placement:home": "v1"})`."""

    def move(**versions: str) -> None:
        for alias, version in versions.items():
            promote(registry, version, actor="ada", reason=f"to {alias}", alias=alias)

    return move


@pytest.fixture
def five(registry: ObjectStoreModelRegistry, publish: Publish) -> list[str]:
    """`v0` to `v4`, a day apart, oldest first."""
    return [publish(registry, f"v{day}", day, {"a.npy": b"a"}).version for day in range(5)]


def test_every_alias_says_where_it_points(registry: ObjectStoreModelRegistry, five: list[str], point: Point) -> None:
    point(live="v0", canary="v1", candidate="v2", **{"placement:home": "v3"})
    point(live="v4")
    assert aliases_of(registry) == {
        "live": "v4",
        "previous": "v0",
        "canary": "v1",
        "candidate": "v2",
        "placement:home": "v3",
    }
    assert {alias: move.version for alias, move in registry.aliases().items()} == {
        alias: version for alias, version in aliases_of(registry).items() if alias != "previous"
    }


def test_an_alias_that_was_cleared_points_nowhere_and_its_history_says_who_did_it(
    registry: ObjectStoreModelRegistry, five: list[str], point: Point
) -> None:
    point(canary="v1")
    cleared = registry.move_alias("canary", None, actor="bob", reason="enough seen")
    assert (cleared.version, cleared.cleared, cleared.sequence) == ("v1", True, 2)
    assert registry.alias("canary") is None
    assert registry.aliases() == {}
    assert [(move.actor, move.cleared) for move in registry.history("canary")] == [("ada", False), ("bob", True)]
    with pytest.raises(NotFound, match="canary"):
        registry.move_alias("canary", None, actor="bob", reason="twice")
    point(canary="v1")
    assert registry.aliases()["canary"].sequence == 3


def test_the_live_alias_always_points_somewhere_and_the_previous_one_follows_from_it(
    registry: ObjectStoreModelRegistry, five: list[str], point: Point
) -> None:
    point(live="v1")
    for alias, version in (("live", None), ("previous", "v2"), ("previous", None)):
        with pytest.raises(InvalidInput, match=alias):
            registry.move_alias(alias, version, actor="ada", reason="")
    assert aliases_of(registry) == {"live": "v1"}


def test_one_history_tells_of_all_aliases_in_order(
    registry: ObjectStoreModelRegistry, five: list[str], point: Point
) -> None:
    point(live="v0", shadow="v1")
    pin(registry, "v0", actor="bob", reason="the audit wants it")
    point(live="v1")
    rollback(registry, actor="eve", reason="clicks fell")
    unpin(registry, "v0", actor="bob", reason="audited")
    told = [(move.alias, move.version, move.actor, move.reason, move.cleared) for move in registry.history()]
    assert told == [
        ("live", "v0", "ada", "to live", False),
        ("shadow", "v1", "ada", "to shadow", False),
        ("pin:v0", "v0", "bob", "the audit wants it", False),
        ("live", "v1", "ada", "to live", False),
        ("live", "v0", "eve", "rollback: clicks fell", False),
        ("pin:v0", "v0", "bob", "audited", True),
    ]


def test_events_are_folded_into_every_version_in_service_and_into_no_other(
    registry: ObjectStoreModelRegistry, five: list[str], point: Point
) -> None:
    assert versions_in_service(registry) == []
    point(live="v0")
    point(live="v1", canary="v2", shadow="v2", candidate="v4", **{"placement:home": "v3"})
    pin(registry, "v4", actor="ada", reason="kept, not served")
    assert versions_in_service(registry)[:2] == ["v1", "v0"]
    assert sorted(versions_in_service(registry)) == ["v0", "v1", "v2", "v3"]
    registry.move_alias("placement:home", None, actor="ada", reason="over")
    assert sorted(versions_in_service(registry)) == ["v0", "v1", "v2"]


def test_a_pinned_version_is_neither_pruned_nor_deleted_until_the_pin_is_taken_back(
    registry: ObjectStoreModelRegistry, five: list[str]
) -> None:
    pin(registry, "v0", actor="ada", reason="the audit wants it")
    assert prune(registry, keep=4, actor="ada", reason="room") == []
    with pytest.raises(Conflict, match="pin:v0"):
        registry.delete("v0")
    unpin(registry, "v0", actor="ada", reason="audited")
    assert prune(registry, keep=4, actor="ada", reason="room") == ["v0"]
    for call in (pin, unpin):
        with pytest.raises(NotFound, match="v0"):
            call(registry, "v0", actor="ada", reason="gone")


@pytest.mark.parametrize("alias", ["live", "canary", "shadow", "candidate", "placement:home", "pin:v1"])
def test_what_any_alias_points_at_is_not_pruned(
    registry: ObjectStoreModelRegistry, five: list[str], point: Point, alias: str
) -> None:
    point(**{alias: "v1"})
    assert prune(registry, keep=0, actor="ada", reason="room") == ["v0", "v2", "v3", "v4"]
    assert [one.version for one in registry.versions()] == ["v1"]


def test_what_a_rollback_would_bring_back_is_not_pruned(
    registry: ObjectStoreModelRegistry, five: list[str], point: Point
) -> None:
    point(live="v0")
    point(live="v3")
    assert prune(registry, keep=0, actor="ada", reason="room") == ["v1", "v2", "v4"]
    assert rollback(registry, actor="ada", reason="works").version == "v0"


def test_the_history_tells_who_deleted_what_and_why(registry: ObjectStoreModelRegistry, five: list[str]) -> None:
    prune(registry, keep=4, actor="ada", reason="the disk is full")
    registry.delete("v1", actor="bob", reason="poor")
    told = [(move.alias, move.version, move.actor, move.reason) for move in registry.history()]
    assert told == [("deleted:v0", "v0", "ada", "the disk is full"), ("deleted:v1", "v1", "bob", "poor")]
    assert [move.actor for move in registry.history("deleted:v1")] == ["bob"]
    assert registry.aliases() == {}, "it points nowhere, and keeps nothing"
    assert registry.alias("deleted:v0") is None
    with pytest.raises(InvalidInput, match="deleted"):
        registry.move_alias("deleted:v0", "v2", actor="eve", reason="back")


def test_pruning_keeps_the_newest_and_the_young(registry: ObjectStoreModelRegistry, five: list[str]) -> None:
    now = START + timedelta(days=10)
    assert prunable(registry, keep=2, now_time=now) == ["v0", "v1", "v2"]
    assert prunable(registry, keep=0, older_than=timedelta(days=8), now_time=now) == ["v0", "v1"]
    assert prunable(registry, keep=4, older_than=timedelta(days=8), now_time=now) == ["v0"]
    assert len(registry.versions()) == 5, "asking deletes nothing"


# Half-uploaded versions


def leave_half(registry: ObjectStoreModelRegistry, version: str) -> None:
    for name in ("a.npy", "b.npy"):
        obstore.put(registry._objects.store, f"models/recommender/versions/{version}/{name}", b"half")


def test_an_upload_that_never_ended_is_collected_and_one_in_progress_is_not(
    registry: ObjectStoreModelRegistry, five: list[str]
) -> None:
    leave_half(registry, "half")
    assert [one.version for one in registry.versions()] == five
    assert collect(registry) == []
    tomorrow = datetime.now(UTC) + timedelta(days=1, minutes=1)
    assert collect(registry, dry_run=True, now_time=tomorrow) == ["half"]
    assert collect(registry, now_time=tomorrow) == ["half"]
    assert registry._objects.entries("models/recommender/versions/half") == []
    assert collect(registry, now_time=tomorrow) == []
    assert [one.version for one in registry.versions()] == five


def test_a_deletion_that_was_interrupted_is_finished_by_collecting(
    registry: ObjectStoreModelRegistry, five: list[str]
) -> None:
    obstore.delete(registry._objects.store, "models/recommender/versions/v2/manifest.json")
    assert collect(registry, timedelta(0), now_time=datetime.now(UTC) + timedelta(minutes=1)) == ["v2"]
    assert registry._objects.entries("models/recommender/versions/v2") == []
