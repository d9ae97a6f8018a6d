"""Object store operations whose errors say what failed, and append-only sequences.

A sequence is `{folder}/{sequence:08d}.json`, one object per entry, each created if absent: two writers cannot both
be the next, the newest entry holds, and all of them are the audit log.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import msgspec
import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError, PreconditionError
from obstore.store import LocalStore, MemoryStore, from_url

from recsys.clients.download import Part
from recsys.clients.storage_errors import reason_of
from recsys.errors import Conflict, CorruptArtefact, InvalidInput, RegistryUnavailable
from recsys.observability.text import masked
from recsys.observability.unreadable import REGISTRY_ENTRY, note_unreadable

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult, ObjectMeta
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

CHUNK = 4 << 20
CLIENT: "ClientConfig" = {"connect_timeout": "5s", "read_timeout": "30s", "timeout": "15m"}
VARIABLES = {"s3": "AWS_", "s3a": "AWS_", "gs": "GOOGLE_", "az": "AZURE_", "abfs": "AZURE_", "abfss": "AZURE_"}
"""Where credentials and all else come from: what the names of environment variables begin with, by scheme."""
CLIENT_VARIABLES = (
    *("allow_http", "allow_invalid_certificates", "connect_timeout", "read_timeout", "timeout"),
    *("proxy_url", "proxy_ca_certificate", "proxy_excludes", "user_agent"),
)
RETRY: "RetryConfig" = {"max_retries": 3, "retry_timeout": timedelta(seconds=60)}
REMEMBERED = 10_000
ENTRY_NAME = re.compile(r"(\d{8,12})\.json")

T = TypeVar("T")


@contextmanager
def translated(action: str) -> Iterator[None]:
    """The client's errors as `RegistryUnavailable`, in a sentence."""
    try:
        yield
    except (BaseError, OSError) as error:
        raise RegistryUnavailable(f"the model registry cannot {action}: {reason_of(error)}") from error


def object_store(url: str) -> "ObjectStore":
    """The store at `url`; a local folder is made. Raises `RegistryUnavailable`."""
    with translated(f"be opened at {masked(url)}"):
        if url.startswith("memory:"):
            return MemoryStore()
        if "://" in url and not url.startswith("file://"):
            return from_url(url, client_options=_client(url.partition("://")[0]), retry_config=RETRY)
        return LocalStore(Path(url.removeprefix("file://")).resolve(), mkdir=True)


def _client(scheme: str) -> "ClientConfig":
    """Ours, and over it what the environment says: options that are passed hide those from obstore."""
    prefix = VARIABLES.get(scheme, "")
    named = {name: os.environ.get(f"{prefix}{name.upper()}") for name in CLIENT_VARIABLES} if prefix else {}
    return cast("ClientConfig", {**CLIENT, **{name: value for name, value in named.items() if value}})


