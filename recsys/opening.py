"""A version opened for use, and the proof that it can be, which comes before any alias is moved to it."""

from pathlib import Path

from recsys.catalogue.catalogue import Catalogue
from recsys.errors import CorruptArtefact
from recsys.index.index import Index
from recsys.models.manifest import Manifest
from recsys.recommender.pipeline import recommend
from recsys.recommender.query import Query
from recsys.settings import RegistrySettings
from recsys.stores.model_registry import ModelRegistry, Proof, open_model_registry
from recsys.stores.model_registry.local_copy import hold


def opened(directory: Path, manifest: Manifest) -> Catalogue:
    """The version in `directory`, warm, its copy held. Raises `CorruptArtefact`, whatever is wrong with it."""
    try:
        index = Index.open(directory, manifest)
        hold(directory, index.item_factors)
        catalogue = Catalogue.of(index)
        # Touch what a request touches, so that the first one does not pay for page faults.
        probe = index.user_id.ids(index.user_id.order[:1].astype("int64"))
        for query in (Query(k=10), *(Query(k=10, user_id=user_id) for user_id in probe)):
            recommend(query, None, catalogue)
    except CorruptArtefact:
        raise
    except Exception as error:
        # Files may hold anything, and each kind of nonsense ends in an error of its own.
        raise CorruptArtefact(f"version {manifest.version} cannot be used: {type(error).__name__}: {error}") from error
    return catalogue


def proof_in(cache: Path) -> Proof:
    """The proof that a version is whole in the registry and opens from a copy in `cache`, as in a replica."""

    def prove(registry: ModelRegistry, version: str) -> None:
        """Raise `NotFound` or `CorruptArtefact` unless `version` opens and is whole in the registry."""
        manifest = registry.manifest(version)
        opened(registry.fetch(version, cache), manifest)
        registry.check(version, cache)

    return prove


def open_proving_registry(settings: RegistrySettings) -> ModelRegistry:
    """A registry whose aliases move to nothing but versions that can be opened."""
    return open_model_registry(settings, proof_in(settings.cache))
