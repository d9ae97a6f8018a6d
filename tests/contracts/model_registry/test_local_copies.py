"""This machine's copies: resumed where a download stopped, bounded, and never taken from under whoever uses them."""

import multiprocessing
import os
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import obstore
import pytest

from recsys.clients.download import Part
from recsys.clients.objects import Objects
from recsys.errors import CorruptArtefact, RegistryUnavailable
from recsys.settings import RegistrySettings
from recsys.stores.model_registry import open_model_registry
from recsys.stores.model_registry.local_copy import CacheLimit, hold, remember
from recsys.stores.model_registry.object_store import ObjectStoreModelRegistry
from tests.contracts.model_registry.tiny_versions import FILES, Publish

BIG = FILES["items.faiss"]


class Cut:
    """Ends the first download of `items.faiss` halfway, and says from which byte each began."""

    def __init__(self, registry: ObjectStoreModelRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
        self.offsets: list[int] = []
        self._part = registry._objects.part
        monkeypatch.setattr(registry._objects, "part", self)

    def __call__(self, path: str, offset: int = 0, e_tag: str | None = None) -> Part | None:
        part = self._part(path, offset, e_tag)
        if part is None or not path.endswith("items.faiss"):
            return part
        self.offsets.append(part.offset)
        return part if len(self.offsets) > 1 else Part(part.e_tag, part.offset, self._half(part.chunks))

    def _half(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        sent = 0
        for chunk in chunks:
            yield chunk[: len(BIG) // 2 - sent]
            sent += len(chunk)
            if sent >= len(BIG) // 2:
                raise RegistryUnavailable("the connection was cut")


@pytest.fixture
def cut(registry: ObjectStoreModelRegistry, publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cut:
    """A fetch of `v1` into `tmp_path/cache` that was cut."""
    publish(registry, "v1")
    cut = Cut(registry, monkeypatch)
    with pytest.raises(RegistryUnavailable, match="cut"):
        registry.fetch("v1", tmp_path / "cache")
    assert not (tmp_path / "cache" / "recommender" / "v1").exists(), "half a copy is none"
    return cut


def test_a_download_goes_on_where_it_was_cut(registry: ObjectStoreModelRegistry, cut: Cut, tmp_path: Path) -> None:
    directory = registry.fetch("v1", tmp_path / "cache")
    assert {path.name: path.read_bytes() for path in directory.iterdir() if not path.name.startswith(".")} == FILES
    assert cut.offsets == [0, len(BIG) // 2]


def test_what_was_written_anew_meanwhile_is_read_from_the_start(
    registry: ObjectStoreModelRegistry, cut: Cut, tmp_path: Path
) -> None:
    obstore.put(registry._objects.store, "models/recommender/versions/v1/items.faiss", BIG[::-1])
    with pytest.raises(CorruptArtefact, match=r"items\.faiss.*checksum"):
        registry.fetch("v1", tmp_path / "cache")
    assert cut.offsets == [0, 0, 0], "twice: the beginning might have been to blame"
    assert [path.name for path in (tmp_path / "cache" / "recommender").iterdir()] == [".lock"]


def test_a_beginning_that_was_damaged_is_thrown_away(
    registry: ObjectStoreModelRegistry, cut: Cut, tmp_path: Path
) -> None:
    beginning = tmp_path / "cache" / "recommender" / ".partial-v1" / "items.faiss"
    with beginning.open("r+b") as file:
        file.write(b"damaged")
    directory = registry.fetch("v1", tmp_path / "cache")
    assert (directory / "items.faiss").read_bytes() == BIG
    assert cut.offsets == [0, len(BIG) // 2, 0]


def test_a_beginning_that_nobody_went_on_with_is_removed_after_a_day(
    folder: ObjectStoreModelRegistry, publish: Publish, tmp_path: Path
) -> None:
    publish(folder, "v1")
    ages = {"recommender/.partial-old": 90_000, "recommender/.partial-young": 60, ".import-old": 90_000}
    for name, age in ages.items():
        left = tmp_path / "cache" / name
        left.mkdir(parents=True)
        os.utime(left, (time.time() - age,) * 2)
    folder.fetch("v1", tmp_path / "cache")
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["recommender"]
    copied = sorted(path.name for path in (tmp_path / "cache" / "recommender").iterdir())
    assert copied == [".lock", ".partial-young", "v1"]


# The bound


def copies(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "recommender").iterdir() if path.is_dir())


def published(folder: ObjectStoreModelRegistry, publish: Publish, count: int) -> list[str]:
    return [publish(folder, f"v{n}", n, {"a.npy": bytes(1000)}).version for n in range(count)]


@pytest.mark.parametrize(("settings", "kept"), [({"cache_versions": 2}, 2), ({"cache_bytes": 3500}, 3), ({}, 4)])
def test_copies_are_kept_within_the_limit_of_the_settings(
    folder: ObjectStoreModelRegistry, publish: Publish, tmp_path: Path, settings: dict[str, int], kept: int
) -> None:
    versions = published(folder, publish, 6)
    registry = open_model_registry(RegistrySettings(url=str(tmp_path / "registry"), **settings))
    for version in versions:
        registry.fetch(version, tmp_path / "cache")
    assert copies(tmp_path / "cache") == versions[-kept:]


def test_a_version_larger_than_the_cache_is_fetched_all_the_same(publish: Publish, tmp_path: Path) -> None:
    registry = ObjectStoreModelRegistry(Objects(str(tmp_path / "registry")), limit=CacheLimit(versions=1, size=10))
    for version in published(registry, publish, 2):
        assert registry.fetch(version, tmp_path / "cache").is_dir()
    assert copies(tmp_path / "cache") == ["v1"]


def test_what_is_open_or_was_served_last_is_not_evicted(publish: Publish, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    registry = ObjectStoreModelRegistry(Objects(str(tmp_path / "registry")), limit=CacheLimit(versions=1))
    published(registry, publish, 5)
    index = np.zeros(1)
    hold(registry.fetch("v0", cache), index)
    registry.fetch("v1", cache)
    remember(cache, "live", registry.manifest("v1"))
    for version in ("v2", "v3"):
        registry.fetch(version, cache)
    assert copies(cache) == ["v0", "v1", "v3"]
    del index
    registry.fetch("v4", cache)
    assert copies(cache) == ["v1", "v4"]


def hold_in_another_process(directory: str, connection: Connection) -> None:
    owner = np.zeros(1)
    hold(Path(directory), owner)
    connection.send("held")
    connection.recv()
    assert owner.sum() == 0


def test_what_another_process_has_open_is_not_evicted_until_it_ends(publish: Publish, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    registry = ObjectStoreModelRegistry(Objects(str(tmp_path / "registry")), limit=CacheLimit(versions=1))
    published(registry, publish, 3)
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    other = spawn.Process(target=hold_in_another_process, args=(str(registry.fetch("v0", cache)), theirs))
    other.start()
    try:
        assert ours.poll(60)
        registry.fetch("v1", cache)
        assert copies(cache) == ["v0", "v1"]
    finally:
        other.kill()
        other.join(60)
    registry.fetch("v2", cache)
    assert copies(cache) == ["v2"]
