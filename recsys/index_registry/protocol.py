"""The index registry: immutable versions and audited aliases; written by training and operators."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from recsys.index_version import AliasMove, Manifest


class IndexRegistry(Protocol):
    """All methods are synchronous: call them from a thread. All raise `RegistryUnavailable`."""

    def publish(self, manifest: Manifest, files: Mapping[str, Path]) -> None:
        """Write `files` (name -> local file) and then the manifest.

        Raises `Conflict` when the version exists, `InvalidInput` when `manifest.files` does not
        match `files` (names, sizes, checksums).
        """
        ...

    def versions(self) -> list[Manifest]:
        """Every complete version, oldest first."""
        ...

    def manifest(self, version: str) -> Manifest:
        """Raises `NotFound`, or `CorruptArtefact` when the manifest cannot be read."""
        ...

    def fetch(self, version: str, into: Path) -> Path:
        """The directory holding the version's files, each verified against the manifest.

        Files are copied to `into/version` unless they are there and verified already. Raises
        `NotFound`, or `CorruptArtefact` naming the file; a corrupt copy is never left behind.
        """
        ...

    def alias(self, alias: str) -> AliasMove | None:
        """Where `alias` points now."""
        ...

    def history(self, alias: str) -> list[AliasMove]:
        """Every move of `alias`, oldest first."""
        ...

    def move_alias(self, alias: str, version: str, *, actor: str, reason: str) -> AliasMove:
        """Point `alias` at `version`. Raises `NotFound`, or `Conflict` when another move won."""
        ...

    def delete(self, version: str) -> None:
        """Remove a version, manifest first. Raises `Conflict` when an alias points at it, `NotFound`."""
        ...
