"""What differs between two index versions: metrics, parameters, items, answers and the lengths of item factors."""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from recsys.index_registry import IndexRegistry
from recsys.index_version import Manifest, flat
from recsys.recommendation import Query
from recsys.recommender import Catalogue, Index, recommend_many
from recsys.recommender.id_map import IdMap
from recsys.settings import RegistrySettings

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
    """`overlap` is `None` where no user is in both versions, `norms` where no item is."""

    a: str
    b: str
    metrics: dict[str, tuple[float | None, float | None]]
    parameters: dict[str, tuple[Any, Any]]
    items: Items
    overlap: Overlap | None
    norms: Norms | None


def diff_versions(
    registry: IndexRegistry, settings: RegistrySettings, a: str, b: str, *, users: int, k: int, seed: int = 0
) -> VersionDiff:
    """The two versions compared; everything comes from the artefacts. Raises `NotFound`, `CorruptArtefact`."""
    first, second = (open_catalogue(registry, settings, version) for version in (a, b))
    one, two = first.index, second.index
    rows = in_both(one.item_id, two.item_id)
    return VersionDiff(
        a=a,
        b=b,
        metrics=_metrics(one.manifest, two.manifest),
        parameters=_parameters(one.manifest, two.manifest),
        items=_items(one, two, *rows),
        overlap=_overlap(first, second, users, k, seed),
        norms=_norms(one, two, *rows),
    )


def open_catalogue(registry: IndexRegistry, settings: RegistrySettings, version: str) -> Catalogue:
    """A version as it is served before any item has changed."""
    manifest = registry.manifest(version)
    return Catalogue.of(Index.open(registry.fetch(version, settings.cache), manifest))


def in_both(one: IdMap, two: IdMap) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows (c,) in each of the ids that are in both."""
    _, here, there = np.intersect1d(one.hashes, two.hashes, assume_unique=True, return_indices=True)
    return one.order[here].astype(np.int64), two.order[there].astype(np.int64)


def _metrics(one: Manifest, two: Manifest) -> dict[str, tuple[float | None, float | None]]:
    names = dict.fromkeys((*one.metrics, *two.metrics))
    return {name: (one.metrics.get(name), two.metrics.get(name)) for name in names}


def _parameters(one: Manifest, two: Manifest) -> dict[str, tuple[Any, Any]]:
    described = ("algorithm", "dimensions", "items", "users", "log_version", "watermark", "code_version")
    here, there = (
        {name: getattr(manifest, name) for name in (*described, "format_version")} | flat(manifest.parameters)
        for manifest in (one, two)
    )
    pairs = {name: (here.get(name), there.get(name)) for name in dict.fromkeys((*here, *there))}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _items(one: Index, two: Index, here: NDArray[np.int64], there: NDArray[np.int64]) -> Items:
    return Items(
        common=len(here),
        gained=len(two) - len(there),
        lost=len(one) - len(here),
        gained_examples=_popular_without(two, there),
        lost_examples=_popular_without(one, here),
    )


def _popular_without(index: Index, rows: NDArray[np.int64]) -> list[str]:
    others = np.ones(len(index), dtype=np.bool_)
    others[rows] = False
    ranked = np.asarray(index.popular_rows)
    return index.item_id.ids(ranked[others[ranked]][:EXAMPLES])


def _overlap(one: Catalogue, two: Catalogue, users: int, k: int, seed: int) -> Overlap | None:
    rows, _ = in_both(one.index.user_id, two.index.user_id)
    if not len(rows) or not users:
        return None
    drawn = np.sort(np.random.default_rng(seed).choice(len(rows), min(users, len(rows)), replace=False))
    sample = one.index.user_id.ids(rows[drawn])
    pairs = list(zip(_answers(one, sample, k), _answers(two, sample, k), strict=True))
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
    """What each user is served of the snapshot in the version, when the store says nothing."""
    found: list[list[str]] = []
    for start in range(0, len(users), TOGETHER):
        asked = [(Query(k=k, user_id=user), None) for user in users[start : start + TOGETHER]]
        found += [catalogue.index.item_id.ids(one.rows) for one in recommend_many(asked, catalogue)]
    return found


def _norms(one: Index, two: Index, here: NDArray[np.int64], there: NDArray[np.int64]) -> Norms | None:
    first = np.linalg.norm(one.item_factors[here], axis=1)
    second = np.linalg.norm(two.item_factors[there], axis=1)
    long = (first > 0) & (second > 0)
    if not long.any():
        return None
    here, first, second = here[long], first[long], second[long]
    ratio = second / first
    p5, median, p95 = np.quantile(ratio, (0.05, 0.5, 0.95)).tolist()
    most = np.argsort(-np.abs(np.log(ratio)), kind="stable")[:EXAMPLES]
    return Norms(
        mean_a=float(first.mean()),
        mean_b=float(second.mean()),
        p5=p5,
        median=median,
        p95=p95,
        changed_most=dict(zip(one.item_id.ids(here[most]), ratio[most].tolist(), strict=True)),
    )
