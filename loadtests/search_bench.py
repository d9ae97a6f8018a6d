"""Builds and tunes the search index over random or saved factors, prints the trials and the cost of searches.

One BLAS thread, as the service has: OPENBLAS_NUM_THREADS=1 python -m loadtests.search_bench ...

python -m loadtests.search_bench --items 100000 [--dimensions 64]
python -m loadtests.search_bench --factors item_factors.npy --users user_factors.npy
"""

import argparse
from pathlib import Path
from time import perf_counter

import faiss
import numpy as np

from loadtests.population import Population
from recsys.index.allowed import AllowedRows
from recsys.index.factors import Matrix
from recsys.index.search import SearchIndex
from recsys.models.kinds import SearchSpec
from training.recommender.index_build import build_search_index
from training.settings import IndexSettings

BATCHES = (1, 4, 16, 64)
K = 50
ROUNDS = 7
TASTES = 50


def filters(items: Matrix) -> dict[str, AllowedRows | None]:
    """Filters by name: half of the items at random or by taste; a taste leaves some users without near items."""
    tastes = faiss.Kmeans(items.shape[1], TASTES, niter=5, seed=1, min_points_per_centroid=1)
    tastes.train(items)
    nearest = tastes.index.search(items, 1)[1][:, 0]
    by_chance = np.random.default_rng(0).random(len(items)) < 0.5
    return {
        "all": None,
        "half by chance": AllowedRows.of(by_chance),
        "half of tastes": AllowedRows.of(nearest < TASTES // 2),
    }


def microseconds(index: SearchIndex, vectors: Matrix, allowed: AllowedRows | None) -> float:
    """Microseconds per query, of the best round."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = perf_counter()
        index.search(vectors, K, allowed)
        best = min(best, perf_counter() - began)
    return best / len(vectors) * 1e6


def main() -> None:
    """Build and tune the index, and print its trials, recall and cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--dimensions", type=int, default=64)
    parser.add_argument("--factors", type=Path)
    parser.add_argument("--users", type=Path)
    arguments = parser.parse_args()
    if arguments.factors:
        items, users = np.load(arguments.factors), np.load(arguments.users)[:500]
    else:
        population = Population.generate(arguments.items, 500, arguments.dimensions)
        items, users = population.items, population.users
    began = perf_counter()
    built = build_search_index(items, users, IndexSettings())
    print(f"{items.shape}, tuned in {perf_counter() - began:.0f} s")
    for trial in built.trials:
        effort = f"nprobe {trial.spec.nprobe}, efSearch {trial.spec.ef_search}, refine {trial.spec.refine}"
        cost = f"{trial.microseconds:.0f} us, {trial.megabytes:.1f} MB, built in {trial.build_seconds:.1f} s"
        print(f"  {trial.spec.kind}: recall {trial.recall:.4f}, {cost} ({effort}){', chosen' if trial.chosen else ''}")
    flat = faiss.IndexFlatIP(items.shape[1])
    flat.add(items)
    exact, chosen = SearchIndex(flat, items, SearchSpec()), SearchIndex(built.index, items, built.spec)
    faiss.omp_set_num_threads(1)
    queries = np.ascontiguousarray(users[: max(BATCHES)])
    for name, allowed in filters(items).items():
        products = queries @ items.T
        if allowed is not None:
            products[:, ~allowed.mask] = -np.inf
        truth = np.argsort(-products, axis=1, kind="stable")[:, :K]
        for kind, index in {"exact": exact, built.spec.kind: chosen}.items():
            results = np.concatenate([index.search(query[None, :], K, allowed)[0] for query in queries])
            recalls = [np.isin(right, rows).mean() for right, rows in zip(truth, results, strict=True)]
            costs = ", ".join(f"{microseconds(index, queries[:q], allowed):.0f} by {q}" for q in BATCHES)
            print(f"{name}, {kind}: recall {np.mean(recalls):.3f}, worst {min(recalls):.2f}; us per query: {costs}")


if __name__ == "__main__":
    main()
