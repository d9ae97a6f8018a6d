"""The model registry on an object store: a local folder, S3, Google Cloud Storage or Azure.

`recsys.stores.model_registry.layout` says what lies where. A placement's own version is the alias `placement:{name}`, a
version that is to be kept the alias `pin:{version}`: one mechanism moves, protects and remembers them all.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from recsys.clients.download import Part, etag_of, note_etag, verified
from recsys.clients.objects import Objects, encoded, sequence_of
from recsys.errors import Conflict, CorruptArtefact, InvalidInput, NotFound
from recsys.experiments.rollout import Rollout
from recsys.models.alias_move import DELETED, LIVE, PIN, PREVIOUS, Alias, AliasMove, in_service
from recsys.models.kinds import check_section
from recsys.models.manifest import RECOMMENDER, Manifest, ModelName, VersionId
from recsys.stores.model_registry.contents import MANIFEST, check_files, read_manifest
from recsys.stores.model_registry.layout import MODELS, ModelFolders, check_layout
from recsys.stores.model_registry.local_copy import DEFAULT_LIMIT, CacheLimit, local_copy
from recsys.stores.model_registry.protocol import Proof

if TYPE_CHECKING:
    from obstore import ObjectMeta


class ObjectStoreModelRegistry:
    """The `ModelRegistry` of `model` in `objects`."""

    def __init__(
        self,
        objects: Objects,
        model: str = RECOMMENDER,
        *,
        limit: CacheLimit = DEFAULT_LIMIT,
        proof: Proof | None = None,
    ) -> None:
        _check_id(model, ModelName, "model")
        self.model = model
        self._objects = objects
        self._folders = ModelFolders(model)
        self._limit = limit
        self._proof = proof

    def of(self, model: str) -> "ObjectStoreModelRegistry":
        """See `ModelRegistry.of`."""
        if model == self.model:
            return self
        return ObjectStoreModelRegistry(self._objects, model, limit=self._limit, proof=self._proof)

    def models(self) -> list[str]:
        """See `ModelRegistry.models`."""
        names = [name for name in self._objects.folders(MODELS) if _is_id(name, ModelName)]
        if not names:
            check_layout(self._objects)
        return names

    def publish(self, manifest: Manifest, files: Mapping[str, Path]) -> None:
        """See `ModelRegistry.publish`; the manifest is created last and only if absent."""
        _check_id(manifest.version, VersionId, "version")
        if manifest.model != self.model:
            raise InvalidInput("model", f"version {manifest.version} is of model {manifest.model}, not {self.model}")
        check_section(manifest)
        check_files(manifest, files)
        described = msgspec.json.format(encoded(manifest))
        folder = self._folders.version(manifest.version)
        if self._objects.exists(f"{folder}/{MANIFEST}"):
            raise Conflict(f"version {manifest.version} exists already")
        for name, path in files.items():
            self._objects.put(f"{folder}/{name}", path)
        if not self._objects.create(f"{folder}/{MANIFEST}", described):
            raise Conflict(f"version {manifest.version} was published by somebody else meanwhile")

    def versions(self) -> list[Manifest]:
        """See `ModelRegistry.versions`; a manifest that cannot be read is logged and left out."""
        manifests = [
            self._manifest_at(entry)
            for entry in self._objects.entries(self._folders.versions)
            if self._folders.is_manifest(entry["path"])
        ]
        if not manifests:
            check_layout(self._objects)
        return sorted(filter(None, manifests), key=lambda manifest: (manifest.created_at, manifest.version))

    def manifest(self, version: str) -> Manifest:
        """See `ModelRegistry.manifest`."""
        path = f"{self._folders.version(version)}/{MANIFEST}"
        raw = self._objects.get(path) if _is_id(version, VersionId) else None
        if raw is None:
            check_layout(self._objects)
            raise NotFound("version", version)
        return self._own(read_manifest(raw, version))

    def fetch(self, version: str, into: Path) -> Path:
        """See `ModelRegistry.fetch`; older copies beyond the cache limit are removed."""
        manifest = self.manifest(version)
        return local_copy(manifest, into, partial(self._part, version), self._limit)

    def check(self, version: str, copies: Path) -> None:
        """See `ModelRegistry.check`; a file is unchanged while its etag is."""
        manifest, folder = self.manifest(version), self._folders.version(version)
        stored = {entry["path"]: entry for entry in self._objects.entries(folder)}
        for name, promised in manifest.files.items():
            label, entry = f"version {version}, file {name}", stored.get(f"{folder}/{name}")
            if entry is None:
                raise CorruptArtefact(f"{label}: it is missing")
            if entry["size"] != promised.size:
                raise CorruptArtefact(f"{label}: {entry['size']} bytes, but the manifest says {promised.size}")
            e_tag, copy = entry.get("e_tag"), copies / self.model / version / name
            if e_tag is None or e_tag != etag_of(copy):
                for _ in verified(self._part(version, name, 0, None).chunks, promised, label):
                    pass
                note_etag(copy, e_tag)

    def prove(self, version: str) -> None:
        """See `ModelRegistry.prove`."""
        if self._proof is not None:
            self._proof(self, version)

    def alias(self, alias: str) -> AliasMove | None:
        """See `ModelRegistry.alias`; `None` for an alias that was cleared."""
        move = next(self._moves_backwards(alias), None)
        if move is None:
            check_layout(self._objects)
        return None if move is None or move.cleared else move

    def aliases(self) -> dict[str, AliasMove]:
        """See `ModelRegistry.aliases`."""
        newest = self._objects.newest_of_each(self._folders.aliases, AliasMove)
        if not newest:
            check_layout(self._objects)
        return {alias: move for alias, move in newest.items() if not move.cleared}

    def history(self, alias: str | None = None) -> list[AliasMove]:
        """See `ModelRegistry.history`; deletions are among the moves of all aliases."""
        if alias is not None:
            return [*self._moves_backwards(alias)][::-1]
        moves = [
            self._objects.read_once(entry, AliasMove)
            for folder in (self._folders.aliases, self._folders.deletions)
            for entry in self._objects.entries(folder)
            if sequence_of(entry["path"])
        ]
        if not moves:
            check_layout(self._objects)
        return sorted(filter(None, moves), key=lambda move: (move.moved_at, move.alias, move.sequence))

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
        """See `ModelRegistry.move_alias`."""
        _check_id(alias, Alias, "alias")
        if alias.startswith(DELETED):
            raise InvalidInput("alias", f"{DELETED!r} only says what was deleted")
        if alias == PREVIOUS:
            raise InvalidInput("alias", f"{PREVIOUS!r} follows from the moves of {LIVE!r} and cannot be set")
        target = self._pointed_at(alias).version if version is None else self.manifest(version).version
        # A damaged version may be pinned, to be examined.
        if version is not None and not alias.startswith(PIN):
            self.prove(version)
        moved_at = datetime.now(UTC)
        return self._objects.append(
            self._folders.moves(alias),
            lambda sequence: AliasMove(
                model=self.model,
                alias=alias,
                version=target,
                sequence=sequence,
                moved_at=moved_at,
                actor=actor,
                reason=reason,
                cleared=version is None,
                rollout=rollout,
            ),
            last_sequence,
        )

    def delete(self, version: str, *, actor: str = "nobody", reason: str = "deleted") -> None:
        """See `ModelRegistry.delete`; files left behind by an interrupted deletion are for `collect`."""
        if not _is_id(version, VersionId) or not self._objects.exists(f"{self._folders.version(version)}/{MANIFEST}"):
            raise NotFound("version", version)
        for alias, move in self.aliases().items():
            if move.version == version:
                state = "in service" if in_service(alias) else "to be kept"
                raise Conflict(f"version {version} is {state}: alias {alias!r} points at it")
        folder = self._folders.version(version)
        # Without its manifest the version does not exist; on a full disk this makes room for the note.
        self._objects.delete(f"{folder}/{MANIFEST}")
        self._note(version, actor, reason)
        for entry in self._objects.entries(folder):
            self._objects.delete(entry["path"])

    def collect(self, cutoff: datetime, *, dry_run: bool = False) -> list[str]:
        """See `ModelRegistry.collect`."""
        objects_by_version: dict[str, list[ObjectMeta]] = {}
        for entry in self._objects.entries(self._folders.versions):
            objects_by_version.setdefault(self._folders.version_of(entry["path"]), []).append(entry)
        leftovers = [
            version
            for version, entries in objects_by_version.items()
            if not any(self._folders.is_manifest(entry["path"]) for entry in entries)
            and all(entry["last_modified"] < cutoff for entry in entries)
        ]
        for version in [] if dry_run else leftovers:
            for entry in objects_by_version[version]:
                self._objects.delete(entry["path"])
        return leftovers

    def _note(self, version: str, actor: str, reason: str) -> None:
        """An entry of the history, in a place of its own: where aliases point is looked up every second."""
        deleted_at = datetime.now(UTC)
        self._objects.append(
            self._folders.moves(f"{DELETED}{version}"),
            lambda sequence: AliasMove(
                model=self.model,
                alias=f"{DELETED}{version}",
                version=version,
                sequence=sequence,
                moved_at=deleted_at,
                actor=actor,
                reason=reason,
                cleared=True,
            ),
        )

    def _pointed_at(self, alias: str) -> AliasMove:
        if alias == LIVE:
            raise InvalidInput("alias", f"{LIVE!r} cannot point nowhere: promote another version")
        move = self.alias(alias)
        if move is None:
            raise NotFound("alias", alias)
        return move

    def _moves_backwards(self, alias: str) -> Iterator[AliasMove]:
        if not _is_id(alias, Alias):
            return
        yield from self._objects.newest_first(self._folders.moves(alias), AliasMove)

    def _manifest_at(self, entry: "ObjectMeta") -> Manifest | None:
        version = self._folders.version_of(entry["path"])

        def read(raw: bytes) -> Manifest:
            """The manifest of `version` in `raw`. Raises `CorruptArtefact`."""
            return self._own(read_manifest(raw, version))

        return self._objects.read_once(entry, Manifest, read)

    def _own(self, manifest: Manifest) -> Manifest:
        if manifest.model != self.model:
            raise CorruptArtefact(f"version {manifest.version}, file {MANIFEST}: it is of model {manifest.model}")
        return manifest

    def _part(self, version: str, name: str, offset: int, e_tag: str | None) -> Part:
        part = self._objects.part(f"{self._folders.version(version)}/{name}", offset, e_tag)
        if part is None:
            raise CorruptArtefact(f"version {version}, file {name}: it is missing")
        return part


def _is_id(value: str, kind: object) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _check_id(value: str, kind: object, field: str) -> None:
    if not _is_id(value, kind):
        raise InvalidInput(field, f"{value!r} is not a valid {field} name")
