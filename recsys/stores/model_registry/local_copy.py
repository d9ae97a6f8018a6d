"""This machine's copies of versions: `into/{model}/{version}/`, complete and verified or not there at all.

`into/{model}/.served-{alias}.json` says which of them an alias put in service here last, so that a service that starts
while the registry is away has something to answer from.
"""

import fcntl
import os
import shutil
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog

from recsys.clients.download import Source, download, etag_note, matches
from recsys.errors import CorruptArtefact, RegistryUnavailable
from recsys.models.manifest import Manifest
from recsys.whole_file import write_whole

log = structlog.get_logger()

PARTIAL = ".partial-"
ABANDONED = 86_400.0
"""Seconds after which an interrupted copy is removed."""
REMEMBERED = 4
"""Versions that a record of what was served names."""


@dataclass(frozen=True, slots=True)
class CacheLimit:
    """The number of copies kept (those used last) and their bytes (`None`: any number); copies in use always stay."""

    versions: int = 4
    size: int | None = None


DEFAULT_LIMIT = CacheLimit()


def local_copy(manifest: Manifest, into: Path, source: Source, limit: CacheLimit) -> Path:
    """The verified copy in `into`; processes that share `into` copy one after the other.

    A copy is hashed on every use (256 MB take 0.3 s), and made anew when it does not hold.
    """
    folder = into / manifest.model
    target = folder / manifest.version
    try:
        with _alone(folder):
            if not _holds(target, manifest):
                _copy(manifest, target, source)
            os.utime(target)
            _evict(folder, limit, target)
            _remove_abandoned(into)
    except OSError as error:
        raise RegistryUnavailable(f"version {manifest.version} cannot be copied to {folder}: {error}") from error
    return target


def hold(directory: Path, owner: object) -> None:
    """Keep a copy from being evicted by any process of this machine for as long as `owner` lives."""
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError:
        return
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    weakref.finalize(owner, os.close, descriptor).atexit = False


def remember(into: Path, alias: str, manifest: Manifest) -> None:
    """Note that `alias` put this version in service here; where that fails, only a start without registry suffers."""
    record = _record(into / manifest.model, alias)
    earlier = [served for served in _read(record) if served.version != manifest.version]
    try:
        write_whole(record, msgspec.json.encode([manifest, *earlier[: REMEMBERED - 1]]), durable=True)
    except OSError as error:
        log.warning("what is served cannot be recorded", record=str(record), error=str(error))


def remembered(into: Path, model: str, alias: str) -> tuple[Manifest, Path] | None:
    """The version of `model` that `alias` put in service here last, of those whose copy is there and holds."""
    folder = into / model
    served = ((manifest, folder / manifest.version) for manifest in _read(_record(folder, alias)))
    return next(((manifest, target) for manifest, target in served if _holds(target, manifest)), None)


def _read(record: Path) -> list[Manifest]:
    """Newest first."""
    try:
        return msgspec.json.decode(record.read_bytes(), type=list[Manifest])
    except FileNotFoundError:
        return []
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        log.warning("the record of what was served cannot be read", record=str(record), error=str(error))
        return []


def _record(folder: Path, alias: str) -> Path:
    return folder / f".served-{alias}.json"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _holds(target: Path, manifest: Manifest) -> bool:
    if not target.is_dir():
        return False
    for name, entry in manifest.files.items():
        try:
            reason = "" if matches(target / name, entry) else "it is not what the manifest says"
        except OSError as error:
            reason = str(error)
        if reason:
            log.warning("local copy is corrupt", version=manifest.version, file=name, reason=reason)
            return False
    return True


def _copy(manifest: Manifest, target: Path, source: Source) -> None:
    partial = target.with_name(f"{PARTIAL}{target.name}")
    partial.mkdir(exist_ok=True)
    try:
        for name, entry in manifest.files.items():
            download(partial / name, entry, source, f"version {manifest.version}, file {name}")
        # The notes say which objects a copy was read from: those need not be read once more to be trusted.
        expected = {name for file in manifest.files for name in (file, etag_note(partial / file).name)}
        for path in partial.iterdir():
            if path.name not in expected:
                _remove(path)
        _remove(target)
        partial.rename(target)
    except (CorruptArtefact, OSError):
        _remove(partial)
        raise


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _evict(folder: Path, limit: CacheLimit, newest: Path) -> None:
    """Remove copies beyond the limit, the longest unused first, and what was interrupted long ago."""
    folders = sorted(((path.stat().st_mtime, path) for path in folder.iterdir() if path.is_dir()), reverse=True)
    served = _served(folder)
    copies, size = 0, 0
    _remove_abandoned(folder)
    for _, path in folders:
        if path.name.startswith("."):
            continue
        own = sum(file.stat().st_size for file in path.iterdir())
        too_much = copies >= limit.versions or (limit.size is not None and size + own > limit.size)
        if too_much and path != newest and path.name not in served and _evicted(path):
            continue
        copies, size = copies + 1, size + own


def _remove_abandoned(folder: Path) -> None:
    for path in folder.glob(".*"):
        if path.is_dir() and path.stat().st_mtime < time.time() - ABANDONED:
            shutil.rmtree(path, ignore_errors=True)


def _evicted(path: Path) -> bool:
    """Remove a copy unless a process holds it; whether it was removed."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        shutil.rmtree(path, ignore_errors=True)
        return True
    finally:
        os.close(descriptor)


def _served(folder: Path) -> set[str]:
    """The versions that a start without registry would serve."""
    return {noted[0].version for path in folder.glob(_record(folder, "*").name) if (noted := _read(path))}
