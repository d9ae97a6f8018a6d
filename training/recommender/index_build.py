"""Index build: candidates are built, measured on real user vectors, and the fastest that is good enough is kept.

Inner products with factors of very different norms are hard for a graph: the few items of large norm are everybody's
neighbours. HNSW is therefore built by L2 over augmented factors (`SearchSpec.augmented`).
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import faiss
import msgspec
import numpy as np
from threadpoolctl import threadpool_limits

from recsys.index.factors import Matrix
from recsys.index.search import Rows, SearchIndex
from recsys.models.kinds import SearchSpec
from training.settings import IndexSettings

BATCH = 16
"""Queries searched together while measuring, as a busy service does."""
QUERY_K = 40
"""Items per query: an answer's ten and what is excluded."""
ROUNDS = 3
ROUND_SECONDS = 0.5
POINTS_PER_LIST = 39
"""Faiss asks for at least so many training points per list."""
SMALL = 1_000
"""Items up to which exact search takes a few microseconds, and nothing else is tried."""

Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True, slots=True)
class IndexTrial:
    """One candidate: recall@50 against exact search and microseconds per query, of its best `spec`."""

    spec: SearchSpec
    recall: float
    microseconds: float
    megabytes: float
    build_seconds: float
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class BuiltIndex:
    """The index to publish, how it is searched, and every candidate that was tried."""

    index: faiss.Index
    spec: SearchSpec
    trials: list[IndexTrial]

    def parameters(self) -> dict[str, object]:
        """Return the manifest's parameters of the search index."""
        return {"search_tried": [msgspec.to_builtins(trial) for trial in self.trials]}


def build_search_index(
    factors: Matrix, user_vectors: Matrix, settings: IndexSettings, progress: Progress = lambda *_: None
) -> BuiltIndex:
    """Build the fastest index of `factors` (n, d) with enough recall@50 on `user_vectors` (m, d).

    Enough is `settings.min_recall`; exact search always qualifies. One seed and one thread per search, but
    k-means and HNSW insert with all cores, so that graphs of two builds may differ.
    """
    # BLAS threads wait for each other on a busy machine; see training.recommender.algorithms.protocol.fold_in_users.
    with threadpool_limits(1, "blas"):
        return _fastest(
            np.ascontiguousarray(factors, dtype=np.float32), _sample(user_vectors, settings), settings, progress
        )


def _fastest(factors: Matrix, sample: Matrix, settings: IndexSettings, progress: Progress) -> BuiltIndex:
    exact = SearchIndex(_flat(factors), factors, SearchSpec())
    truth = exact.search(sample, min(50, len(factors)))[0]
    candidates = list(_candidates(len(factors), settings)) if len(sample) else []
    best, trials = exact, [IndexTrial(exact.spec, 1.0, _microseconds(exact, sample), _megabytes(exact.index), 0.0)]
    fastest = trials[0]
    for position, spec in enumerate(candidates):
        progress("building the search index", position, len(candidates))
        began = perf_counter()
        built = _build(spec, factors, settings.seed)
        seconds = perf_counter() - began
        tuned, recall = _tuned(built, factors, spec, sample, truth, settings.min_recall)
        trial = IndexTrial(tuned.spec, recall, _microseconds(tuned, sample), _megabytes(built), seconds)
        trials.append(trial)
        if recall >= settings.min_recall and trial.microseconds < fastest.microseconds:
            best, fastest = tuned, trial
    progress("building the search index", len(candidates), len(candidates))
    return BuiltIndex(best.index, best.spec, [replace(trial, chosen=trial is fastest) for trial in trials])


