"""The contract of the model registry, on every backend; and what only a disk and other processes can get wrong."""

import json
import multiprocessing
import shutil
import threading
from collections.abc import Callable
from multiprocessing.synchronize import Barrier as ProcessBarrier
from pathlib import Path

import obstore
import pytest

from recsys.clients.objects import Objects
from recsys.errors import Conflict, CorruptArtefact, InvalidInput, NotFound, RegistryUnavailable
from recsys.models.alias_move import AliasMove
from recsys.settings import RegistrySettings
from recsys.stores.model_registry import open_model_registry
from recsys.stores.model_registry.memory import MemoryModelRegistry
from recsys.stores.model_registry.object_store import ObjectStoreModelRegistry
from tests.contracts.model_registry.tiny_versions import FILES, Publish, manifest_of, write_files

# Versions


def test_an_empty_registry_has_nothing(registry: ObjectStoreModelRegistry, tmp_path: Path) -> None:
    assert registry.versions() == []
    assert registry.alias("live") is None
    assert registry.history("live") == []
    for call in (registry.manifest, registry.delete, lambda version: registry.fetch(version, tmp_path / "cache")):
        with pytest.raises(NotFound, match="v1"):
            call("v1")


def test_what_was_published_is_fetched_byte_for_byte(
    registry: ObjectStoreModelRegistry, publish: Publish, tmp_path: Path
) -> None:
    manifest = publish(registry, "v1")
    assert registry.manifest("v1") == manifest
    directory = registry.fetch("v1", tmp_path / "cache")
    assert directory == tmp_path / "cache" / "recommender" / "v1"
    assert {path.name: path.read_bytes() for path in directory.iterdir() if not path.name.startswith(".")} == FILES


def test_versions_are_listed_oldest_first(registry: ObjectStoreModelRegistry, publish: Publish) -> None:
    published = {day: publish(registry, version, day) for version, day in (("b", 1), ("c", 0), ("a", 2))}
    assert registry.versions() == [published[0], published[1], published[2]]
    assert registry.versions() == [published[0], published[1], published[2]]


def test_a_version_is_written_once(registry: ObjectStoreModelRegistry, publish: Publish) -> None:
    manifest = publish(registry, "v1")
    with pytest.raises(Conflict, match="v1"):
        publish(registry, "v1", day=3, files={"other.npy": b"x"})
    assert registry.versions() == [manifest]


@pytest.mark.parametrize("version", ["../up", "a/b", "", "x" * 65, ".hidden", "white space"])
def test_a_version_name_that_is_no_name_is_refused(
    registry: ObjectStoreModelRegistry, publish: Publish, tmp_path: Path, version: str
) -> None:
    with pytest.raises(InvalidInput, match="version"):
        registry.publish(manifest_of(version), write_files(tmp_path / "files", FILES))
    for call in (registry.manifest, registry.delete, lambda one: registry.fetch(one, tmp_path / "cache")):
        with pytest.raises(NotFound):
            call(version)


@pytest.mark.parametrize("name", ["sub/file.npy", "..", ".hidden", "manifest.json", "a\\b", ""])
def test_a_file_name_that_leads_elsewhere_is_refused(
    registry: ObjectStoreModelRegistry, tmp_path: Path, name: str
) -> None:
    path = write_files(tmp_path / "files", {"file": b"x"})["file"]
    with pytest.raises(InvalidInput, match="files"):
        registry.publish(manifest_of("v1", {name: b"x"}), {name: path})
    assert registry.versions() == []


def test_files_that_are_not_the_manifests_are_refused(registry: ObjectStoreModelRegistry, tmp_path: Path) -> None:
    right = {"a.npy": b"abc", "b.npy": b"def"}
    manifest = manifest_of("v1", right)
    paths = write_files(tmp_path / "files", right)
    changed = write_files(tmp_path / "changed", {"same_size.npy": b"abd", "longer.npy": b"abcd"})
    wrong: list[tuple[dict[str, Path], str]] = [
        ({"a.npy": paths["a.npy"]}, "b.npy"),
        ({**paths, "c.npy": paths["a.npy"]}, "c.npy"),
        ({**paths, "a.npy": changed["same_size.npy"]}, "a.npy: its checksum"),
        ({**paths, "a.npy": changed["longer.npy"]}, "a.npy: has 4 bytes"),
        ({**paths, "a.npy": tmp_path / "nowhere"}, "a.npy.*no file"),
    ]
    for files, reason in wrong:
        with pytest.raises(InvalidInput, match=reason):
            registry.publish(manifest, files)
    assert registry.versions() == []


