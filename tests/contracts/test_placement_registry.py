"""Placements in the model registry, on every backend: each change is kept, and the newest one holds."""

import json
from threading import Barrier, Thread

import obstore
import pytest

from recsys.errors import Conflict, InvalidInput
from recsys.recommender.placement import Placement, PlacementChange
from recsys.stores.model_registry.object_store import ObjectStoreModelRegistry

FEW, MANY = Placement(k=3, min_score=0.5), Placement(k=50, diversity=0.5)


def placements(registry: ObjectStoreModelRegistry) -> dict[str, Placement | None]:
    return {name: change.placement for name, change in registry.placements().items()}


def test_a_registry_without_changes_has_no_placements(registry: ObjectStoreModelRegistry) -> None:
    assert registry.placements() == {}
    assert registry.placement_history("home") == []
    assert registry.placement_history("No Name") == []


def test_the_newest_change_of_each_placement_holds_and_every_one_is_kept(registry: ObjectStoreModelRegistry) -> None:
    registry.change_placement("home", FEW, actor="ada")
    registry.change_placement("cart", FEW, actor="ada")
    changed = registry.change_placement("home", MANY, actor="bob")
    registry.change_placement("cart", None, actor="bob")
    assert placements(registry) == {"home": MANY, "cart": None}
    assert registry.placements()["home"] == changed
    history = registry.placement_history("home")
    assert [(one.sequence, one.actor, one.placement) for one in history] == [(1, "ada", FEW), (2, "bob", MANY)]
    assert history[0].changed_at <= history[1].changed_at
    assert [one.placement for one in registry.placement_history("cart")] == [FEW, None]


@pytest.mark.parametrize("name", ["", "Home", "../aliases/live", "a/b", "x" * 65])
def test_what_is_no_name_is_refused(registry: ObjectStoreModelRegistry, name: str) -> None:
    with pytest.raises(InvalidInput, match="placement"):
        registry.change_placement(name, FEW, actor="ada")


def test_an_unreadable_change_is_skipped(registry: ObjectStoreModelRegistry) -> None:
    registry.change_placement("home", FEW, actor="ada")
    newer = {"name": "home", "sequence": 2, "changed_at": "2026-01-01T00:00:00Z", "actor": "eve"}
    for sequence, placement in ((2, {"k": 0}), (3, {"unheard": "of"})):
        content = json.dumps(newer | {"placement": placement}).encode()
        obstore.put(registry._objects.store, f"placements/home/{sequence:08d}.json", content)
    obstore.put(registry._objects.store, "placements/notes.txt", b"remember the milk")
    assert placements(registry) == {"home": FEW}
    assert registry.change_placement("home", MANY, actor="ada").sequence == 4
    assert placements(registry) == {"home": MANY}


def test_of_operators_who_change_one_placement_at_once_nobody_is_lost_silently(
    registry: ObjectStoreModelRegistry,
) -> None:
    barrier = Barrier(4)
    won: list[PlacementChange] = []
    lost: list[Conflict] = []

    def change(actor: str) -> None:
        barrier.wait(timeout=30)
        for k in range(1, 6):
            try:
                won.append(registry.change_placement("home", Placement(k=k), actor=actor))
            except Conflict as conflict:
                lost.append(conflict)

    operators = [Thread(target=change, args=(name,)) for name in "abcd"]
    for operator in operators:
        operator.start()
    for operator in operators:
        operator.join(timeout=60)
    assert len(won) + len(lost) == 20
    assert registry.placement_history("home") == sorted(won, key=lambda one: one.sequence)
    assert [one.sequence for one in registry.placement_history("home")] == list(range(1, len(won) + 1))
