"""A version as one file: what comes back is what went in, and a file made by somebody else harms nothing."""

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest
from backports import zstd

from recsys.errors import Conflict, CorruptArtefact, NotFound
from recsys.stores.model_registry import archive
from recsys.stores.model_registry.archive import export_version, import_version
from recsys.stores.model_registry.memory import MemoryModelRegistry
from recsys.stores.model_registry.object_store import ObjectStoreModelRegistry
from tests.contracts.model_registry.tiny_versions import FILES, Publish, manifest_of

CONTENT = {"a.npy": b"abc", "b.npy": b"defg"}


@pytest.fixture
def elsewhere() -> MemoryModelRegistry:
    """The registry that a version is taken to."""
    return MemoryModelRegistry()


@pytest.mark.parametrize("name", ["v1.tar", "v1.tar.zst"])
def test_a_version_goes_into_another_registry_by_one_file(
    registry: ObjectStoreModelRegistry, elsewhere: MemoryModelRegistry, publish: Publish, tmp_path: Path, name: str
) -> None:
    manifest = publish(registry, "v1")
    assert export_version(registry, "v1", tmp_path / "cache", tmp_path / name) == manifest
    assert import_version(elsewhere, tmp_path / name, tmp_path / "scratch") == manifest
    assert elsewhere.manifest("v1") == manifest
    directory = elsewhere.fetch("v1", tmp_path / "there")
    assert {path.name: path.read_bytes() for path in directory.iterdir() if not path.name.startswith(".")} == FILES
    assert list((tmp_path / "scratch").iterdir()) == []
    with pytest.raises(Conflict, match="v1"):
        import_version(elsewhere, tmp_path / name, tmp_path / "scratch")


def test_the_same_version_gives_the_same_file_which_tar_can_read(
    folder: ObjectStoreModelRegistry, publish: Publish, tmp_path: Path
) -> None:
    publish(folder, "v1")
    for name in ("one.tar", "two.tar"):
        export_version(folder, "v1", tmp_path / name.replace(".", ""), tmp_path / name)
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as tar:
        assert tar.getnames() == ["v1/manifest.json", *(f"v1/{name}" for name in sorted(FILES))]


def test_an_export_that_fails_leaves_what_was_there(
    folder: ObjectStoreModelRegistry, publish: Publish, tmp_path: Path
) -> None:
    publish(folder, "v1")
    file = tmp_path / "v1.tar"
    file.write_text("an earlier export")
    (tmp_path / "registry" / "models" / "recommender" / "versions" / "v1" / "items.faiss").write_bytes(b"damaged")
    with pytest.raises(CorruptArtefact):
        export_version(folder, "v1", tmp_path / "cache", file)
    with pytest.raises(NotFound):
        export_version(folder, "v2", tmp_path / "cache", file)
    assert file.read_text() == "an earlier export"
    assert not list(tmp_path.glob(".v1.tar*"))


# Files made by somebody else


def manifest_bytes(**changed: object) -> bytes:
    described = msgspec.to_builtins(manifest_of("v1", CONTENT))
    return json.dumps({**described, **changed}).encode()


def plain(name: str, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    return member, content


def linked(name: str, kind: bytes, target: str) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


def tar_of(file: Path, members: Iterable[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(file, "w") as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    return file


A, B = plain("v1/a.npy", CONTENT["a.npy"]), plain("v1/b.npy", CONTENT["b.npy"])
FIRST, PATH = plain("v1/manifest.json", manifest_bytes()), plain("v1/../../escaped", b"abc")
EVIL_NAME = {"../../escaped": {"sha256": "00", "size": 3}}
EVIL = {
    "nothing": [],
    "no manifest first": [A, B],
    "a manifest that is a link": [linked("v1/manifest.json", tarfile.SYMTYPE, "/etc/passwd")],
    "a manifest of another version": [plain("v2/manifest.json", manifest_bytes()), A, B],
    "a version that is a path": [plain("../manifest.json", manifest_bytes(version=".."))],
    "a manifest with a path": [plain("v1/manifest.json", manifest_bytes(files=EVIL_NAME)), PATH],
    "a manifest of no sense": [plain("v1/manifest.json", b"[]")],
    "a path": [FIRST, PATH, A, B],
    "an absolute path": [FIRST, plain("/tmp/escaped", b"abc"), A, B],  # noqa: S108
    "a symbolic link": [FIRST, linked("v1/a.npy", tarfile.SYMTYPE, "/etc/passwd"), B],
    "a hard link": [FIRST, A, linked("v1/b.npy", tarfile.LNKTYPE, "v1/a.npy")],
    "a device": [FIRST, linked("v1/a.npy", tarfile.CHRTYPE, ""), B],
    "a file twice": [FIRST, A, A, B],
    "a file too few": [FIRST, A],
    "a file too many": [FIRST, A, B, plain("v1/c.npy", b"x")],
    "a file too long": [FIRST, plain("v1/a.npy", b"abcd"), B],
    "another content": [FIRST, plain("v1/a.npy", b"abd"), B],
}


@pytest.mark.parametrize("what", EVIL)
def test_what_does_not_hold_is_refused_and_nothing_is_written_elsewhere(
    elsewhere: MemoryModelRegistry, tmp_path: Path, what: str
) -> None:
    file = tar_of(tmp_path / "evil.tar", EVIL[what])
    with pytest.raises(CorruptArtefact):
        import_version(elsewhere, file, tmp_path / "deep" / "scratch")
    assert elsewhere.versions() == []
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    assert left == ["deep", "deep/scratch", "evil.tar"]


def test_the_same_file_without_the_evil_is_taken(elsewhere: MemoryModelRegistry, tmp_path: Path) -> None:
    file = tar_of(tmp_path / "good.tar", [FIRST, B, A])
    assert import_version(elsewhere, file, tmp_path).version == "v1"


@pytest.mark.parametrize("name", ["v1.tar", "v1.tar.zst"])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9])
def test_a_file_that_was_cut_off_is_refused(
    folder: ObjectStoreModelRegistry,
    elsewhere: MemoryModelRegistry,
    publish: Publish,
    tmp_path: Path,
    name: str,
    kept: float,
) -> None:
    publish(folder, "v1")
    export_version(folder, "v1", tmp_path / "cache", tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(CorruptArtefact, match="v1"):
        import_version(elsewhere, tmp_path / name, tmp_path)
    assert elsewhere.versions() == []


def test_a_small_file_that_would_fill_the_disk_is_refused_before_it_is_unpacked(
    elsewhere: MemoryModelRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge = {"a.npy": {"sha256": "00", "size": 1 << 60}}
    file = tar_of(tmp_path / "bomb.tar", [plain("v1/manifest.json", manifest_bytes(files=huge))])
    packed = tmp_path / "bomb.tar.zst"
    packed.write_bytes(zstd.compress(file.read_bytes()))
    with pytest.raises(CorruptArtefact, match="room"):
        import_version(elsewhere, packed, tmp_path)
    monkeypatch.setattr(archive, "MAX_MANIFEST", 10)
    with pytest.raises(CorruptArtefact, match="does not begin with a manifest"):
        import_version(elsewhere, packed, tmp_path)
