"""The pipeline is a list: a source or stage that is put into it shows in answers, explanations and traces."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from recsys.catalogue.catalogue import Catalogue
from recsys.index.index import Index
from recsys.recommender.candidates.source import Contribution, Contributions, Sources, first
from recsys.recommender.draft import Draft
from recsys.recommender.explain import Explanation
from recsys.recommender.pipeline import NO_TRENDS, PIPELINE, Pipeline, recommend, recommend_many
from recsys.recommender.placement import Candidates, Placement, Source
from recsys.recommender.query import FallbackLevel, Query
from recsys.recommender.ranked import Ranked
from recsys.recommender.stages.choose import Choose
from recsys.recommender.stages.stage import Stage, Trace
from recsys.stores.model_registry.memory import MemoryModelRegistry
from tests.environment.versions import ITEMS, publish_small_version

LAST_ROWS = cast("Source", "last_rows")
ONLY_LAST_ROWS = Placement(sources=(Candidates(LAST_ROWS),), fallback=())


class LastRows:
    """A tiny source: the catalogue from its end."""

    name = LAST_ROWS
    needs: frozenset[str] = frozenset()

    def candidates(self, draft: Draft, count: int, excluded: frozenset[int]) -> Ranked:
        rows = np.arange(len(draft.catalogue.index) - 1, -1, -1)
        rows = rows[first(rows, draft.allowed, excluded, count)]
        return Ranked(rows, rows.astype(np.float32))

    def fallback_level(self, _: Draft) -> FallbackLevel:
        return FallbackLevel.TRENDING

    def contributions(self, _: Draft) -> Contributions:
        return lambda row: [Contribution(f"i{row}", float(row))]


class EvenRows(Stage):
    """A tiny stage: only even rows."""

    name = "even_rows"

    def chooses(self, _: Placement) -> bool:
        return True

    def run(self, drafts: Sequence[Draft], _: Sources) -> None:
        for draft in drafts:
            draft.ranked = draft.ranked.only(np.flatnonzero(draft.ranked.rows % 2 == 0).tolist())


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    manifest = publish_small_version(MemoryModelRegistry(), tmp_path, "small")
    return Catalogue.of(Index.open(tmp_path / "small", manifest))


def with_tiny_parts() -> Pipeline:
    choice = next(position for position, stage in enumerate(PIPELINE.stages) if isinstance(stage, Choose))
    stages = (*PIPELINE.stages[:choice], EvenRows(), *PIPELINE.stages[choice:])
    return Pipeline((*PIPELINE.sources, LastRows()), stages)


def test_a_source_and_a_stage_in_the_list_show_in_the_answer(catalogue: Catalogue) -> None:
    answer = recommend(Query(k=5, placement=ONLY_LAST_ROWS), None, catalogue, pipeline=with_tiny_parts())
    may = [row for row in range(ITEMS - 1, -1, -1) if row % 2 == 0 and catalogue.item(row).available is not False]  # type: ignore[union-attr]
    assert answer.rows.tolist() == may[:5]
    assert answer.sources == (LAST_ROWS,) * 5
    assert answer.fallback_level is FallbackLevel.TRENDING


def test_they_show_in_the_trace_and_in_explanations(catalogue: Catalogue) -> None:
    trace, pipeline = Trace(), with_tiny_parts()
    answer = recommend(Query(k=5, placement=ONLY_LAST_ROWS), None, catalogue, trace=trace, pipeline=pipeline)
    traced = [stage.name for stage, _ in trace.orders]
    assert traced == [stage.name for stage in pipeline.stages if stage.name in traced], "in the order of the list"
    assert "even_rows" in traced
    explanation = Explanation(trace, answer, catalogue)
    second = explanation.why()[1]
    row = answer.rows.tolist()[1]
    assert second.source == "last_rows"
    assert second.contributions == [Contribution(f"i{row}", float(row))]
    assert second.ranks["candidates"] > second.ranks["even_rows"] == 2
    odd = next(row for row in trace.orders[0][1].rows.tolist() if row % 2)
    removed = explanation.why_not(odd)
    assert removed is not None
    assert removed.stage == "even_rows"


def test_the_pipeline_itself_knows_nothing_of_them(catalogue: Catalogue) -> None:
    with pytest.raises(KeyError, match="last_rows"):
        recommend(Query(placement=ONLY_LAST_ROWS), None, catalogue)
    assert recommend(Query(k=4), None, catalogue).rows.tolist() == [0, 1, 2, 3]


def test_every_source_of_placements_is_in_the_list(catalogue: Catalogue) -> None:
    assert {source.name for source in PIPELINE.sources} == set(Source)
    names = [stage.name for stage in PIPELINE.stages]
    assert len(names) == len(set(names)), "an explanation names each stage"
    for source in Source:
        recommend(Query(session_items=("i1",), placement=Placement(sources=(Candidates(source),))), None, catalogue)


def test_no_queries_have_no_answers(catalogue: Catalogue) -> None:
    assert recommend_many([], catalogue, NO_TRENDS) == []


def test_a_stage_that_chooses_gets_more_candidates_than_are_shown(catalogue: Catalogue) -> None:
    wide, narrow = Trace(), Trace()
    recommend(Query(k=3), None, catalogue, trace=narrow)
    placement = Placement(sources=(Candidates(Source.POPULAR),))
    recommend(Query(k=3, placement=placement), None, catalogue, trace=wide, pipeline=with_tiny_parts())
    assert len(wide.orders[0][1]) > 3 >= len(narrow.orders[0][1])
