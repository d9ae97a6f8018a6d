"""The contract of the settings log, on every backend: each change is kept, and the newest one holds."""

import json
from threading import Barrier, Thread

import obstore
import pytest

from recsys.errors import Conflict, InvalidInput
from recsys.recommender.placement import Placement, PlacementChange
from recsys.stores.settings_log.object_store import ObjectStoreSettingsLog

FEW, MANY = Placement(k=3, min_score=0.5), Placement(k=50, diversity=0.5)


def placements(settings_log: ObjectStoreSettingsLog) -> dict[str, Placement | None]:
    return {name: change.placement for name, change in settings_log.newest().items()}


def test_a_log_without_changes_has_no_placements(settings_log: ObjectStoreSettingsLog) -> None:
    assert settings_log.newest() == {}
    assert settings_log.history("home") == []
    assert settings_log.history("No Name") == []


def test_the_newest_change_of_each_placement_holds_and_every_one_is_kept(settings_log: ObjectStoreSettingsLog) -> None:
    settings_log.change("home", FEW, actor="ada")
    settings_log.change("cart", FEW, actor="ada")
    changed = settings_log.change("home", MANY, actor="bob")
    settings_log.change("cart", None, actor="bob")
    assert placements(settings_log) == {"home": MANY, "cart": None}
    assert settings_log.newest()["home"] == changed
    history = settings_log.history("home")
    assert [(one.sequence, one.actor, one.placement) for one in history] == [(1, "ada", FEW), (2, "bob", MANY)]
    assert history[0].changed_at <= history[1].changed_at
    assert [one.placement for one in settings_log.history("cart")] == [FEW, None]


@pytest.mark.parametrize("name", ["", "Home", "../aliases/live", "a/b", "x" * 65])
def test_what_is_no_name_is_refused(settings_log: ObjectStoreSettingsLog, name: str) -> None:
    with pytest.raises(InvalidInput, match="placement"):
        settings_log.change(name, FEW, actor="ada")


def test_an_unreadable_change_is_skipped(settings_log: ObjectStoreSettingsLog) -> None:
    settings_log.change("home", FEW, actor="ada")
    newer = {"name": "home", "sequence": 2, "changed_at": "2026-01-01T00:00:00Z", "actor": "eve"}
    for sequence, placement in ((2, {"k": 0}), (3, {"unheard": "of"})):
        content = json.dumps(newer | {"placement": placement}).encode()
        obstore.put(settings_log._objects.store, f"placements/home/{sequence:08d}.json", content)
    obstore.put(settings_log._objects.store, "placements/notes.txt", b"remember the milk")
    assert placements(settings_log) == {"home": FEW}
    assert settings_log.change("home", MANY, actor="ada").sequence == 4
    assert placements(settings_log) == {"home": MANY}


def test_of_operators_who_change_one_placement_at_once_nobody_is_lost_silently(
    settings_log: ObjectStoreSettingsLog,
) -> None:
    barrier = Barrier(4)
    won: list[PlacementChange] = []
    lost: list[Conflict] = []

    def change(actor: str) -> None:
        barrier.wait(timeout=30)
        for k in range(1, 6):
            try:
                won.append(settings_log.change("home", Placement(k=k), actor=actor))
            except Conflict as conflict:
                lost.append(conflict)

    operators = [Thread(target=change, args=(name,)) for name in "abcd"]
    for operator in operators:
        operator.start()
    for operator in operators:
        operator.join(timeout=60)
    assert len(won) + len(lost) == 20
    assert settings_log.history("home") == sorted(won, key=lambda one: one.sequence)
    assert [one.sequence for one in settings_log.history("home")] == list(range(1, len(won) + 1))
