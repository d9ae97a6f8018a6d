"""The kinds of models, and the section of the manifest that each has to itself."""

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from recsys.errors import CorruptArtefact, InvalidInput
from recsys.messages.interaction import DEFAULT_TYPE_WEIGHTS, OTHER_TYPE_WEIGHT
from recsys.models.manifest import Manifest, Timestamp

Count = Annotated[int, msgspec.Meta(ge=0)]
Size = Annotated[int, msgspec.Meta(ge=1)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Channels = tuple[float, float, float]


class Kind(StrEnum):
    """What a version is, and so what opens and serves it."""

    RECOMMENDER = "recommender"
    PREDICTOR = "predictor"
    IMAGE_CLASSIFIER = "image_classifier"


class ConfidenceParameters(msgspec.Struct, frozen=True, kw_only=True):
    """How interactions become confidence: 1 + alpha * sum of type weight * 0.5 ** (age / half life).

    Ages count back from `reference_ms` (the version's watermark), so that the same history gives the
    same vector at any hour. Types without a weight count as `other_weight`. `half_life_days` 0: no decay.
    """

    alpha: float
    regularization: float
    reference_ms: int
    type_weights: dict[str, float] = msgspec.field(default_factory=lambda: dict(DEFAULT_TYPE_WEIGHTS))
    other_weight: float = OTHER_TYPE_WEIGHT
    half_life_days: float = 0.0


class SearchSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What search index was built and how it is searched.

    `kind` is Faiss's name for it (`Flat`, `IVF400,SQ8`, `HNSW32`). `refine` times k candidates are scored anew with
    the factors themselves. `augmented`: built by L2 over factors with one more dimension, which makes all norms equal
    (Bachrach et al., "Speeding Up the Xbox Recommender System...", RecSys 2014).
    """

    kind: str = "Flat"
    nprobe: int = 0
    ef_search: int = 0
    refine: int = 1
    augmented: bool = False


class RecommenderSection(msgspec.Struct, frozen=True, kw_only=True):
    """A recommender: factors of `dimensions` for so many items and users, and how they are folded in and searched.

    `log_version` is the interaction log's table version that was learned from, `watermark` the newest event time in it.
    """

    algorithm: str
    dimensions: Size
    items: Count
    users: Count
    log_version: int
    watermark: Timestamp
    confidence: ConfidenceParameters
    search: SearchSpec = SearchSpec()

    def summary(self) -> str:
        """Algorithm and size, in a line."""
        return f"{self.algorithm}, {self.dimensions} dimensions; {self.items:,} items, {self.users:,} users"


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """A column that a predictor takes: `low` and `high` as seen in training, `categories` where they are few."""

    name: str
    type: Literal["number", "category", "boolean", "date", "text"]
    low: float | None = None
    high: float | None = None
    categories: tuple[str, ...] = ()
    nullable: bool = True


class PredictorSection(msgspec.Struct, frozen=True, kw_only=True):
    """A predictor of `target` from a row of `features`, as ONNX in `model_file`.

    `classes` in the order of its probabilities, none for a regression; `threshold` is the probability of the last
    class from which on a binary predictor says it. `validation` names the folds that the metrics come from.
    """

    task: Literal["binary", "multiclass", "regression"]
    target: str
    features: Annotated[tuple[Feature, ...], msgspec.Meta(min_length=1)]
    classes: tuple[str, ...] = ()
    threshold: Share | None = None
    model_file: str = "model.onnx"
    pipeline_file: str | None = None
    algorithm: str = ""
    validation: str = ""
    folds: Count = 0
    seed: int = 0
    trials: Count = 0

    def __post_init__(self) -> None:
        counts = {"binary": len(self.classes) == 2, "multiclass": len(self.classes) > 2}
        if not counts.get(self.task, not self.classes):
            raise ValueError(f"classes: {len(self.classes)} do not fit the task {self.task}")
        if self.threshold is not None and self.task != "binary":
            raise ValueError(f"threshold: is for a binary task, not {self.task}")
        if self.target in {feature.name for feature in self.features}:
            raise ValueError(f"features: the target {self.target!r} is among them")

    def summary(self) -> str:
        """Task and target, in a line."""
        return f"{self.task} of {self.target} from {len(self.features)} features"


class ImageClassifierSection(msgspec.Struct, frozen=True, kw_only=True):
    """A classifier of photos of `width` x `height` RGB pixels, each taken as (pixel - `mean`) / `deviation`.

    `classes` in the order of the probabilities of the ONNX model in `model_file`.
    """

    classes: Annotated[tuple[str, ...], msgspec.Meta(min_length=2)]
    width: Size
    height: Size
    mean: Channels
    deviation: Channels
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    backbone: str = ""
    model_file: str = "model.onnx"

    def __post_init__(self) -> None:
        if min(self.deviation) <= 0:
            raise ValueError("deviation: is above 0 for each channel")

    def summary(self) -> str:
        """Classes and size of input, in a line."""
        return f"{len(self.classes)} classes of photos of {self.width} x {self.height} pixels"


Section = RecommenderSection | PredictorSection | ImageClassifierSection
SECTIONS: dict[str, type[Section]] = {
    Kind.RECOMMENDER: RecommenderSection,
    Kind.PREDICTOR: PredictorSection,
    Kind.IMAGE_CLASSIFIER: ImageClassifierSection,
}
S = TypeVar("S", bound=Section)


def section_of(manifest: Manifest, expected: type[S]) -> S:
    """The section of `manifest`. Raises `CorruptArtefact` for a version of another kind, or where it makes no sense."""
    if SECTIONS.get(manifest.kind) is not expected:
        (needed,) = (kind for kind, section in SECTIONS.items() if section is expected)
        raise CorruptArtefact(f"version {manifest.version} is a {manifest.kind}, not a {needed}")
    return _converted(manifest, expected, _corrupt)


def check_section(manifest: Manifest) -> None:
    """Check the section of a version to be published. Raises `InvalidInput`."""
    expected = SECTIONS.get(manifest.kind)
    if expected is None:
        raise InvalidInput("kind", f"{manifest.kind!r} is none of {', '.join(Kind)}")
    _converted(manifest, expected, lambda _, error: InvalidInput("section", str(error)))


def summary_of(manifest: Manifest) -> str:
    """What the version is, in a line; of a kind that this release does not know, only its name."""
    expected = SECTIONS.get(manifest.kind)
    try:
        return manifest.kind if expected is None else section_of(manifest, expected).summary()
    except CorruptArtefact as error:
        return str(error)


def described(section: Section) -> dict[str, Any]:
    """`section` as plain values, for a manifest."""
    plain: dict[str, Any] = msgspec.to_builtins(section)
    return plain


def _converted(manifest: Manifest, expected: type[S], problem: Callable[[Manifest, Exception], Exception]) -> S:
    try:
        return msgspec.convert(manifest.section, expected)
    except msgspec.ValidationError as error:
        raise problem(manifest, error) from error


def _corrupt(manifest: Manifest, error: Exception) -> Exception:
    return CorruptArtefact(f"version {manifest.version}, file manifest.json, section {manifest.kind}: {error}")
