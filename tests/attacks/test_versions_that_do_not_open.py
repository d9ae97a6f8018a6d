"""A version that no replica can open is never put in service, and a replica that lost its version has another."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

from recsys.models.manifest import FORMAT_VERSION, FileEntry, Manifest
from recsys.settings import StoreSettings
from recsys.stores.model_registry import ModelRegistry
from recsys.stores.model_registry.aliases import aliases_of, promote
from recsys.stores.model_registry.archive import export_version, import_version
from recsys.stores.model_registry.contents import MANIFEST
from tests.attacks.conftest import KEYS, keyed_environment
from tests.environment.deployment import Deployment, deployed
from tests.environment.fixtures import with_versions
from tests.environment.versions import publish_small_version
from tests.environment.waiting import wait_until_sync

ADMIN = {"X-API-Key": KEYS["admin"]}
DAMAGES = {
    "a flipped byte": "items.faiss: its checksum",
    "half a file": "item_factors.npy: .* bytes, but the manifest says",
    "a missing file": "popularity.npy: it is missing",
    "nonsense with the right checksum": "",
    "arrays of another shape": "shape",
    "a format of tomorrow": f"format {FORMAT_VERSION + 1}, this release reads {FORMAT_VERSION}",
    "an unreadable manifest": "manifest.json",
}


class AttackedService:
    """A running service, and versions in its registry that were damaged after they were published."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.registry = deployment.registry
        self.http = httpx.Client(base_url=deployment.url, headers=ADMIN, timeout=60.0)

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.http.post(path, json={"reason": "attack", **body})

    def live(self) -> str:
        return aliases_of(self.registry)["live"]

    def publish(self, damage: str = "") -> str:
        version = f"v-{token_hex(4)}"
        publish_small_version(self.registry, self.deployment.folder / "built", version, seed=5)
        if damage:
            spoil(self.deployment.folder / "registry", version, damage)
        return version


def spoil(registry: Path, version: str, damage: str) -> None:
    """Behind the registry's back, so that it has to find out by itself."""
    folder = registry / "models" / "recommender" / "versions" / version
    match damage:
        case "a flipped byte":
            rewrite(folder / "items.faiss", lambda content: content[:-1] + bytes([content[-1] ^ 1]))
        case "half a file":
            rewrite(folder / "item_factors.npy", lambda content: content[: len(content) // 2])
        case "a missing file":
            (folder / "popularity.npy").unlink()
        case "nonsense with the right checksum":
            replace(folder, "item_id.order.npy", b"\x93NUMPY nonsense")
        case "arrays of another shape":
            np.save(folder / "popularity.npy", np.ones(3, np.float32))
            replace(folder, "popularity.npy", (folder / "popularity.npy").read_bytes())
        case "a format of tomorrow":
            changed(folder, format_version=FORMAT_VERSION + 1)
        case "an unreadable manifest":
            (folder / MANIFEST).write_bytes(b"{")


def rewrite(path: Path, change: Any) -> None:
    path.write_bytes(change(path.read_bytes()))


def replace(folder: Path, name: str, content: bytes) -> None:
    """With a manifest that agrees: summed, all is well."""
    (folder / name).write_bytes(content)
    manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    entry = FileEntry(sha256=sha256(content).hexdigest(), size=len(content))
    changed(folder, files={**manifest.files, name: entry})


def changed(folder: Path, **fields: Any) -> None:
    manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    (folder / MANIFEST).write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, **fields)))


@contextmanager
def attacked(store: StoreSettings, folder: Path) -> Iterator[AttackedService]:
    with deployed(store, folder, {**keyed_environment(), "MILLIREC_SERVE__POLL_INTERVAL": "0.1"}) as made:
        with_versions(made)
        made.serve()
        service = AttackedService(made)
        with service.http:
            yield service


