"""The index registry on an object store: a local folder, S3, GCS, Azure or memory behind one client.

versions/{version}/{file}             written once
versions/{version}/manifest.json      written last: without it the version does not exist
aliases/{alias}/{sequence:08d}.json   created only if absent, so of two movers one wins; the newest counts
"""

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from hashlib import file_digest
from pathlib import Path, PurePosixPath
from tempfile import mkdtemp
from typing import TypeVar

import msgspec
import obstore
import structlog
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.exceptions import NotFoundError as ObjectNotFoundError
from obstore.store import LocalStore, ObjectStore, from_url

from recsys.errors import Conflict, CorruptArtefact, InvalidInput, NotFound, RegistryUnavailable
from recsys.index_version import ALIAS_PATTERN, VERSION_PATTERN, AliasMove, FileEntry, Manifest

log = structlog.get_logger()
MANIFEST = "manifest.json"
FILE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
TIMEOUT = timedelta(seconds=30)
T = TypeVar("T")


def open_store(url: str) -> ObjectStore:
    """The store behind a folder path or a URL; credentials come from the environment."""
    if "://" not in url:
        return LocalStore(str(Path(url).resolve()), mkdir=True)
    if url.startswith("file://"):
        return LocalStore(url.removeprefix("file://"), mkdir=True)
    return from_url(
        url,
        client_options={"timeout": TIMEOUT, "connect_timeout": timedelta(seconds=5)},
        retry_config={"max_retries": 3, "retry_timeout": TIMEOUT},
    )


class ObjectStoreRegistry:
    """See `recsys.index_registry.protocol.IndexRegistry`."""

    def __init__(self, url: str, store: ObjectStore | None = None) -> None:
        self._url = url
        self._opened = store

    @property
    def _store(self) -> ObjectStore:
        # Opened on first use, so that a registry that is down keeps nobody from starting.
        if self._opened is None:
            self._opened = open_store(self._url)
        return self._opened

    def publish(self, manifest: Manifest, files: Mapping[str, Path]) -> None:
        _check_files(manifest, files)
        with self._translated():
            if self._exists(_key(manifest.version, MANIFEST)):
                raise Conflict(f"version {manifest.version} exists already")
            for name, path in files.items():
                obstore.put(self._store, _key(manifest.version, name), path)
            try:
                raw = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
                obstore.put(self._store, _key(manifest.version, MANIFEST), raw, mode="create")
            except AlreadyExistsError as error:
                raise Conflict(f"version {manifest.version} was published by somebody else meanwhile") from error

    def versions(self) -> list[Manifest]:
        found = []
        with self._translated():
            listed = obstore.list_with_delimiter(self._store, "versions")
            names = [PurePosixPath(prefix).name for prefix in listed["common_prefixes"]]
        for name in names:
            try:
                found.append(self.manifest(name))
            except NotFound:
                continue  # being written, or left half-written by a run that died
            except CorruptArtefact as error:
                log.warning("passing over a version", version=name, error=str(error))
        return sorted(found, key=lambda one: (one.created_at, one.version))

    def manifest(self, version: str) -> Manifest:
        raw = self._read(_key(_named("version", version, VERSION_PATTERN), MANIFEST))
        if raw is None:
            raise NotFound("version", version)
        return _decoded(raw, Manifest, f"the manifest of version {version}")

    def fetch(self, version: str, into: Path) -> Path:
        manifest = self.manifest(version)
        final = into / version
        with self._translated():
            if final.is_dir():
                try:
                    _verify(final, manifest)
                except CorruptArtefact as error:
                    log.warning("fetching a version again", version=version, error=str(error))
                    shutil.rmtree(final, ignore_errors=True)
                else:
                    return final
            into.mkdir(parents=True, exist_ok=True)
            arriving = Path(mkdtemp(prefix=f".{version}-", dir=into))
            try:
                self._download(manifest, arriving)
                _verify(arriving, manifest)
                # Another process that fetched the same version meanwhile has the same verified files.
                with suppress(OSError):
                    arriving.rename(final)
            finally:
                shutil.rmtree(arriving, ignore_errors=True)
        return final

    def alias(self, alias: str) -> AliasMove | None:
        sequences = self._sequences(alias)
        return self._move(alias, sequences[-1]) if sequences else None

    def history(self, alias: str) -> list[AliasMove]:
        return [self._move(alias, sequence) for sequence in self._sequences(alias)]

    def move_alias(self, alias: str, version: str, *, actor: str, reason: str) -> AliasMove:
        self.manifest(version)
        sequences = self._sequences(alias)
        move = AliasMove(
            alias=alias,
            version=version,
            sequence=sequences[-1] + 1 if sequences else 1,
            moved_at=datetime.now(UTC),
            actor=actor,
            reason=reason,
        )
        with self._translated():
            try:
                obstore.put(self._store, _alias_key(alias, move.sequence), msgspec.json.encode(move), mode="create")
            except AlreadyExistsError as error:
                raise Conflict(f"alias {alias!r} was moved by somebody else meanwhile: look, then try again") from error
        return move

    def delete(self, version: str) -> None:
        self.manifest(version)
        with self._translated():
            listed = obstore.list_with_delimiter(self._store, "aliases")
            aliases = [PurePosixPath(prefix).name for prefix in listed["common_prefixes"]]
        for alias in aliases:
            move = self.alias(alias)
            if move is not None and move.version == version:
                raise Conflict(f"version {version} is in service: alias {alias!r} points at it")
        with self._translated():
            # The manifest first: from then on the version does not exist, however far the rest comes.
            obstore.delete(self._store, _key(version, MANIFEST))
            rest = [one["path"] for chunk in obstore.list(self._store, f"versions/{version}/") for one in chunk]
            if rest:
                obstore.delete(self._store, rest)

    def _sequences(self, alias: str) -> list[int]:
        _named("alias", alias, ALIAS_PATTERN)
        with self._translated():
            names = [
                PurePosixPath(one["path"]).stem
                for chunk in obstore.list(self._store, f"aliases/{alias}/")
                for one in chunk
            ]
        return sorted(int(name) for name in names if name.isdecimal())

    def _move(self, alias: str, sequence: int) -> AliasMove:
        raw = self._read(_alias_key(alias, sequence))
        if raw is None:
            raise CorruptArtefact(f"move {sequence} of alias {alias!r} has vanished")
        return _decoded(raw, AliasMove, f"move {sequence} of alias {alias!r}")

    def _exists(self, key: str) -> bool:
        try:
            obstore.head(self._store, key)
        except (ObjectNotFoundError, FileNotFoundError):
            return False
        return True

    def _read(self, key: str) -> bytes | None:
        with self._translated():
            try:
                return obstore.get(self._store, key).bytes().to_bytes()
            except (ObjectNotFoundError, FileNotFoundError):
                return None

    def _download(self, manifest: Manifest, directory: Path) -> None:
        for name in manifest.files:
            _named_or_corrupt(name, manifest.version)
            try:
                with (directory / name).open("wb") as file:
                    for chunk in obstore.get(self._store, _key(manifest.version, name)).stream():
                        file.write(chunk)
            except (ObjectNotFoundError, FileNotFoundError) as error:
                raise CorruptArtefact(f"version {manifest.version}: file {name} is missing") from error

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (BaseError, OSError) as error:
            raise RegistryUnavailable(f"the index registry at {self._url} fails: {error}", retry_after=5.0) from error


