"""The differences between two versions of a model: metrics and parameters; of recommenders also items and answers."""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.catalogue import Catalogue
from recsys.index.id_map import IdMap
from recsys.index.index import Index
from recsys.models.kinds import Kind
from recsys.models.manifest import Manifest, flat
from recsys.opening import fetch_recommender
from recsys.recommender.pipeline import recommend_many
from recsys.recommender.query import Query
from recsys.settings import RegistrySettings
from recsys.stores.model_registry import ModelRegistry

EXAMPLES = 10
TOGETHER = 256


class Items(msgspec.Struct, frozen=True):
    """`gained` are in the second version only; of those and of the lost, the most popular as examples."""

    common: int
    gained: int
    lost: int
    gained_examples: list[str]
    lost_examples: list[str]


class Overlap(msgspec.Struct, frozen=True):
    """Of what two versions answer the same `users` with: the share of items in both, per user.

    `identical` and `same_first` are shares of the users.
    """

    k: int
    users: int
    known_to_both: int
    mean: float
    p10: float
    median: float
    identical: float
    same_first: float


class Norms(msgspec.Struct, frozen=True):
    """Lengths of the factors of items in both versions; `p5` to `p95` are of second over first."""

    mean_a: float
    mean_b: float
    p5: float
    median: float
    p95: float
    changed_most: dict[str, float]


class VersionDiff(msgspec.Struct, frozen=True):
    """`overlap` is `None` where no user is in both versions, `norms` where no item is; all three for other kinds."""

    a: str
    b: str
    metrics: dict[str, tuple[float | None, float | None]]
    parameters: dict[str, tuple[Any, Any]]
    items: Items | None
    overlap: Overlap | None
    norms: Norms | None


def diff_versions(
    registry: ModelRegistry, settings: RegistrySettings, a: str, b: str, *, users: int, k: int, seed: int = 0
) -> VersionDiff:
    """Compare two versions by their artefacts alone. Raises `NotFound`, `CorruptArtefact`."""
    manifests = registry.manifest(a), registry.manifest(b)
    difference = VersionDiff(a, b, _metrics(*manifests), _parameters(*manifests), None, None, None)
    if any(manifest.kind != Kind.RECOMMENDER for manifest in manifests):
        return difference
    first, second = (fetch_recommender(registry, version, settings.cache) for version in (a, b))
    rows = in_both(first.index.item_id, second.index.item_id)
    return msgspec.structs.replace(
        difference,
        items=_items(first.index, second.index, *rows),
        overlap=_overlap(first, second, users, k, seed),
        norms=_norms(first.index, second.index, *rows),
    )


def in_both(ids_a: IdMap, ids_b: IdMap) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows (c,) in `ids_a` and in `ids_b` of the ids that are in both."""
    _, positions_a, positions_b = np.intersect1d(ids_a.hashes, ids_b.hashes, assume_unique=True, return_indices=True)
    return ids_a.order[positions_a].astype(np.int64), ids_b.order[positions_b].astype(np.int64)


def _metrics(manifest_a: Manifest, manifest_b: Manifest) -> dict[str, tuple[float | None, float | None]]:
    names = dict.fromkeys((*manifest_a.metrics, *manifest_b.metrics))
    return {name: (manifest_a.metrics.get(name), manifest_b.metrics.get(name)) for name in names}


def _parameters(manifest_a: Manifest, manifest_b: Manifest) -> dict[str, tuple[Any, Any]]:
    values_a, values_b = (
        flat({**manifest.section, **msgspec.to_builtins(manifest.provenance), **manifest.parameters})
        | {"kind": manifest.kind, "format_version": manifest.format_version}
        for manifest in (manifest_a, manifest_b)
    )
    pairs = {name: (values_a.get(name), values_b.get(name)) for name in dict.fromkeys((*values_a, *values_b))}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _items(index_a: Index, index_b: Index, rows_a: NDArray[np.int64], rows_b: NDArray[np.int64]) -> Items:
    return Items(
        common=len(rows_a),
        gained=len(index_b) - len(rows_b),
        lost=len(index_a) - len(rows_a),
        gained_examples=_popular_without(index_b, rows_b),
        lost_examples=_popular_without(index_a, rows_a),
    )


def _popular_without(index: Index, rows: NDArray[np.int64]) -> list[str]:
    others = np.ones(len(index), dtype=np.bool_)
    others[rows] = False
    ranked = np.asarray(index.popular_rows)
    return index.item_id.ids(ranked[others[ranked]][:EXAMPLES])


def _overlap(catalogue_a: Catalogue, catalogue_b: Catalogue, users: int, k: int, seed: int) -> Overlap | None:
    rows, _ = in_both(catalogue_a.index.user_id, catalogue_b.index.user_id)
    if not len(rows) or not users:
        return None
    drawn = np.sort(np.random.default_rng(seed).choice(len(rows), min(users, len(rows)), replace=False))
    sample = catalogue_a.index.user_id.ids(rows[drawn])
    pairs = list(zip(_answers(catalogue_a, sample, k), _answers(catalogue_b, sample, k), strict=True))
    shares = np.array([len({*first} & {*second}) / max(len(first), len(second), 1) for first, second in pairs])
    p10, median = np.quantile(shares, (0.1, 0.5)).tolist()
    return Overlap(
        k=k,
        users=len(sample),
        known_to_both=len(rows),
        mean=float(shares.mean()),
        p10=p10,
        median=median,
        identical=float(np.mean([first == second for first, second in pairs])),
        same_first=float(np.mean([first[:1] == second[:1] for first, second in pairs])),
    )


def _answers(catalogue: Catalogue, users: list[str], k: int) -> list[list[str]]:
    """Return the items each user is served from the snapshot in the version, without the feature store."""
    answers: list[list[str]] = []
    for start in range(0, len(users), TOGETHER):
        queries = [(Query(k=k, user_id=user), None) for user in users[start : start + TOGETHER]]
        answers += [
            catalogue.index.item_id.ids(recommendation.rows) for recommendation in recommend_many(queries, catalogue)
        ]
    return answers


def _norms(index_a: Index, index_b: Index, rows_a: NDArray[np.int64], rows_b: NDArray[np.int64]) -> Norms | None:
    first = np.linalg.norm(index_a.item_factors[rows_a], axis=1)
    second = np.linalg.norm(index_b.item_factors[rows_b], axis=1)
    long = (first > 0) & (second > 0)
    if not long.any():
        return None
    rows_a, first, second = rows_a[long], first[long], second[long]
    ratio = second / first
    p5, median, p95 = np.quantile(ratio, (0.05, 0.5, 0.95)).tolist()
    top_rows = np.argsort(-np.abs(np.log(ratio)), kind="stable")[:EXAMPLES]
    return Norms(
        mean_a=float(first.mean()),
        mean_b=float(second.mean()),
        p5=p5,
        median=median,
        p95=p95,
        changed_most=dict(zip(index_a.item_id.ids(rows_a[top_rows]), ratio[top_rows].tolist(), strict=True)),
    )
