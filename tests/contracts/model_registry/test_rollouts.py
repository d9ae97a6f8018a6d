"""Rollouts in the registry, on every backend."""

from typing import TypedDict

import pytest

from recsys.errors import Conflict, InvalidInput, NotFound
from recsys.models.alias_move import CANARY, SHADOW
from recsys.stores.model_registry.aliases import promote, versions_in_service
from recsys.stores.model_registry.object_store import ObjectStoreModelRegistry
from recsys.stores.model_registry.rollouts import advance_canary, start_canary, start_shadow, stop
from tests.contracts.model_registry.tiny_versions import Publish


class Who(TypedDict):
    actor: str
    reason: str


WHO: Who = {"actor": "ada", "reason": "let us see"}
FILES = {"a.npy": b"a"}


@pytest.fixture
def two(registry: ObjectStoreModelRegistry, publish: Publish) -> ObjectStoreModelRegistry:
    """`v1`, live, and `v2`."""
    publish(registry, "v1", 0, FILES)
    publish(registry, "v2", 1, FILES)
    promote(registry, "v1", **WHO)
    return registry


def test_a_canary_goes_through_its_steps_and_ends_as_the_live_version(two: ObjectStoreModelRegistry) -> None:
    first = start_canary(two, "v2", steps=(0.1, 0.5), step_seconds=60.0, converts=("purchase",), **WHO)
    assert first.rollout is not None
    assert (first.rollout.share, first.rollout.control, first.rollout.steps) == (0.1, "v1", (0.1, 0.5, 1.0))
    second = advance_canary(two, actor="guard", reason="no breach")
    assert second.rollout is not None
    assert second.rollout.share == 0.5
    assert second.rollout.salt == first.rollout.salt, "the same users and more"
    assert set(versions_in_service(two)) == {"v1", "v2"}
    live = advance_canary(two, actor="guard", reason="passed")
    assert (live.alias, live.version) == ("live", "v2")
    assert two.alias(CANARY) is None
    assert [(move.actor, move.cleared) for move in two.history(CANARY)] == [
        ("ada", False),
        ("guard", False),
        ("guard", True),
    ]


def test_of_two_guards_that_judged_the_same_state_one_acts(two: ObjectStoreModelRegistry) -> None:
    seen = start_canary(two, "v2", **WHO)
    advance_canary(two, seen, **WHO)
    with pytest.raises(Conflict):
        advance_canary(two, seen, **WHO)
    with pytest.raises(Conflict):
        stop(two, CANARY, seen, **WHO)
    assert len(two.history(CANARY)) == 2


def test_a_canary_is_another_than_live_alone_and_starts_below_everybody(two: ObjectStoreModelRegistry) -> None:
    with pytest.raises(Conflict, match="live already"):
        start_canary(two, "v1", **WHO)
    with pytest.raises(NotFound):
        start_canary(two, "v3", **WHO)
    with pytest.raises(InvalidInput, match="steps"):
        start_canary(two, "v2", steps=(1.0,), **WHO)
    start_canary(two, "v2", **WHO)
    with pytest.raises(Conflict, match="stop it first"):
        start_canary(two, "v2", **WHO)
    assert stop(two, CANARY, **WHO).cleared
    with pytest.raises(NotFound):
        stop(two, CANARY, **WHO)
    with pytest.raises(NotFound):
        advance_canary(two, **WHO)


def test_a_canary_that_was_put_there_by_hand_has_no_steps_to_go(two: ObjectStoreModelRegistry) -> None:
    promote(two, "v2", alias=CANARY, **WHO)
    with pytest.raises(InvalidInput, match="without steps"):
        advance_canary(two, **WHO)


def test_a_shadow_gets_a_share_of_the_requests_until_it_is_stopped(two: ObjectStoreModelRegistry) -> None:
    move = start_shadow(two, "v2", share=0.25, **WHO)
    assert move.rollout is not None
    assert move.rollout.share == 0.25
    with pytest.raises(InvalidInput, match="share"):
        start_shadow(two, "v2", share=0.0, **WHO)
    with pytest.raises(Conflict, match="live already"):
        start_shadow(two, "v1", **WHO)
    stop(two, SHADOW, **WHO)
    assert two.alias(SHADOW) is None
