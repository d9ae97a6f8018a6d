"""What the model registry accepts it can read again; what it could not is refused by name, and nothing is written."""

from datetime import UTC, datetime
from math import nan
from pathlib import Path
from typing import Any

import msgspec
import obstore
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys.clients.objects import Objects
from recsys.errors import InvalidInput, NotFound
from recsys.experiments.rollout import MAX_STEPS, STEPS, checked_steps
from recsys.models.alias_move import CANARY, LIVE
from recsys.recommender.placement import Boost, Candidates, Placement, Source
from recsys.stores.model_registry.aliases import promote
from recsys.stores.model_registry.object_store import ObjectStoreModelRegistry
from recsys.stores.model_registry.rollouts import start_canary
from recsys.stores.receipts import ErasureReceipts
from recsys.stores.settings_log.object_store import ObjectStoreSettingsLog
from tests.contracts.model_registry.tiny_versions import FILES, Publish, manifest_of, write_files

AT = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def two(registry: ObjectStoreModelRegistry, publish: Publish) -> ObjectStoreModelRegistry:
    """`v1`, live, and `v2`."""
    publish(registry, "v1", 0, FILES)
    publish(registry, "v2", 1, FILES)
    promote(registry, "v1", actor="ada", reason="start")
    return registry


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"steps": [n / 100 for n in range(1, 30)]}, "steps"),
        ({"steps": [n / 100 for n in range(1, MAX_STEPS + 1)]}, "steps"),
        ({"step_seconds": nan}, "rollout.step_seconds"),
        ({"step_seconds": 1e9}, "rollout.step_seconds"),
        ({"reason": "\ud800"}, "entry"),
    ],
)
def test_a_canary_that_nobody_could_read_is_refused(
    two: ObjectStoreModelRegistry, change: dict[str, Any], field: str
) -> None:
    arguments: dict[str, Any] = {"actor": "ada", "reason": "let us see", "steps": STEPS, **change}
    with pytest.raises(InvalidInput) as refusal:
        start_canary(two, "v2", **arguments)
    assert refusal.value.field == field
    assert two.alias(CANARY) is None
    assert [move.alias for move in two.history()] == [LIVE]


def test_as_many_steps_as_there_may_be_can_be_read(two: ObjectStoreModelRegistry) -> None:
    steps = checked_steps([n / 100 for n in range(1, MAX_STEPS)])
    move = start_canary(two, "v2", actor="a" * 5000, reason="r\n\x00é" * 5000, steps=steps)
    assert two.alias(CANARY) == move


def test_a_version_whose_manifest_nobody_could_read_is_refused(
    registry: ObjectStoreModelRegistry, tmp_path: Path
) -> None:
    files = write_files(tmp_path, FILES)
    manifest = msgspec.structs.replace(manifest_of("v1"), metrics={"recall": nan})
    with pytest.raises(InvalidInput, match=r"metrics\[\.\.\.\]"):
        registry.publish(manifest, files)
    assert registry.versions() == []
    with pytest.raises(NotFound):
        registry.manifest("v1")


names = st.text(min_size=1, max_size=8).filter(lambda text: not any("\ud800" <= one <= "\udfff" for one in text))
placements = st.builds(
    Placement,
    k=st.integers(1, 500),
    sources=st.lists(st.builds(Candidates, st.sampled_from(Source), st.floats(0.1, 1000)), min_size=1, max_size=8).map(
        tuple
    ),
    filter=st.sampled_from(["", "price < 5", 'categories = "tea" and not available']),
    boosts=st.lists(
        st.builds(Boost, st.just("price > 1"), st.floats(0.1, 100), st.dictionaries(names, names, max_size=3)),
        max_size=3,
    ).map(tuple),
    exclude_seen=st.dictionaries(st.sampled_from(["*", "view", "purchase"]), st.floats(0.1, 36_500)),
    min_score=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    properties=st.lists(names, max_size=5).map(tuple),
)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(placement=placements)
def test_a_placement_that_is_accepted_is_read_as_it_is(
    settings_log: ObjectStoreSettingsLog, placement: Placement
) -> None:
    body = msgspec.json.decode(msgspec.json.encode(placement), type=Placement)
    change = settings_log.change("home", body, actor="ada")
    assert settings_log.newest()["home"] == change == settings_log.history("home")[-1]
    assert change.placement == placement


def test_a_placement_that_nobody_could_read_is_refused(settings_log: ObjectStoreSettingsLog) -> None:
    for placement in (Placement(k=0), Placement(min_score=None, diversity=nan), Placement(sources=())):
        with pytest.raises(InvalidInput):
            settings_log.change("home", placement, actor="ada")
    assert settings_log.newest() == {}


def test_a_damaged_receipt_costs_that_receipt_alone(tmp_path: Path) -> None:
    objects = Objects(str(tmp_path))
    receipts = ErasureReceipts(objects)
    for receipt in ("one", "two"):
        receipts.request(receipt, "ada", AT)
        receipts.note("features", receipt, AT)
    (folder,) = [
        path.rpartition("/")[0]
        for path in (entry["path"] for entry in objects.entries("erasures"))
        if path.endswith("requested.json") and b'"one"' in (objects.get(path) or b"")
    ]
    obstore.put(objects.store, f"{folder}/requested.json", b"{")
    obstore.put(objects.store, "erasures/notes.txt", b"remember the milk")
    obstore.put(objects.store, "erasures/a/b/c.json", b"{}")
    assert receipts.of("one", "ada") is None
    assert [found.receipt for found in receipts.all()] == ["two"]
    assert receipts.reached()
