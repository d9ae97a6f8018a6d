"""The index registry on an object store: a local folder, S3, Google Cloud Storage or Azure.

versions/{version}/{file}               uploaded first
versions/{version}/manifest.json        created last: without it, the version does not exist
aliases/{alias}/{sequence:08d}.json     one object per move, each created if absent: two moves cannot both be
                                        the next, the newest one holds, and all of them are the audit log
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec
import obstore
import structlog
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from obstore.store import LocalStore, MemoryStore, from_url

from recsys.errors import Conflict, CorruptArtefact, InvalidInput, NotFound, RegistryUnavailable
from recsys.index_registry.local_copy import digest_of, local_copy
from recsys.index_version import Alias, AliasMove, Manifest, VersionId

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

log = structlog.get_logger()

MANIFEST = "manifest.json"
CHUNK = 4 << 20
CLIENT: "ClientConfig" = {"connect_timeout": "5s", "read_timeout": "30s", "timeout": "15m"}
RETRY: "RetryConfig" = {"max_retries": 3, "retry_timeout": timedelta(seconds=60)}
REMEMBERED = 10_000
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
MOVE_NAME = re.compile(r"(\d{8,12})\.json")

T = TypeVar("T")


@contextmanager
def translated(what: str) -> Iterator[None]:
    """The client's errors as `RegistryUnavailable`, without its debug output."""
    try:
        yield
    except (BaseError, OSError) as error:
        raise RegistryUnavailable(f"the index registry cannot {what}: {str(error).partition(chr(10))[0]}") from error


def object_store(url: str) -> "ObjectStore":
    """The store at `url`; a local folder is made. Raises `RegistryUnavailable`."""
    with translated(f"be opened at {url}"):
        if url.startswith("memory:"):
            return MemoryStore()
        if "://" in url and not url.startswith("file://"):
            return from_url(url, client_options=CLIENT, retry_config=RETRY)
        return LocalStore(Path(url.removeprefix("file://")).resolve(), mkdir=True)


