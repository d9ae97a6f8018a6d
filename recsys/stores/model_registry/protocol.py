"""The model registry: immutable versions and audited aliases of each model; written by training and operators."""

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Protocol

from recsys.experiments.rollout import Rollout
from recsys.models.alias_move import AliasMove
from recsys.models.manifest import Manifest


class ModelRegistry(Protocol):
    """Versions and aliases of one `model`. Methods block: call them from a thread. All raise `RegistryUnavailable`.

    Nothing here depends on the model's kind. `RegistryOutdated` is raised where the answer would be that there is
    nothing, and the registry holds what an earlier release wrote.
    """

    model: str

    def of(self, model: str) -> "ModelRegistry":
        """The versions and aliases of another model in the same registry. Raises `InvalidInput` for what is no name."""
        ...

    def models(self) -> list[str]:
        """The names of the models that anything was published of, sorted."""
        ...

    def publish(self, manifest: Manifest, files: Mapping[str, Path]) -> None:
        """Write `files` (name -> local file) and then the manifest.

        Raises `Conflict` when the version exists, `InvalidInput` when `manifest.files` does not
        match `files` (names, sizes, checksums), is of another model, or has a section that does not fit its kind.
        """
        ...

    def versions(self) -> list[Manifest]:
        """The manifests of all complete versions, oldest first."""
        ...

    def manifest(self, version: str) -> Manifest:
        """The manifest of `version`. Raises `NotFound`, or `CorruptArtefact` when it cannot be read."""
        ...

    def fetch(self, version: str, into: Path) -> Path:
        """The directory holding the version's files, each verified against the manifest.

        Files are copied to `into/model/version` unless they are there and verified already; a copy that was interrupted
        goes on where it stopped. Raises `NotFound`, or `CorruptArtefact` naming the file; a corrupt copy is never
        left behind.
        """
        ...

    def check(self, version: str, copies: Path) -> None:
        """Check that every file of the manifest is whole. Raises `NotFound`, or `CorruptArtefact` naming the file.

        Each file is read and hashed, but for those that a copy in `copies` was read from and that are the same since.
        """
        ...

    def prove(self, version: str) -> None:
        """Run the `Proof` this registry was opened with, if any; done before a move that puts `version` in service.

        Raises `NotFound`, `CorruptArtefact`.
        """
        ...

    def alias(self, alias: str) -> AliasMove | None:
        """The newest move of `alias`, `None` where it points nowhere."""
        ...

    def aliases(self) -> dict[str, AliasMove]:
        """The newest move of every alias that points somewhere; in one listing."""
        ...

    def history(self, alias: str | None = None) -> list[AliasMove]:
        """The moves of `alias`, or of all aliases, oldest first."""
        ...

    def move_alias(
        self,
        alias: str,
        version: str | None,
        *,
        actor: str,
        reason: str,
        rollout: Rollout | None = None,
        last_sequence: int | None = None,
    ) -> AliasMove:
        """Point `alias` at `version`, or nowhere with `None`; a pin apart, a version is proven first (`prove`).

        Raises `InvalidInput` for what is no alias that can be moved so, `NotFound`, or `Conflict` when another
        move won, or there is one that is not the `last_sequence` (its sequence) which the caller has seen.
        """
        ...

    def delete(self, version: str, *, actor: str = "nobody", reason: str = "deleted") -> None:
        """Remove a version, manifest first; the history keeps who did so and why, as `deleted:VERSION`.

        Raises `Conflict` when an alias points at it, `NotFound`.
        """
        ...

    def collect(self, cutoff: datetime, *, dry_run: bool = False) -> list[str]:
        """Remove what is left of versions without a manifest that nothing was written to since `cutoff`.

        They are uploads or deletions that never came to their end; their names, sorted.
        """
        ...


Proof = Callable[[ModelRegistry, str], None]
"""Says whether a version can serve: returns, or raises `NotFound` or `CorruptArtefact`."""
