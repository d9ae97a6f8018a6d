"""Journey (c): promote and roll back while a client hammers, and journey (e): a corrupted version."""

from pathlib import Path

import httpx
import pytest

from recsys.stores.model_registry.aliases import promote
from tests.environment.deployment import Deployment
from tests.environment.versions import publish_small_version
from tests.environment.waiting import wait_until_sync
from tests.journeys.hammer import all_answers, hammering, move


@pytest.mark.parametrize("workers", [1, 2])
def test_no_request_fails_and_a_rollback_restores_every_byte(deployment: Deployment, workers: int) -> None:
    deployment.serve("--workers", str(workers))
    before = all_answers(deployment)
    assert {version for version, _ in before.values()} == {"first"}
    with hammering(deployment.url) as hammer:
        hammer.go_on()
        for _ in range(3):
            move(deployment, "second/promote")
            hammer.go_on()
            move(deployment, "rollback")
            hammer.go_on()
    assert hammer.failures == []
    assert {version for _, version in hammer.answers} == {"first", "second"}
    mixed = [key for key, answers in hammer.answers.items() if len(answers) != 1]
    assert mixed == [], "an answer mixed two versions"
    wait_until_sync(lambda: all_answers(deployment) == before, 5.0)


def test_a_version_corrupted_after_publishing_is_refused(deployment: Deployment, tmp_path: Path) -> None:
    publish_small_version(deployment.registry, tmp_path / "built", "broken", seed=9)
    victim = tmp_path / "registry" / "models" / "recommender" / "versions" / "broken" / "items.faiss"
    victim.write_bytes(victim.read_bytes()[:-7])
    deployment.serve()
    before = all_answers(deployment)
    with hammering(deployment.url) as hammer:
        refused = httpx.post(f"{deployment.url}/versions/broken/promote", json={"reason": "journey"}, timeout=30.0)
        assert refused.status_code == 409, refused.text
        assert "items.faiss" in refused.json()["detail"]
        # As if it had been damaged a moment after it was opened: whoever loads it refuses it all the same.
        promote(deployment.registry, "broken", actor="test", reason="journey")
        wait_until_sync(lambda: "index version refused" in deployment.output("serve"), 10.0)
        hammer.go_on()
    assert hammer.failures == []
    assert all_answers(deployment) == before
    assert 'millirec_index_load_failures_total{reason="corrupt"}' in httpx.get(f"{deployment.url}/metrics").text