def test_a_publish_that_ends_before_the_manifest_left_no_version(
    registry: ObjectStoreModelRegistry, publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = obstore.put

    def power_cut(store: object, path: str, *arguments: object, **options: object) -> object:
        if path.endswith("manifest.json"):
            raise KeyboardInterrupt
        return put(store, path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(obstore, "put", power_cut)
    with pytest.raises(KeyboardInterrupt):
        publish(registry, "v1")
    monkeypatch.setattr(obstore, "put", put)
    assert registry.versions() == []
    with pytest.raises(NotFound):
        registry.fetch("v1", tmp_path / "cache")
    with pytest.raises(NotFound):
        registry.move_alias("live", "v1", actor="test", reason="too early")
    manifest = publish(registry, "v1")
    assert registry.versions() == [manifest]


@pytest.mark.parametrize("garbage", [b"", b"{", b"[]", b'{"version": "v2"}', b"\xff"])
def test_an_unreadable_manifest_is_corrupt_and_hides_no_other_version(
    registry: ObjectStoreModelRegistry, publish: Publish, tmp_path: Path, garbage: bytes
) -> None:
    manifest = publish(registry, "v1")
    obstore.put(registry._objects.store, "models/recommender/versions/v2/manifest.json", garbage)
    assert registry.versions() == [manifest]
    for call in (registry.manifest, lambda version: registry.fetch(version, tmp_path / "cache")):
        with pytest.raises(CorruptArtefact, match=r"v2.*manifest\.json"):
            call("v2")


def test_a_manifest_of_another_version_or_with_outlandish_names_is_corrupt(
    registry: ObjectStoreModelRegistry, publish: Publish, tmp_path: Path
) -> None:
    publish(registry, "v1")
    stolen = obstore.get(registry._objects.store, "models/recommender/versions/v1/manifest.json").bytes().to_bytes()
    obstore.put(registry._objects.store, "models/recommender/versions/v2/manifest.json", stolen)
    evil = json.loads(stolen) | {"version": "v3", "files": {"../../escaped": {"sha256": "00", "size": 1}}}
    obstore.put(registry._objects.store, "models/recommender/versions/v3/manifest.json", json.dumps(evil).encode())
    for version in ("v2", "v3"):
        with pytest.raises(CorruptArtefact, match=version):
            registry.fetch(version, tmp_path / "cache")


# Fetching


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"\x93NUMPZ" * 1000, "checksum"), (b"short", "5 bytes"), (b"x" * 10_000, "more than"), (None, "missing")],
)
def test_a_corrupt_file_is_named_and_never_left_behind(
    registry: ObjectStoreModelRegistry, publish: Publish, tmp_path: Path, content: bytes | None, reason: str
) -> None:
    publish(registry, "v1")
    path = "models/recommender/versions/v1/item_factors.npy"
    if content is None:
        obstore.delete(registry._objects.store, path)
    else:
        obstore.put(registry._objects.store, path, content)
    with pytest.raises(CorruptArtefact, match=rf"v1.*item_factors\.npy.*{reason}"):
        registry.fetch("v1", tmp_path / "cache")
    assert [entry.name for entry in (tmp_path / "cache" / "recommender").iterdir()] == [".lock"]


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPZ" * 1000, None])
def test_a_damaged_copy_is_made_anew(
    registry: ObjectStoreModelRegistry, publish: Publish, tmp_path: Path, damage: bytes | None
) -> None:
    publish(registry, "v1")
    copy = registry.fetch("v1", tmp_path / "cache") / "item_factors.npy"
    copy.unlink()
    if damage is not None:
        copy.write_bytes(damage)
    registry.fetch("v1", tmp_path / "cache")
    assert copy.read_bytes() == FILES["item_factors.npy"]


def test_a_good_copy_is_used_again_even_when_the_source_is_broken(
    registry: ObjectStoreModelRegistry, publish: Publish, tmp_path: Path
) -> None:
    publish(registry, "v1")
    copy = registry.fetch("v1", tmp_path / "cache") / "items.faiss"
    inode = copy.stat().st_ino
    obstore.put(registry._objects.store, "models/recommender/versions/v1/items.faiss", b"broken")
    assert registry.fetch("v1", tmp_path / "cache") == copy.parent
    assert copy.stat().st_ino == inode