def _check_files(manifest: Manifest, files: Mapping[str, Path]) -> None:
    _named("version", manifest.version, VERSION_PATTERN)
    if manifest.files.keys() != files.keys() or MANIFEST in files:
        raise InvalidInput("files", f"{sorted(files)} are not the manifest's {sorted(manifest.files)}")
    for name, path in files.items():
        _named("files", name, FILE_PATTERN)
        if _entry(path) != manifest.files[name]:
            raise InvalidInput(f"files.{name}", "differs from its size or checksum in the manifest")


def _verify(directory: Path, manifest: Manifest) -> None:
    """Raises `CorruptArtefact` naming the first file that is not what the manifest says."""
    for name, expected in manifest.files.items():
        path = directory / name
        if not path.is_file():
            raise CorruptArtefact(f"version {manifest.version}: file {name} is missing")
        if _entry(path) != expected:
            raise CorruptArtefact(f"version {manifest.version}: file {name} does not have its size or checksum")


def _named_or_corrupt(name: str, version: str) -> None:
    try:
        _named("file", name, FILE_PATTERN)
    except InvalidInput as error:
        raise CorruptArtefact(f"version {version}: {error}") from error


def _entry(path: Path) -> FileEntry:
    with path.open("rb") as file:
        return FileEntry(sha256=file_digest(file, "sha256").hexdigest(), size=path.stat().st_size)


def _named(field: str, name: str, pattern: str) -> str:
    """`name`, if it fits `pattern`: names become paths, and must not leave the registry."""
    if not re.fullmatch(pattern, name):
        raise InvalidInput(field, f"{name!r} does not fit {pattern}")
    return name


def _key(version: str, name: str) -> str:
    return f"versions/{version}/{name}"


def _alias_key(alias: str, sequence: int) -> str:
    return f"aliases/{alias}/{sequence:08d}.json"


def _decoded(raw: bytes, kind: type[T], what: str) -> T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.DecodeError as error:
        raise CorruptArtefact(f"{what} cannot be read: {error}") from error