class Objects:
    """An object store, opened on first use so that a service starts without it. All raise `RegistryUnavailable`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._remembered: dict[tuple[str, str | None], object] = {}

    @cached_property
    def store(self) -> "ObjectStore":
        """The object store, opened on first use."""
        return object_store(self._url)

    def entries(self, folder: str) -> "list[ObjectMeta]":
        """The metadata of every object below `folder`, sorted by path."""
        with translated(f"list {folder}"):
            entries = [entry for page in obstore.list(self.store, folder) for entry in page]
        return sorted(entries, key=lambda entry: entry["path"])

    def folders(self, folder: str) -> list[str]:
        """The names of the folders in `folder`, sorted; in one listing that does not look into them."""
        with translated(f"list {folder}"):
            found = obstore.list_with_delimiter(self.store, folder)["common_prefixes"]
        return sorted(path.rstrip("/").rpartition("/")[2] for path in found)

    def has_any(self, folder: str) -> bool:
        """Whether any object is below `folder`."""
        with translated(f"list {folder}"):
            return any(page for page in obstore.list(self.store, folder, chunk_size=1))

    def get(self, path: str) -> bytes | None:
        """The bytes of the object at `path`, `None` where there is none."""
        with translated(f"read {path}"):
            try:
                return obstore.get(self.store, path).bytes().to_bytes()
            except (NotFoundError, FileNotFoundError):
                return None

    def read(self, path: str, kind: type[T], decode: Callable[[bytes], T] | None = None) -> T | None:
        """The object at `path`; `None` where there is none and, with a warning, where it cannot be read.

        It is JSON of a `kind`, unless `decode` reads it, which may raise `CorruptArtefact`.
        """
        raw = self.get(path)
        if raw is None:
            return None
        try:
            return msgspec.json.decode(raw, type=kind) if decode is None else decode(raw)
        except (CorruptArtefact, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            note_unreadable(REGISTRY_ENTRY, path, error)
            return None

    def read_once(self, entry: "ObjectMeta", kind: type[T], decode: Callable[[bytes], T] | None = None) -> T | None:
        """The object of a listed `entry`, cached as it never changes; `None` and a warning where it is unreadable."""
        key = (entry["path"], entry.get("e_tag"))
        cached_value = self._remembered.get(key)
        if isinstance(cached_value, kind):
            return cached_value
        value = self.read(entry["path"], kind, decode)
        if value is None:
            return None
        if len(self._remembered) >= REMEMBERED:
            self._remembered.clear()
        self._remembered[key] = value
        return value

    def exists(self, path: str) -> bool:
        """Return whether there is an object at `path`."""
        with translated(f"read {path}"):
            try:
                obstore.head(self.store, path)
            except (NotFoundError, FileNotFoundError):
                return False
        return True

    def put(self, path: str, file: Path) -> None:
        """Upload the local `file` to `path`, replacing what is there."""
        with translated(f"write {path}"):
            obstore.put(self.store, path, file)

    def create(self, path: str, content: bytes) -> bool:
        """Create the object; False where another writer has created it with other content."""
        with translated(f"write {path}"):
            try:
                obstore.put(self.store, path, content, mode="create")
            except AlreadyExistsError:
                return self.get(path) == content
        return True

    def delete(self, path: str) -> None:
        """Delete the object at `path`; does nothing where there is none."""
        with translated(f"delete {path}"):
            try:
                obstore.delete(self.store, path)
            except (NotFoundError, FileNotFoundError):
                return

    def part(self, path: str, offset: int = 0, e_tag: str | None = None) -> Part | None:
        """The object at `path`, from `offset` on if it still has this `e_tag`, else whole; `None` if it is missing."""
        result = self._get(path, {"range": {"offset": offset}, "if_match": e_tag}) if offset and e_tag else None
        # Not every server minds `If-Match`.
        if result is None or result.meta.get("e_tag") != e_tag:
            result, offset = self._get(path, {}), 0
        if result is None:
            return None
        return Part(result.meta.get("e_tag"), offset, _chunks(result, path))

    def _get(self, path: str, options: "GetOptions") -> "GetResult | None":
        with translated(f"read {path}"):
            try:
                return obstore.get(self.store, path, options=options)
            except (NotFoundError, FileNotFoundError, PreconditionError):
                return None

    def newest_first(self, folder: str, kind: type[T]) -> Iterator[T]:
        """The entries of the sequence in `folder`, backwards; what cannot be read is skipped."""
        for entry in reversed(self.entries(folder)):
            value = self.read_once(entry, kind) if sequence_of(entry["path"]) else None
            if value is not None:
                yield value

    def newest_of_each(self, folder: str, kind: type[T]) -> dict[str, T]:
        """The newest entry of every sequence in a folder of `folder`, by that folder's name; in one listing."""
        newest: dict[str, T] = {}
        for entry in reversed(self.entries(folder)):
            name = entry["path"].split("/")[-2]
            if name not in newest and sequence_of(entry["path"]):
                value = self.read_once(entry, kind)
                if value is not None:
                    newest[name] = value
        return newest

    def append(self, folder: str, entry: Callable[[int], T], last_sequence: int | None = None) -> T:
        """The next entry of the sequence, or the one `last_sequence` an entry, given its number.

        Raises `Conflict` when another writer was faster, and `InvalidInput` for an entry that could not be read.
        """
        if last_sequence is None:
            last_sequence = max((sequence_of(stored["path"]) for stored in self.entries(folder)), default=0)
        sequence = last_sequence + 1
        value = entry(sequence)
        if not self.create(f"{folder}/{sequence:08d}.json", encoded(value)):
            raise Conflict(f"{folder} was changed by somebody else meanwhile")
        return value


def encoded(value: object) -> bytes:
    """`value` as JSON that `msgspec` reads as the same. Raises `InvalidInput` naming the field that it would refuse."""
    try:
        raw = msgspec.json.encode(value)
        msgspec.json.decode(raw, type=type(value))
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidInput(*_wrong(error)) from error
    return raw


def _wrong(error: Exception) -> tuple[str, str]:
    reason, _, path = str(error).partition(" - at `$.")
    return path.rstrip("`") or "entry", reason


def _chunks(result: "GetResult", path: str) -> Iterator[bytes]:
    with translated(f"read {path}"):
        stream = result.stream(min_chunk_size=CHUNK)
    while True:
        with translated(f"read {path}"):
            chunk = next(stream, None)
        if chunk is None:
            return
        yield bytes(chunk)


def sequence_of(path: str) -> int:
    """The sequence number in the path of an entry; 0 for another path."""
    match = ENTRY_NAME.fullmatch(path.rpartition("/")[2])
    return int(match[1]) if match else 0
