"""What is built is the fastest of what was tried that finds enough, and the manifest tells of all of it."""

import numpy as np

from loadtests.population import Population
from recsys.index.search import SearchIndex
from training.recommender.index_build import build_search_index, recall_of
from training.settings import IndexSettings


def test_the_fastest_that_finds_enough_is_built() -> None:
    population = Population.generate(6_000, 200, 32)
    told: list[tuple[str, int, int | None]] = []
    built = build_search_index(
        population.items, population.users, IndexSettings(sample=60), lambda *step: told.append(step)
    )
    good = [one for one in built.trials if one.recall >= 0.98]
    (chosen,) = [one for one in built.trials if one.chosen]
    assert chosen is min(good, key=lambda one: one.microseconds)
    assert chosen.spec == built.spec
    kinds = {one.spec.kind.split(",")[0].rstrip("0123456789") for one in built.trials}
    assert kinds == {"Flat", "IVF", "SQ", "HNSW"}
    exact = built.trials[0]
    assert (exact.spec.kind, exact.recall) == ("Flat", 1.0)
    index = SearchIndex(built.index, population.items, built.spec)
    truth = np.argsort(-(population.users[:60] @ population.items.T), axis=1)[:, :50]
    assert recall_of(index, population.users[:60], truth) >= 0.97
    assert [one["spec"]["kind"] for one in built.parameters()["search_tried"]] == [o.spec.kind for o in built.trials]  # type: ignore[attr-defined]
    assert told[-1][1] == told[-1][2]


def test_a_small_catalogue_is_searched_exactly() -> None:
    population = Population.generate(500, 50, 8)
    built = build_search_index(population.items, population.users, IndexSettings())
    assert [one.spec.kind for one in built.trials] == ["Flat"]


def test_without_users_the_search_is_exact() -> None:
    population = Population.generate(2_000, 10, 8)
    built = build_search_index(population.items, np.empty((0, 8), np.float32), IndexSettings())
    assert built.spec.kind == "Flat"
