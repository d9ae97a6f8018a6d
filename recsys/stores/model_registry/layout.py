"""Where the registry keeps what belongs to a model, and what tells the layout of earlier releases.

models/{model}/versions/{version}/{file}               uploaded first
models/{model}/versions/{version}/manifest.json        created last: without it, the version does not exist
models/{model}/aliases/{alias}/{sequence:08d}.json     one per move
models/{model}/deletions/{version}/{sequence:08d}.json who deleted it, in the words of a move that ends at no version
"""

from dataclasses import dataclass

from recsys.clients.objects import Objects
from recsys.errors import RegistryOutdated
from recsys.models.alias_move import DELETED
from recsys.models.manifest import FORMAT_VERSION
from recsys.stores.model_registry.contents import MANIFEST

MODELS = "models"
EARLIER_FOLDERS = ("versions", "aliases")
"""At the root they are of a release that knew one model only, with artefact formats 1 and 2."""


@dataclass(frozen=True, slots=True)
class ModelFolders:
    """The folders of one model."""

    model: str

    @property
    def versions(self) -> str:
        """The folder that holds a folder per version."""
        return f"{MODELS}/{self.model}/versions"

    @property
    def aliases(self) -> str:
        """The folder that holds a sequence of moves per alias."""
        return f"{MODELS}/{self.model}/aliases"

    @property
    def deletions(self) -> str:
        """The folder that holds a note per deleted version."""
        return f"{MODELS}/{self.model}/deletions"

    def version(self, version: str) -> str:
        """The folder with the files of `version`."""
        return f"{self.versions}/{version}"

    def moves(self, alias: str) -> str:
        """The sequence of moves of `alias`; that of `deleted:VERSION` is the note about this version."""
        deleted = alias.removeprefix(DELETED)
        return f"{self.aliases}/{alias}" if deleted == alias else f"{self.deletions}/{deleted}"

    def version_of(self, path: str) -> str:
        """The version that the object at `path`, in its folder, belongs to."""
        return path.removeprefix(f"{self.versions}/").partition("/")[0]

    def is_manifest(self, path: str) -> bool:
        """Whether the object at `path` is a manifest."""
        return path == f"{self.version(self.version_of(path))}/{MANIFEST}"


def check_layout(objects: Objects) -> None:
    """Raise `RegistryOutdated` where an earlier release's versions or aliases are all that there is.

    Called where the answer would else be that there is nothing, so that it costs nothing in a registry in use.
    """
    if objects.has_any(MODELS):
        return
    folders = [folder for folder in EARLIER_FOLDERS if objects.has_any(folder)]
    if folders:
        raise RegistryOutdated(
            f"the model registry holds {' and '.join(f'{folder}/' for folder in folders)} of an earlier release, whose "
            f"versions this one does not read (artefact format {FORMAT_VERSION}, under {MODELS}/): train anew "
            "(millirec train); then remove those folders"
        )