class ObjectStoreRegistry:
    """An `IndexRegistry`, opened on first use: one that is away must not keep a service from starting."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._remembered: dict[tuple[str, str | None], object] = {}

    @cached_property
    def _store(self) -> "ObjectStore":
        return object_store(self._url)

    def publish(self, manifest: Manifest, files: Mapping[str, Path]) -> None:
        _check_id(manifest.version, VersionId, "version")
        _check_files(manifest, files)
        folder = _folder(manifest.version)
        if self._exists(f"{folder}/{MANIFEST}"):
            raise Conflict(f"version {manifest.version} exists already")
        for name, path in files.items():
            with translated(f"write {folder}/{name}"):
                obstore.put(self._store, f"{folder}/{name}", path)
        if not self._create(f"{folder}/{MANIFEST}", msgspec.json.format(msgspec.json.encode(manifest))):
            raise Conflict(f"version {manifest.version} was published by somebody else meanwhile")

    def versions(self) -> list[Manifest]:
        found = [self._manifest_at(entry) for entry in self._list("versions") if _is_manifest(entry["path"])]
        return sorted(filter(None, found), key=lambda manifest: (manifest.created_at, manifest.version))

    def manifest(self, version: str) -> Manifest:
        path = f"{_folder(version)}/{MANIFEST}"
        raw = self._get(path) if _is_id(version, VersionId) else None
        if raw is None:
            raise NotFound("version", version)
        return _read_manifest(raw, version)

    def fetch(self, version: str, into: Path) -> Path:
        manifest = self.manifest(version)
        return local_copy(manifest, into, lambda name: self._chunks(version, name))

    def alias(self, alias: str) -> AliasMove | None:
        return next(self._moves_backwards(alias), None)

    def history(self, alias: str) -> list[AliasMove]:
        return [*self._moves_backwards(alias)][::-1]

    def move_alias(self, alias: str, version: str, *, actor: str, reason: str) -> AliasMove:
        _check_id(alias, Alias, "alias")
        self.manifest(version)
        sequence = max((_sequence(entry["path"]) for entry in self._list(f"aliases/{alias}")), default=0) + 1
        moved_at = datetime.now(UTC)
        move = AliasMove(alias=alias, version=version, sequence=sequence, moved_at=moved_at, actor=actor, reason=reason)
        if not self._create(f"aliases/{alias}/{sequence:08d}.json", msgspec.json.encode(move)):
            raise Conflict(f"alias {alias!r} was moved by somebody else meanwhile")
        return move

    def delete(self, version: str) -> None:
        if not _is_id(version, VersionId) or not self._exists(f"{_folder(version)}/{MANIFEST}"):
            raise NotFound("version", version)
        with translated("list aliases"):
            aliases = obstore.list_with_delimiter(self._store, "aliases")["common_prefixes"]
        for alias in (path.rpartition("/")[2] for path in aliases):
            move = self.alias(alias)
            if move is not None and move.version == version:
                raise Conflict(f"version {version} is in service: alias {alias!r} points at it")
        folder = _folder(version)
        # Whoever finds no manifest finds no version, whatever is left of it.
        for path in (f"{folder}/{MANIFEST}", *(entry["path"] for entry in self._list(folder))):
            with translated(f"delete {path}"), _absent_is_fine():
                obstore.delete(self._store, path)

    def _moves_backwards(self, alias: str) -> Iterator[AliasMove]:
        if not _is_id(alias, Alias):
            return
        for entry in reversed(self._list(f"aliases/{alias}")):
            move = self._read_once(entry, AliasMove) if _sequence(entry["path"]) else None
            if move is not None:
                yield move

    def _manifest_at(self, entry: "ObjectMeta") -> Manifest | None:
        manifest = self._read_once(entry, Manifest)
        if manifest is not None and _folder(manifest.version) != entry["path"].rpartition("/")[0]:
            log.warning("manifest of another version skipped", path=entry["path"], version=manifest.version)
            return None
        return manifest

    def _read_once(self, entry: "ObjectMeta", kind: type[T]) -> T | None:
        """Nothing here ever changes, so nothing is read twice. `None` (and a warning) for the unreadable."""
        key = (entry["path"], entry.get("e_tag"))
        known = self._remembered.get(key)
        if isinstance(known, kind):
            return known
        raw = self._get(entry["path"])
        if raw is None:
            return None
        try:
            value = msgspec.json.decode(raw, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("unreadable entry of the index registry skipped", path=entry["path"], error=str(error))
            return None
        if len(self._remembered) >= REMEMBERED:
            self._remembered.clear()
        self._remembered[key] = value
        return value

    def _list(self, folder: str) -> "list[ObjectMeta]":
        """What is below `folder`, in the order of the paths."""
        with translated(f"list {folder}"):
            entries = [entry for page in obstore.list(self._store, folder) for entry in page]
        return sorted(entries, key=lambda entry: entry["path"])

    def _get(self, path: str) -> bytes | None:
        with translated(f"read {path}"):
            try:
                return obstore.get(self._store, path).bytes().to_bytes()
            except (NotFoundError, FileNotFoundError):
                return None

    def _exists(self, path: str) -> bool:
        with translated(f"read {path}"):
            try:
                obstore.head(self._store, path)
            except (NotFoundError, FileNotFoundError):
                return False
        return True

    def _create(self, path: str, content: bytes) -> bool:
        """False where somebody else has created it. Our own, if only its answer was lost, is ours."""
        with translated(f"write {path}"):
            try:
                obstore.put(self._store, path, content, mode="create")
            except AlreadyExistsError:
                return self._get(path) == content
        return True

    def _chunks(self, version: str, name: str) -> Iterator[bytes]:
        path = f"{_folder(version)}/{name}"
        with translated(f"read {path}"):
            try:
                stream = obstore.get(self._store, path).stream(min_chunk_size=CHUNK)
            except (NotFoundError, FileNotFoundError):
                raise CorruptArtefact(f"version {version}, file {name}: it is missing") from None
        while True:
            with translated(f"read {path}"):
                chunk = next(stream, None)
            if chunk is None:
                return
            yield bytes(chunk)


@contextmanager
def _absent_is_fine() -> Iterator[None]:
    try:
        yield
    except (NotFoundError, FileNotFoundError):
        return


def _folder(version: str) -> str:
    return f"versions/{version}"


def _is_manifest(path: str) -> bool:
    return path.count("/") == 2 and path.endswith(f"/{MANIFEST}")


def _sequence(path: str) -> int:
    """0 for what is no move."""
    found = MOVE_NAME.fullmatch(path.rpartition("/")[2])
    return int(found[1]) if found else 0


def _is_id(value: str, kind: object) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _check_id(value: str, kind: object, field: str) -> None:
    if not _is_id(value, kind):
        raise InvalidInput(field, f"{value!r} is not a valid {field} name")


def _read_manifest(raw: bytes, version: str) -> Manifest:
    try:
        manifest = msgspec.json.decode(raw, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptArtefact(f"version {version}, file {MANIFEST}: {error}") from error
    if manifest.version != version:
        raise CorruptArtefact(f"version {version}, file {MANIFEST}: it is of version {manifest.version}")
    for name in manifest.files:
        if not _is_plain(name):
            raise CorruptArtefact(f"version {version}, file {MANIFEST}: {name!r} is no plain file name")
    return manifest


def _is_plain(name: str) -> bool:
    """Files of a version lie in one folder, whoever wrote the manifest."""
    return FILE_NAME.fullmatch(name) is not None and name != MANIFEST


def _check_files(manifest: Manifest, files: Mapping[str, Path]) -> None:
    for name in files.keys() ^ manifest.files.keys():
        raise InvalidInput(f"files.{name}", "is not in both the manifest and the files")
    for name, path in files.items():
        entry = manifest.files[name]
        if not _is_plain(name):
            raise InvalidInput(f"files.{name}", "is no plain file name")
        if not path.is_file():
            raise InvalidInput(f"files.{name}", f"{path} is no file")
        if path.stat().st_size != entry.size:
            raise InvalidInput(f"files.{name}", f"has {path.stat().st_size} bytes, the manifest says {entry.size}")
        if digest_of(path) != entry.sha256:
            raise InvalidInput(f"files.{name}", "its checksum is not the manifest's")
