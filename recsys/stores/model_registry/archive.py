"""A version as one file: a tar of its manifest and its files, compressed by zstd where the name ends in `.zst`."""

import io
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import msgspec

from recsys.errors import CorruptArtefact, InvalidInput
from recsys.models.manifest import Manifest
from recsys.scratch import scratch_folder
from recsys.stores.model_registry.contents import MANIFEST, read_manifest
from recsys.stores.model_registry.local_copy import hold
from recsys.stores.model_registry.protocol import ModelRegistry
from recsys.whole_file import replacing

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
MAX_MANIFEST = 16 << 20


def export_version(registry: ModelRegistry, version: str, cache: Path, file: Path) -> Manifest:
    """Write `file`, whole or not at all. Raises `NotFound`, `CorruptArtefact`."""
    manifest = registry.manifest(version)
    directory = registry.fetch(version, cache)
    with _writing(file) as stream, tarfile.open(fileobj=stream, mode="w|") as tar:
        hold(directory, tar)
        raw = msgspec.json.format(msgspec.json.encode(manifest))
        tar.addfile(_member(manifest, MANIFEST, len(raw)), io.BytesIO(raw))
        for name, entry in sorted(manifest.files.items()):
            with (directory / name).open("rb") as content:
                tar.addfile(_member(manifest, name, entry.size), content)
    return manifest


def import_version(registry: ModelRegistry, file: Path, scratch: Path) -> Manifest:
    """Publish what `export_version` wrote, under the model that it is of, by way of a folder in `scratch`.

    Nothing is written that the manifest, which comes first, does not name with this size, nor more than there is room
    for. Raises `CorruptArtefact`, `Conflict` when the version exists.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    with scratch_folder("import", scratch) as folder:
        try:
            with _reading(file) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
                manifest, files = _unpacked(tar, folder)
        except _damage() as error:
            raise CorruptArtefact(f"{file}: {error}") from error
        try:
            registry.of(manifest.model).publish(manifest, files)
        except InvalidInput as error:
            raise CorruptArtefact(f"{file}: {error}") from error
    return manifest


def _unpacked(tar: tarfile.TarFile, folder: Path) -> tuple[Manifest, dict[str, Path]]:
    first = tar.next()
    if first is None or first.size > MAX_MANIFEST:
        raise CorruptArtefact("the archive does not begin with a manifest")
    version, _, name = first.name.partition("/")
    if name != MANIFEST:
        raise CorruptArtefact(f"the archive begins with {first.name!r}, not with a manifest")
    manifest = read_manifest(_content(tar, first).read(), version)
    needed, free = sum(entry.size for entry in manifest.files.values()), shutil.disk_usage(folder).free
    if needed > free:
        raise CorruptArtefact(f"version {version} takes {needed:,} bytes, and {folder.parent} has room for {free:,}")
    files: dict[str, Path] = {}
    while (member := tar.next()) is not None:
        name = member.name.removeprefix(f"{version}/")
        entry = manifest.files.get(name)
        if entry is None or member.size != entry.size or name in files:
            raise CorruptArtefact(f"{member.name!r} with {member.size} bytes is not what the manifest says")
        files[name] = folder / name
        with files[name].open("xb") as output:
            shutil.copyfileobj(_content(tar, member), output)
    return manifest, files


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    """Links, devices and folders have none."""
    content = tar.extractfile(member) if member.isreg() else None
    if content is None:
        raise CorruptArtefact(f"{member.name!r} is no plain file")
    return content


def _member(manifest: Manifest, name: str, size: int) -> tarfile.TarInfo:
    """Nothing in it is of this machine, so that the same version gives the same file."""
    member = tarfile.TarInfo(f"{manifest.version}/{name}")
    member.size, member.mtime = size, int(manifest.created_at.timestamp())
    return member


@contextmanager
def _writing(file: Path) -> Iterator[IO[bytes]]:
    with replacing(file, durable=True) as plain:
        if file.suffix != ".zst":
            yield plain
            return
        with _zstd(plain, "wb") as stream:
            yield stream


@contextmanager
def _reading(file: Path) -> Iterator[IO[bytes]]:
    with file.open("rb") as plain:
        magic = plain.read(len(ZSTD_MAGIC))
        plain.seek(0)
        if magic != ZSTD_MAGIC:
            yield plain
            return
        with _zstd(plain, "rb") as stream:
            yield stream


def _zstd(file: IO[bytes], mode: str) -> IO[bytes]:
    try:
        from backports import zstd
    except ImportError as error:
        raise InvalidInput("file", "zstd needs the package backports-zstd: pip install 'millirec[ingest]'") from error
    return cast("IO[bytes]", zstd.ZstdFile(file, mode))  # type: ignore[call-overload]


def _damage() -> tuple[type[Exception], ...]:
    try:
        from backports import zstd
    except ImportError:
        return tarfile.TarError, EOFError
    return tarfile.TarError, EOFError, zstd.ZstdError
