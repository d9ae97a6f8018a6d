"""This machine's copies of versions: `into/{version}/`, complete and verified or not there at all.

`into/.served-{alias}.json` says which of them an alias put in service here last, so that a service that starts while
the registry is away has something to answer from.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import file_digest, sha256
from pathlib import Path

import msgspec
import structlog

from recsys.errors import CorruptArtefact, RegistryUnavailable
from recsys.index_version import FileEntry, Manifest

log = structlog.get_logger()

KEPT = 4
"""Copies kept: the ones used last. Whoever has mapped a copy's files may go on reading them after that."""

Chunks = Callable[[str], Iterable[bytes]]
"""The bytes of a version's file by its name."""


def local_copy(manifest: Manifest, into: Path, chunks: Chunks) -> Path:
    """Processes that share `into` copy one after the other, so that the second finds the work done.

    A copy is hashed on every use (256 MB take 0.3 s), and made anew when it does not hold.
    """
    target = into / manifest.version
    try:
        with _alone(into):
            if not _holds(target, manifest):
                _copy(manifest, target, chunks)
            os.utime(target)
            _forget_old(into)
    except OSError as error:
        raise RegistryUnavailable(f"version {manifest.version} cannot be copied to {into}: {error}") from error
    return target


def remember(into: Path, alias: str, manifest: Manifest) -> None:
    """Note that `alias` put this version in service here; where that fails, only a start without registry suffers."""
    record = _record(into, alias)
    partial = record.with_suffix(f".{os.getpid()}")
    try:
        partial.write_bytes(msgspec.json.encode(manifest))
        partial.replace(record)
    except OSError as error:
        log.warning("what is served cannot be recorded", record=str(record), error=str(error))


def remembered(into: Path, alias: str) -> tuple[Manifest, Path] | None:
    """The version that `alias` put in service here last, if its copy is there and holds."""
    try:
        manifest = msgspec.json.decode(_record(into, alias).read_bytes(), type=Manifest)
        target = into / manifest.version
        return (manifest, target) if _holds(target, manifest) else None
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        log.warning("the record of what was served cannot be read", alias=alias, error=str(error))
        return None


def _record(into: Path, alias: str) -> Path:
    return into / f".served-{alias}.json"


def digest_of(path: Path) -> str:
    with path.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


@contextmanager
def _alone(into: Path) -> Iterator[None]:
    into.mkdir(parents=True, exist_ok=True)
    with (into / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _holds(target: Path, manifest: Manifest) -> bool:
    if not target.is_dir():
        return False
    broken = next((name for name, entry in manifest.files.items() if not _matches(target / name, entry)), None)
    if broken is None:
        return True
    log.warning("local copy is corrupt", version=manifest.version, file=broken)
    return False


def _matches(path: Path, entry: FileEntry) -> bool:
    return path.is_file() and path.stat().st_size == entry.size and digest_of(path) == entry.sha256


def _copy(manifest: Manifest, target: Path, chunks: Chunks) -> None:
    partial = target.with_name(f".partial-{target.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        for name, entry in manifest.files.items():
            _write_verified(partial / name, chunks(name), entry, f"version {manifest.version}, file {name}")
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_verified(path: Path, chunks: Iterable[bytes], entry: FileEntry, what: str) -> None:
    digest, size = sha256(), 0
    with path.open("wb") as output:
        for chunk in chunks:
            size += len(chunk)
            if size > entry.size:
                raise CorruptArtefact(f"{what}: more than the {entry.size} bytes of the manifest")
            digest.update(chunk)
            output.write(chunk)
    if size != entry.size:
        raise CorruptArtefact(f"{what}: {size} bytes, but the manifest says {entry.size}")
    if digest.hexdigest() != entry.sha256:
        raise CorruptArtefact(f"{what}: its checksum is not the manifest's")


def _forget_old(into: Path) -> None:
    copies = [path for path in into.iterdir() if path.is_dir()]
    for path in sorted(copies, key=lambda one: one.stat().st_mtime, reverse=True)[KEPT:]:
        shutil.rmtree(path, ignore_errors=True)