def test_a_copy_that_was_interrupted_does_not_stand_in_the_way(
    registry: ObjectStoreModelRegistry, publish: Publish, tmp_path: Path
) -> None:
    publish(registry, "v1")
    write_files(tmp_path / "cache" / "recommender" / ".partial-v1", {"item_factors.npy": b"half"})
    directory = registry.fetch("v1", tmp_path / "cache")
    assert {path.name: path.read_bytes() for path in directory.iterdir() if not path.name.startswith(".")} == FILES


def test_only_the_copies_used_last_are_kept(
    registry: ObjectStoreModelRegistry, publish: Publish, tmp_path: Path
) -> None:
    for n in range(7):
        publish(registry, f"v{n}", n)
        registry.fetch(f"v{n}", tmp_path / "cache")
        registry.fetch("v0", tmp_path / "cache")
    kept = sorted(path.name for path in (tmp_path / "cache" / "recommender").iterdir() if path.is_dir())
    assert kept == ["v0", "v4", "v5", "v6"]


def test_a_cache_that_cannot_be_written_says_where(
    registry: ObjectStoreModelRegistry, publish: Publish, tmp_path: Path
) -> None:
    publish(registry, "v1")
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(RegistryUnavailable, match="cache"):
        registry.fetch("v1", tmp_path / "cache")


def fetch_from_another_process(url: str, into: str, barrier: "ProcessBarrier") -> None:
    barrier.wait(timeout=60)
    directory = ObjectStoreModelRegistry(Objects(url)).fetch("v1", Path(into))
    assert {path.name: path.read_bytes() for path in directory.iterdir() if not path.name.startswith(".")} == FILES


