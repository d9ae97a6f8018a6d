"""A version opened for use, by its kind, and the proof that it can be, which comes before any alias is moved to it."""

from dataclasses import dataclass
from pathlib import Path

from recsys.catalogue.catalogue import Catalogue
from recsys.errors import CorruptArtefact
from recsys.index.index import Index
from recsys.models.kinds import ImageClassifierSection, Kind, PredictorSection, section_of
from recsys.models.manifest import RECOMMENDER, Manifest, check_format
from recsys.recommender.pipeline import recommend
from recsys.recommender.query import Query
from recsys.settings import RegistrySettings
from recsys.stores.model_registry import ModelRegistry, Proof, open_model_registry
from recsys.stores.model_registry.local_copy import hold


@dataclass(frozen=True, slots=True, weakref_slot=True)
class OnnxModel:
    """A predictor or image classifier: its section says what the ONNX model in `model_file` takes and gives."""

    manifest: Manifest
    section: PredictorSection | ImageClassifierSection
    model_file: Path


def open_version(directory: Path, manifest: Manifest) -> Catalogue | OnnxModel:
    """The version in `directory`, by its kind; its copy is held for as long as it is in use.

    Raises `CorruptArtefact`, whatever is wrong with it, also for a kind that this release does not know.
    """
    check_format(manifest.version, manifest.format_version)
    match manifest.kind:
        case Kind.RECOMMENDER:
            return _open_recommender(directory, manifest)
        case Kind.PREDICTOR:
            return _open_onnx(directory, manifest, section_of(manifest, PredictorSection))
        case Kind.IMAGE_CLASSIFIER:
            return _open_onnx(directory, manifest, section_of(manifest, ImageClassifierSection))
    raise CorruptArtefact(f"version {manifest.version} is a {manifest.kind}, which this release does not know: upgrade")


def open_recommender(directory: Path, manifest: Manifest) -> Catalogue:
    """As `open_version`, for who needs a recommender. Raises `CorruptArtefact` for another kind too."""
    version = open_version(directory, manifest)
    if isinstance(version, Catalogue):
        return version
    raise CorruptArtefact(f"version {manifest.version} is a {manifest.kind}, not a {Kind.RECOMMENDER}")


def fetch_recommender(registry: ModelRegistry, version: str, cache: Path) -> Catalogue:
    """`version` of the registry, from its verified copy in `cache`. Raises `NotFound`, `CorruptArtefact`."""
    manifest = registry.manifest(version)
    return open_recommender(registry.fetch(version, cache), manifest)


def warm(catalogue: Catalogue) -> Catalogue:
    """`catalogue`, after what a request touches was touched. Raises `CorruptArtefact` where it cannot answer."""
    index = catalogue.index
    try:
        # So that the first request does not pay for page faults.
        probe = index.user_id.ids(index.user_id.order[:1].astype("int64"))
        for query in (Query(k=10), *(Query(k=10, user_id=user_id) for user_id in probe)):
            recommend(query, None, catalogue)
    except CorruptArtefact:
        raise
    except Exception as error:
        # Files may hold anything, and each kind of nonsense ends in an error of its own.
        raise CorruptArtefact(f"version {index.version} cannot be used: {type(error).__name__}: {error}") from error
    return catalogue


def try_version(directory: Path, manifest: Manifest) -> None:
    """Open the version and use it once. Raises `CorruptArtefact`."""
    version = open_version(directory, manifest)
    if isinstance(version, Catalogue):
        warm(version)


def proof_in(cache: Path) -> Proof:
    """The proof that a version is whole in the registry and opens from a copy in `cache`, as in a replica."""

    def prove(registry: ModelRegistry, version: str) -> None:
        """Raise `NotFound` or `CorruptArtefact` unless `version` opens and is whole in the registry."""
        manifest = registry.manifest(version)
        try_version(registry.fetch(version, cache), manifest)
        registry.check(version, cache)

    return prove


def open_proving_registry(settings: RegistrySettings, model: str = RECOMMENDER) -> ModelRegistry:
    """A registry whose aliases move to nothing but versions that can be opened."""
    return open_model_registry(settings, model, proof=proof_in(settings.cache))


def _open_recommender(directory: Path, manifest: Manifest) -> Catalogue:
    try:
        index = Index.open(directory, manifest)
        hold(directory, index.item_factors)
        return Catalogue.of(index)
    except CorruptArtefact:
        raise
    except Exception as error:
        raise CorruptArtefact(f"version {manifest.version} cannot be used: {type(error).__name__}: {error}") from error


def _open_onnx(directory: Path, manifest: Manifest, section: PredictorSection | ImageClassifierSection) -> OnnxModel:
    if section.model_file not in manifest.files:
        raise CorruptArtefact(f"version {manifest.version} is without the file {section.model_file} that it names")
    model = OnnxModel(manifest, section, directory / section.model_file)
    hold(directory, model)
    return model