@pytest.fixture(scope="module")
def service(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttackedService]:
    settings = StoreSettings(url=valkey_url, prefix=f"test-{token_hex(6)}:")
    with attacked(settings, tmp_path_factory.mktemp("attacked")) as made:
        yield made


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_version_that_does_not_open_is_refused_by_every_move_over_http(service: AttackedService, damage: str) -> None:
    version, live = service.publish(damage), service.live()
    moves = [
        service.post(f"/versions/{version}/promote"),
        service.post(f"/versions/{version}/promote", alias="placement:home"),
        service.post(f"/versions/{version}/promote", alias="candidate"),
        service.post("/rollouts/canary", version=version),
        service.post("/rollouts/shadow", version=version),
    ]
    for answer in moves:
        assert answer.status_code == 409, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert version in answer.json()["detail"]
        assert DAMAGES[damage].split(".*", maxsplit=1)[0] in answer.json()["detail"]
    assert service.live() == live
    assert {"placement:home", "candidate", "canary", "shadow"}.isdisjoint(aliases_of(service.registry))
    assert service.http.get("/health/ready").json() == {"status": "ready", "index_version": live}


@pytest.mark.parametrize(
    "command",
    [
        ("versions", "promote"),
        pytest.param(("canary", "start"), marks=pytest.mark.slow),
        pytest.param(("shadow", "start"), marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_the_command_line_refuses_what_the_service_refuses(service: AttackedService, command: tuple[str, str]) -> None:
    version, live = service.publish("nonsense with the right checksum"), service.live()
    with pytest.raises(AssertionError, match="cannot be opened"):
        service.deployment.run(*command, version, "--reason", "attack")
    assert service.live() == live


def test_what_was_imported_from_a_file_is_opened_before_it_is_promoted(
    service: AttackedService, tmp_path: Path
) -> None:
    version, live = service.publish(), service.live()
    spoil(service.deployment.folder / "registry", version, "arrays of another shape")
    export_version(service.registry, version, tmp_path / "cache", tmp_path / "version.tar")
    service.registry.delete(version)
    import_version(service.registry, tmp_path / "version.tar", tmp_path / "scratch")
    assert service.post(f"/versions/{version}/promote").status_code == 409
    assert service.live() == live


def test_a_rollback_to_a_version_that_was_damaged_since_moves_nothing(service: AttackedService) -> None:
    before, after = service.publish(), service.publish()
    assert service.post(f"/versions/{before}/promote").status_code == 200
    assert service.post(f"/versions/{after}/promote").status_code == 200
    spoil(service.deployment.folder / "registry", before, "a flipped byte")
    answer = service.post("/versions/rollback")
    assert answer.status_code == 409, "it is in memory here, but no other replica could load it"
    assert "items.faiss" in answer.json()["detail"]
    assert service.live() == after


def test_a_canary_that_was_damaged_meanwhile_is_not_promoted_at_its_last_step(service: AttackedService) -> None:
    version, live = service.publish(), service.live()
    begun = service.post("/rollouts/canary", version=version, steps=[0.5, 1.0], step_hours=1.0)
    assert begun.status_code == 200, begun.text
    spoil(service.deployment.folder / "registry", version, "a missing file")
    assert service.post("/rollouts/canary/advance").status_code == 409
    assert service.live() == live
    assert service.post("/rollouts/canary/stop").status_code == 200


def test_a_version_that_opens_is_promoted_and_answers_at_once(service: AttackedService) -> None:
    version = service.publish()
    assert service.post(f"/versions/{version}/promote").status_code == 200
    assert service.http.get("/health/ready").json()["index_version"] == version


def test_what_is_damaged_can_be_pinned_for_whoever_wants_to_look_at_it(service: AttackedService) -> None:
    version = service.publish("a flipped byte")
    assert service.post(f"/versions/{version}/pin").status_code == 200


# A replica that cannot load what is live


def start_over(deployment: Deployment, registry: ModelRegistry, *damaged: str) -> None:
    """The versions named are damaged, the first of them is live, and this machine has no copy of anything."""
    for version in damaged:
        spoil(deployment.folder / "registry", version, "a flipped byte")
    shutil.rmtree(deployment.folder / "cache", ignore_errors=True)
    deployment.start("serve", "serve", "--port", str(deployment.port))


def health(deployment: Deployment) -> httpx.Response:
    def answers() -> bool:
        assert deployment.processes["serve"].poll() is None, deployment.output("serve")
        try:
            return bool(httpx.get(f"{deployment.url}/health/live").status_code)
        except httpx.TransportError:
            return False

    wait_until_sync(answers, 60.0)
    return httpx.get(f"{deployment.url}/health/ready")


@pytest.fixture
def deployment_with_history(fortress: Deployment) -> Deployment:
    """`second` is live, `first` was before it, and each replica looks often."""
    promote(fortress.registry, "second", actor="test", reason="better")
    fortress.environment["MILLIREC_SERVE__POLL_INTERVAL"] = "0.1"
    return fortress


def test_a_replica_that_cannot_load_what_is_live_serves_what_was_before_it_and_says_so(
    deployment_with_history: Deployment,
) -> None:
    deployment, registry = deployment_with_history, deployment_with_history.registry
    whole = (deployment.folder / "registry/models/recommender/versions/second/items.faiss").read_bytes()
    start_over(deployment, registry, "second")
    ready = health(deployment)
    assert ready.status_code == 200, ready.text
    body = ready.json()
    assert body["index_version"] == "first"
    assert body["fallback"] == "version second cannot be loaded (corrupt)"
    listed = httpx.get(f"{deployment.url}/versions", headers=ADMIN).json()
    assert listed["serving"] == "first"
    assert "items.faiss" in listed["fallback"]
    assert "millirec_index_fallback 1.0" in httpx.get(f"{deployment.url}/metrics").text
    recommended = httpx.get(f"{deployment.url}/recommend?user_id=u3", headers={"X-API-Key": KEYS["recommend"]})
    assert recommended.json()["index_version"] == "first"
    (deployment.folder / "registry/models/recommender/versions/second/items.faiss").write_bytes(whole)
    url = f"{deployment.url}/health/ready"
    wait_until_sync(lambda: httpx.get(url).json() == {"status": "ready", "index_version": "second"}, 60.0)
    # The text of the metrics is made once a second.
    metrics = f"{deployment.url}/metrics"
    wait_until_sync(lambda: "millirec_index_fallback 0.0" in httpx.get(metrics).text)
    assert deployment.output("serve").count("index version refused") == 1, "one line per cause"


def test_where_no_version_can_be_loaded_the_503_says_which_is_to_be_and_why_not(
    deployment_with_history: Deployment,
) -> None:
    deployment = deployment_with_history
    start_over(deployment, deployment.registry, "second", "first")
    answer = health(deployment)
    assert answer.status_code == 503
    assert answer.json()["detail"] == (
        "version second cannot be loaded (corrupt), nor can any version that was live before it"
    )


def test_a_damaged_copy_is_fetched_once_more(deployment_with_history: Deployment) -> None:
    deployment, registry = deployment_with_history, deployment_with_history.registry
    copy = registry.fetch("second", deployment.folder / "cache")
    (copy / "items.faiss").unlink()
    (copy / "items.faiss").mkdir()
    deployment.serve()
    assert health(deployment).json() == {"status": "ready", "index_version": "second"}


@pytest.mark.slow
def test_without_registry_a_damaged_copy_makes_room_for_the_one_served_before_it(
    deployment_with_history: Deployment,
) -> None:
    deployment = deployment_with_history
    promote(deployment.registry, "first", actor="test", reason="back")
    deployment.serve()
    promote(deployment.registry, "second", actor="test", reason="and forth")
    url = f"{deployment.url}/health/ready"
    wait_until_sync(lambda: httpx.get(url).json()["index_version"] == "second", 30.0)
    deployment.stop()
    deployment.processes.clear()
    (deployment.folder / "cache/recommender/second/items.faiss").write_bytes(b"damaged")
    (deployment.folder / "registry").rename(deployment.folder / "away")
    deployment.start("serve", "serve", "--port", str(deployment.port))
    body = health(deployment).json()
    assert body["index_version"] == "first"
