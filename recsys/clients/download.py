"""One file from the registry to this machine: verified, and resumed where an earlier attempt stopped."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path

from recsys.errors import CorruptArtefact
from recsys.models.manifest import FileEntry


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes of an object from `offset` on; `e_tag` changes when the object does."""

    e_tag: str | None
    offset: int
    chunks: Iterator[bytes]


Source = Callable[[str, int, str | None], Part]
"""A version's file by its name, from an offset if it still has this etag, else from the start."""


def digest_of(path: Path) -> str:
    """The SHA-256 of the file as lower-case hex. Raises `OSError`."""
    with path.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


def matches(path: Path, entry: FileEntry) -> bool:
    """Return whether `path` is a file of the size and checksum of `entry`. Raises `OSError`."""
    return path.is_file() and path.stat().st_size == entry.size and digest_of(path) == entry.sha256


def etag_note(path: Path) -> Path:
    """The path of the note of the etag that the object copied to `path` had."""
    return path.with_name(f".{path.name}.etag")


def note_etag(path: Path, e_tag: str | None) -> None:
    """The object with this etag is what the copy at `path` is; where that cannot be noted, it is read once more."""
    with suppress(OSError):
        etag_note(path).write_text(e_tag or "")


def etag_of(path: Path) -> str:
    """The noted etag of the object that was copied to `path`; empty where there is no readable note."""
    try:
        return etag_note(path).read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def download(path: Path, entry: FileEntry, source: Source, label: str) -> None:
    """Write `path`; beside it `.{name}.etag` says what its beginning was read from.

    Raises `CorruptArtefact` when what came is not what `entry` promises.
    """
    if matches(path, entry):
        return
    note = etag_note(path)
    if path.is_file() and note.is_file() and 0 < path.stat().st_size < entry.size:
        try:
            _write(path, entry, source(path.name, path.stat().st_size, note.read_text()), label, note)
        except CorruptArtefact:
            # What was left behind may be what does not hold.
            pass
        else:
            return
    _write(path, entry, source(path.name, 0, None), label, note)


def _write(path: Path, entry: FileEntry, part: Part, label: str, note: Path) -> None:
    with path.open("r+b" if part.offset else "wb") as output:
        note.write_text(part.e_tag or "")
        for chunk in verified(part.chunks, entry, label, output.read() if part.offset else b""):
            output.write(chunk)


def verified(chunks: Iterator[bytes], entry: FileEntry, label: str, beginning: bytes = b"") -> Iterator[bytes]:
    """`chunks`, which go on from `beginning`. Raises `CorruptArtefact` where both are not what `entry` promises."""
    digest, size = sha256(beginning), len(beginning)
    for chunk in chunks:
        size += len(chunk)
        if size > entry.size:
            raise CorruptArtefact(f"{label}: more than the {entry.size} bytes of the manifest")
        digest.update(chunk)
        yield chunk
    if size != entry.size:
        raise CorruptArtefact(f"{label}: {size} bytes, but the manifest says {entry.size}")
    if digest.hexdigest() != entry.sha256:
        raise CorruptArtefact(f"{label}: its checksum is not the manifest's")
