"""Checks of a version's files and manifest."""

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from recsys.clients.download import digest_of
from recsys.errors import CorruptArtefact, InvalidInput
from recsys.models.manifest import FORMAT_VERSION, Manifest, check_format

MANIFEST = "manifest.json"
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


class _Format(msgspec.Struct):
    """What is read of a manifest before the rest: an older one has other fields."""

    format_version: int = FORMAT_VERSION


def read_manifest(raw: bytes, version: str) -> Manifest:
    """The manifest of `version`. Raises `CorruptArtefact`, also for files that would lie elsewhere.

    An older format is refused by name; of a newer one the header is read, as far as it can be.
    """
    try:
        check_format(version, min(msgspec.json.decode(raw, type=_Format).format_version, FORMAT_VERSION))
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
    """Whether the name is a plain file name, so that all files of a version lie in one folder."""
    return FILE_NAME.fullmatch(name) is not None and name != MANIFEST


def check_files(manifest: Manifest, files: Mapping[str, Path]) -> None:
    """Check names, sizes and checksums of `files`. Raises `InvalidInput` where the manifest says otherwise."""
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