def test_processes_that_fetch_one_version_into_one_cache_all_get_it(
    folder: ObjectStoreModelRegistry, publish: Publish, tmp_path: Path
) -> None:
    publish(folder, "v1")
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(3)
    arguments = (str(tmp_path / "registry"), str(tmp_path / "cache"), barrier)
    workers = [spawn.Process(target=fetch_from_another_process, args=arguments) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert sorted(path.name for path in (tmp_path / "cache" / "recommender").iterdir()) == [".lock", "v1"]


# Aliases


def test_an_alias_points_where_it_was_moved_last_and_remembers_every_move(
    registry: ObjectStoreModelRegistry, publish: Publish
) -> None:
    publish(registry, "v1")
    publish(registry, "v2", 1)
    moves = [
        registry.move_alias("live", version, actor=f"actor {n}", reason=f"reason {n}")
        for n, version in enumerate(["v1", "v2", "v1"])
    ]
    assert registry.history("live") == moves
    assert registry.alias("live") == moves[-1]
    assert [(move.sequence, move.version, move.actor, move.reason) for move in moves] == [
        (1, "v1", "actor 0", "reason 0"),
        (2, "v2", "actor 1", "reason 1"),
        (3, "v1", "actor 2", "reason 2"),
    ]
    assert registry.alias("shadow") is None


def test_an_alias_moves_to_complete_versions_only(registry: ObjectStoreModelRegistry, publish: Publish) -> None:
    with pytest.raises(NotFound, match="v1"):
        registry.move_alias("live", "v1", actor="test", reason="")
    publish(registry, "v1")
    with pytest.raises(InvalidInput, match="alias"):
        registry.move_alias("../versions", "v1", actor="test", reason="")
    assert registry.history("live") == registry.history("../versions") == []


def test_what_is_no_readable_move_is_passed_over(registry: ObjectStoreModelRegistry, publish: Publish) -> None:
    publish(registry, "v1")
    first = registry.move_alias("live", "v1", actor="test", reason="")
    obstore.put(registry._objects.store, "models/recommender/aliases/live/00000002.json", b"{half a")
    obstore.put(registry._objects.store, "models/recommender/aliases/live/notes.txt", b"remember the milk")
    assert registry.alias("live") == first
    third = registry.move_alias("live", "v1", actor="test", reason="")
    assert third.sequence == 3
    assert registry.history("live") == [first, third]


def race(movers: list[Callable[[], AliasMove]]) -> tuple[list[AliasMove], int]:
    """All at once: the moves that won, and how many lost."""
    won: list[AliasMove] = []
    lost: list[Conflict] = []
    barrier = threading.Barrier(len(movers))

    def run(mover: Callable[[], AliasMove]) -> None:
        barrier.wait(timeout=30)
        try:
            won.append(mover())
        except Conflict as error:
            lost.append(error)

    threads = [threading.Thread(target=run, args=(mover,)) for mover in movers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return won, len(lost)


def test_of_racing_moves_exactly_one_takes_each_sequence(registry: ObjectStoreModelRegistry, publish: Publish) -> None:
    publish(registry, "v1")
    for n in range(10):
        won, lost = race(
            [lambda i=i, n=n: registry.move_alias("live", "v1", actor=f"{n}-{i}", reason="") for i in range(4)]  # type: ignore[misc]
        )
        assert len(won) + lost == 4
        assert won
    history = registry.history("live")
    assert [move.sequence for move in history] == list(range(1, len(history) + 1))
    assert len({move.actor for move in history}) == len(history)


def move_from_another_process(url: str, actor: str, barrier: "ProcessBarrier") -> None:
    registry = ObjectStoreModelRegistry(Objects(url))
    barrier.wait(timeout=60)
    done = 0
    while done < 20:
        try:
            registry.move_alias("live", "v1", actor=f"{actor}-{done}", reason="")
            done += 1
        except Conflict:
            continue


def test_processes_that_move_one_alias_lose_no_move(
    folder: ObjectStoreModelRegistry, publish: Publish, tmp_path: Path
) -> None:
    publish(folder, "v1")
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(2)
    movers = [
        spawn.Process(target=move_from_another_process, args=(str(tmp_path / "registry"), name, barrier))
        for name in ("a", "b")
    ]
    for mover in movers:
        mover.start()
    for mover in movers:
        mover.join(timeout=60)
    assert [mover.exitcode for mover in movers] == [0, 0]
    history = folder.history("live")
    assert [move.sequence for move in history] == list(range(1, 41))
    assert {move.actor for move in history} == {f"{name}-{n}" for name in "ab" for n in range(20)}


# Deleting


def test_a_deleted_version_is_gone_with_its_files(
    registry: ObjectStoreModelRegistry, publish: Publish, tmp_path: Path
) -> None:
    publish(registry, "v1")
    kept = publish(registry, "v10")
    registry.delete("v1")
    assert registry.versions() == [kept]
    assert registry._objects.entries("models/recommender/versions/v1") == []
    assert registry.fetch("v10", tmp_path / "cache").is_dir()
    with pytest.raises(NotFound):
        registry.fetch("v1", tmp_path / "cache")
    with pytest.raises(NotFound):
        registry.delete("v1")


def test_a_version_in_service_is_not_deleted(registry: ObjectStoreModelRegistry, publish: Publish) -> None:
    publish(registry, "v1")
    publish(registry, "v2", 1)
    registry.move_alias("live", "v1", actor="test", reason="")
    registry.move_alias("canary", "v2", actor="test", reason="")
    for version in ("v1", "v2"):
        with pytest.raises(Conflict, match="in service"):
            registry.delete(version)
    registry.move_alias("live", "v2", actor="test", reason="")
    registry.delete("v1")
    assert [move.version for move in registry.history("live")] == ["v1", "v2"]


# Opening


def test_a_registry_that_cannot_be_reached_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RegistryUnavailable, match="file/registry"):
        ObjectStoreModelRegistry(Objects(str(tmp_path / "file" / "registry"))).alias("live")
    with pytest.raises(RegistryUnavailable, match="ftp://nowhere"):
        ObjectStoreModelRegistry(Objects("ftp://nowhere/registry")).alias("live")
    registry = ObjectStoreModelRegistry(Objects(str(tmp_path / "registry")))
    assert registry.versions() == []
    shutil.rmtree(tmp_path / "registry")
    (tmp_path / "registry").write_text("a file where a folder should be")
    with pytest.raises(RegistryUnavailable, match="model registry"):
        registry.manifest("v1")


def test_a_folder_may_be_given_as_url(tmp_path: Path, publish: Publish) -> None:
    publish(ObjectStoreModelRegistry(Objects(f"file://{tmp_path}/registry")), "v1")
    opened = open_model_registry(RegistrySettings(url=str(tmp_path / "registry")))
    assert [manifest.version for manifest in opened.versions()] == ["v1"]
    assert isinstance(open_model_registry(RegistrySettings(backend="memory")), MemoryModelRegistry)