def _sample(user_vectors: Matrix, settings: IndexSettings) -> Matrix:
    """Return evenly spaced users, so that the sample is the same in every run."""
    step = max(1, len(user_vectors) // settings.sample)
    return np.ascontiguousarray(user_vectors[::step][: settings.sample], dtype=np.float32)


def _candidates(n: int, settings: IndexSettings) -> Iterator[SearchSpec]:
    if n <= SMALL:
        return
    max_lists = max(n // POINTS_PER_LIST, 1)
    lists = sorted({min(round(times * n**0.5), max_lists) for times in (1, 4)})
    for count in lists:
        yield SearchSpec(kind=f"IVF{count},Flat", nprobe=1)
        yield SearchSpec(kind=f"IVF{count},SQ8", nprobe=1, refine=2)
    yield SearchSpec(kind="SQ8", refine=2)
    if n <= settings.hnsw_up_to:
        yield SearchSpec(kind="HNSW32", ef_search=32, augmented=True)


def _flat(factors: Matrix) -> faiss.Index:
    index = faiss.IndexFlatIP(factors.shape[1])
    index.add(factors)
    return index


def _build(spec: SearchSpec, factors: Matrix, seed: int) -> Any:
    points = augmented(factors) if spec.augmented else factors
    metric = faiss.METRIC_L2 if spec.augmented else faiss.METRIC_INNER_PRODUCT
    index: Any = faiss.index_factory(points.shape[1], spec.kind, metric)
    faiss.omp_set_num_threads(os.cpu_count() or 1)
    if spec.nprobe:
        index.cp.seed = seed
        index.cp.min_points_per_centroid = 1
        # A quarter of the default: centroids need not be exact, and a million items would take minutes.
        index.cp.max_points_per_centroid = 64
    index.train(points)
    index.add(points)
    return index


def augmented(factors: Matrix) -> Matrix:
    """Return (n, d + 1) with equal norms: the nearest to (x, 0) by L2 has the largest inner product with x."""
    squared = np.einsum("nd,nd->n", factors, factors)
    return np.hstack([factors, np.sqrt(np.maximum(squared.max() - squared, 0.0))[:, None]]).astype(np.float32)


def _tuned(
    built: Any, factors: Matrix, spec: SearchSpec, sample: Matrix, truth: Rows, min_recall: float
) -> tuple[SearchIndex, float]:
    """Return the index with the least effort that reaches the recall, doubling nprobe or efSearch up to the limit."""
    while True:
        index = SearchIndex(built, factors, spec)
        recall = recall_of(index, sample, truth)
        harder = _harder(spec, getattr(built, "nlist", 0))
        if recall >= min_recall or harder is None:
            return index, recall
        spec = harder


def _harder(spec: SearchSpec, lists: int) -> SearchSpec | None:
    if spec.nprobe:
        return None if spec.nprobe >= lists else msgspec.structs.replace(spec, nprobe=min(2 * spec.nprobe, lists))
    if spec.ef_search:
        return None if spec.ef_search >= 1024 else msgspec.structs.replace(spec, ef_search=2 * spec.ef_search)
    return None if spec.refine >= 8 else msgspec.structs.replace(spec, refine=2 * spec.refine)


def recall_of(index: SearchIndex, sample: Matrix, truth: Rows) -> float:
    """Return the share of the true nearest (q, k) that the index finds."""
    nearest = index.search(sample, truth.shape[1])[0]
    return float(np.mean([np.isin(right, rows).mean() for right, rows in zip(truth, nearest, strict=True)]))


def _microseconds(index: SearchIndex, sample: Matrix) -> float:
    """Return microseconds per query, of the best round, with one thread."""
    if not len(sample):
        return 0.0
    faiss.omp_set_num_threads(1)
    best = float("inf")
    for _ in range(ROUNDS):
        began, queries = perf_counter(), 0
        while queries < len(sample) and perf_counter() - began < ROUND_SECONDS:
            queries += len(index.search(sample[queries : queries + BATCH], QUERY_K)[0])
        best = min(best, (perf_counter() - began) / queries)
    return best * 1e6


def _megabytes(index: faiss.Index) -> float:
    return float(len(faiss.serialize_index(index))) / 1e6
