"""How the cost of one recommendation grows: with items, dimensions, k, history, filters and stages.

One BLAS thread, as the service has: OPENBLAS_NUM_THREADS=1 python -m loadtests.growth_bench

Everything but the network and the feature store: `recommend_many` on a batch as it comes from one turn of the event
loop. One thing varies at a time, the others stay as in the first line; processor time, the best of several rounds.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from time import thread_time
from typing import Annotated

import faiss
import typer
from rich.console import Console
from rich.table import Table

from loadtests.population import CREATED_AT, HISTORY, Population
from recsys.catalogue.catalogue import Catalogue
from recsys.filters.expression import compile_expression
from recsys.messages.interaction import epoch_ms
from recsys.opening import open_recommender
from recsys.recommender.pipeline import recommend_many
from recsys.recommender.placement import READY_MADE, Boost, Placement
from recsys.recommender.query import Query
from recsys.users import UserFeatures

BATCH = 8
USERS = 400
ROUNDS = 5
DISCOVER = READY_MADE["discover"]


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of query to measure; `folded` without a stored embedding."""

    items: int = 10_000
    dimensions: int = 64
    k: int = 10
    history: int = HISTORY
    folded: bool = False
    placement: Placement = DISCOVER
    filter: str = ""


BASE = Case()


def cases(items: list[int]) -> Iterator[tuple[str, Case]]:
    """Name and case; those of one catalogue one after the other, because building it is what takes long."""
    yield "10,000 items, d = 64, k = 10, history 30, seen items excluded", BASE
    for k in (50, 200, 500):
        yield f"k = {k}", replace(BASE, k=k)
    for history in (0, 10, 100, 200):
        yield f"history {history}", replace(BASE, history=history)
    yield "no stored embedding: folded in from 30", replace(BASE, folded=True)
    yield "no stored embedding: folded in from 200", replace(BASE, folded=True, history=200)
    yield "placement default: seen items may show", replace(BASE, placement=READY_MADE["default"])
    yield "filter price < 50 (half of the items)", replace(BASE, filter="price < 50")
    yield "filter price < 3 (one item in thirty)", replace(BASE, filter="price < 3")
    yield "a boost", replace(BASE, placement=Placement(boosts=(Boost("price < 50", 1.5),)))
    yield "diversity 0.3", replace(BASE, placement=Placement(diversity=0.3))
    yield "placement home: three sources, diversity, rotation", replace(BASE, placement=READY_MADE["home"])
    for dimensions in (32, 128, 256):
        yield f"d = {dimensions}", replace(BASE, dimensions=dimensions)
    for count in items:
        yield f"{count:,} items", replace(BASE, items=count)


def main(items: Annotated[list[int], typer.Option(help="Larger catalogues.")] = [100_000, 1_000_000]) -> None:  # noqa: B006
    """Print microseconds of processor time per recommendation."""
    console = Console(width=120)
    table = Table("one thing different at a time", "us per recommendation")
    faiss.omp_set_num_threads(1)
    shape: tuple[int, int] | None = None
    with TemporaryDirectory() as folder:
        for name, case in cases(items):
            if shape != (case.items, case.dimensions):
                shape = case.items, case.dimensions
                with console.status(f"building {case.items:,} items, d = {case.dimensions}"):
                    population = Population.generate(case.items, USERS, case.dimensions)
                    version = f"{case.items}-{case.dimensions}"
                    manifest, _ = population.write_version(Path(folder), version)
                    catalogue = open_recommender(Path(folder) / version, manifest)
                    users = list(population.features(version))
            table.add_row(name, f"{microseconds(case, catalogue, users):.0f}")
    console.print(table)


def microseconds(case: Case, catalogue: Catalogue, users: list[UserFeatures]) -> float:
    """Microseconds of processor time per recommendation, of the best round."""
    pairs = [(_query(case, user), _features(case, position, users)) for position, user in enumerate(users)]
    best = float("inf")
    for _ in range(ROUNDS):
        began, remaining = thread_time(), iter(pairs)
        while batch := list(islice(remaining, BATCH)):
            recommend_many(batch, catalogue)
        best = min(best, thread_time() - began)
    return best / len(pairs) * 1e6


def _query(case: Case, user: UserFeatures) -> Query:
    condition = compile_expression(case.filter) if case.filter else None
    return Query(
        k=case.k, user_id=user.user_id, filter=condition, placement=case.placement, now_ms=epoch_ms(CREATED_AT)
    )


def _features(case: Case, position: int, users: list[UserFeatures]) -> UserFeatures:
    """A longer history is made of several users' histories."""
    user = users[position]
    entries = (entry for neighbour in (users[position:] + users[:position]) for entry in neighbour.history)
    history = tuple(sorted(islice(entries, case.history)))
    return replace(user, history=history, embeddings={} if case.folded else user.embeddings, revision=1)


if __name__ == "__main__":
    typer.run(main)
