"""Whatever is asked, the answer keeps its promises; and the ladder picks the right fallback level."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.catalogue.catalogue import Catalogue
from recsys.errors import CorruptArtefact
from recsys.filters.expression import compile_expression
from recsys.index.factors import DAY_MS
from recsys.index.index import Index
from recsys.messages.item import Item
from recsys.models.manifest import Manifest
from recsys.recommender.explain import Explanation
from recsys.recommender.pipeline import recommend, recommend_many
from recsys.recommender.placement import SEEN_EVER, Boost, Candidates, Placement, Source
from recsys.recommender.query import FallbackLevel, Query, Recommendation
from recsys.recommender.stages.stage import Trace
from recsys.stores.model_registry.memory import MemoryModelRegistry
from recsys.users import HistoryEntry, UserFeatures
from tests.environment.versions import ITEMS, WATERMARK, publish_small_version, small_item

ITEM_IDS = st.sampled_from([f"i{n}" for n in range(ITEMS)] + ["unheard-of"])
USER_IDS = st.sampled_from(["u0", "u1", "u2", "stranger"])
TEXTS = [
    'categories = "tea"',
    'categories in ["garden", "toys"]',
    'colour = "red" and not categories = "tea"',
    "price < 20 or colour = 'blue'",
    'categories = "toys"',
]
PLACEMENTS = st.builds(
    Placement,
    sources=st.lists(st.builds(Candidates, st.sampled_from(Source), st.floats(0.1, 10)), min_size=1, max_size=3).map(
        tuple
    ),
    filter=st.sampled_from(["", *TEXTS]),
    exclude_seen=st.sampled_from([{}, SEEN_EVER, {"purchase": 1.0}]),
    boosts=st.lists(st.builds(Boost, st.sampled_from(TEXTS), st.floats(0.1, 10)), max_size=2).map(tuple),
    diversity=st.sampled_from([0.0, 0.3, 1.0]),
    max_per_category=st.none() | st.integers(1, 30),
    rotate_hours=st.sampled_from([0.0, 24.0]),
    min_score=st.none() | st.floats(-1, 1),
    fallback=st.lists(st.sampled_from(Source), max_size=3).map(tuple),
)
QUERIES = st.builds(
    Query,
    k=st.integers(1, 60),
    user_id=st.none() | USER_IDS,
    session_items=st.lists(ITEM_IDS, max_size=4).map(tuple),
    cart_items=st.lists(ITEM_IDS, max_size=2).map(tuple),
    exclude=st.lists(ITEM_IDS, max_size=6).map(tuple),
    filter=st.none() | st.sampled_from(TEXTS).map(compile_expression),
    placement=PLACEMENTS,
    now_ms=st.sampled_from([0, 10 * DAY_MS]),
)
HISTORIES = st.lists(ITEM_IDS, max_size=12).map(
    lambda items: tuple(HistoryEntry(n, n, item, "purchase") for n, item in enumerate(items))
)


@pytest.fixture(scope="module")
def version() -> Iterator[tuple[Path, Manifest]]:
    with TemporaryDirectory() as folder:
        manifest = publish_small_version(MemoryModelRegistry(), Path(folder), "small")
        yield Path(folder) / "small", manifest


@pytest.fixture(scope="module")
def catalogue(version: tuple[Path, Manifest]) -> Catalogue:
    return Catalogue.of(Index.open(*version))


def known(history: tuple[HistoryEntry, ...], user_id: str = "u0", revision: int = 1) -> UserFeatures:
    return UserFeatures(user_id, history, revision=revision)


def items_of(answer: Recommendation, catalogue: Catalogue) -> list[str]:
    return catalogue.index.item_id.ids(answer.rows)


def may_be_shown(query: Query, history: tuple[HistoryEntry, ...]) -> set[str]:
    """By the words of the query, one item at a time."""
    seen = {
        entry.item_id
        for entry in history
        if (days := query.placement.exclude_seen.get(entry.type, query.placement.exclude_seen.get("*")))
        and entry.at_ms >= query.now_ms - days * DAY_MS
    }
    conditions = [compile_expression(query.placement.filter)] if query.placement.filter else []
    conditions += [query.filter] if query.filter else []
    return {
        item.item_id
        for item in map(small_item, range(ITEMS))
        if item.available and all(one.matches(item) for one in conditions)
    } - {*query.exclude, *query.visit, *seen}


@given(query=QUERIES, history=HISTORIES, readable=st.booleans())
def test_every_answer_keeps_its_promises(
    catalogue: Catalogue, query: Query, history: tuple[HistoryEntry, ...], readable: bool
) -> None:
    features = known(history) if readable else None
    answer = recommend(query, features, catalogue)
    shown = catalogue.ids(answer.rows)
    allowed = may_be_shown(query, history if readable else ())
    assert set(shown) <= allowed, "available, unfiltered, never an excluded one"
    assert len(shown) == len(set(shown)) <= query.k, "distinct"
    assert len(answer.sources) == len(answer.scores) == len(shown)
    assert (len(shown) == query.k) == (answer.short is None), "as many as asked for, or a reason"
    if Source.POPULAR in query.placement.fallback and query.placement.max_per_category is None:
        assert len(shown) == min(query.k, len(allowed)), "popular items fill every place"
    if query.placement.max_per_category is not None:
        counted = Counter("garden" if int(one[1:]) % 2 else "tea" for one in shown)
        assert max(counted.values(), default=0) <= query.placement.max_per_category
    again = recommend(query, features, catalogue)
    assert (again.rows.tolist(), again.scores.tolist()) == (answer.rows.tolist(), answer.scores.tolist())


@given(queries=st.lists(QUERIES, min_size=1, max_size=6), history=HISTORIES)
def test_answers_do_not_depend_on_who_else_asks(
    catalogue: Catalogue, queries: list[Query], history: tuple[HistoryEntry, ...]
) -> None:
    together = recommend_many([(query, known(history)) for query in queries], catalogue)
    for query, one in zip(queries, together, strict=True):
        alone = recommend(query, known(history), catalogue)
        assert (one.fallback_level, one.sources, one.short) == (alone.fallback_level, alone.sources, alone.short)
        np.testing.assert_allclose(one.scores, alone.scores, atol=1e-5)


@given(query=QUERIES, history=HISTORIES, n=st.integers(0, ITEMS - 1))
def test_explaining_agrees_with_the_answer_and_with_the_words_of_the_query(
    catalogue: Catalogue, query: Query, history: tuple[HistoryEntry, ...], n: int
) -> None:
    trace = Trace()
    answer = recommend(query, known(history), catalogue, trace=trace)
    assert answer.rows.tolist() == recommend(query, known(history), catalogue).rows.tolist(), "tracing changes nothing"
    explanation = Explanation(trace, answer, catalogue)
    assert [why.ranks["answer"] for why in explanation.why()] == list(range(1, len(answer.rows) + 1))
    removed = explanation.why_not(n)
    assert (removed is None) == (n in answer.rows.tolist())
    if removed is not None and f"i{n}" not in may_be_shown(query, history):
        assert removed.stage in {"available", "filter", "exclude", "seen"}
    elif removed is not None:
        assert removed.stage in {"candidates", "min_score", "max_per_category", "k"}


def test_the_best_fallback_level_is_taken(catalogue: Catalogue) -> None:
    history = (HistoryEntry(1, 1, "i1", "purchase"),)
    vector = catalogue.index.fold_in(history)
    assert vector is not None
    stored = UserFeatures("u0", history, embeddings={"small": vector}, revision=1)
    foreign = UserFeatures("u0", history, embeddings={"other": vector}, revision=1)

    def fallback_level(query: Query, features: UserFeatures | None) -> FallbackLevel:
        return recommend(query, features, catalogue).fallback_level

    assert fallback_level(Query(user_id="u0"), stored) is FallbackLevel.EMBEDDING
    assert fallback_level(Query(user_id="u0"), foreign) is FallbackLevel.FOLDED, (
        "an embedding of another version is never used"
    )
    assert fallback_level(Query(user_id="u0", session_items=("i2",)), stored) is FallbackLevel.FOLDED, (
        "this visit counts too"
    )
    assert fallback_level(Query(user_id="u0"), None) is FallbackLevel.SNAPSHOT, "the store is down"
    assert fallback_level(Query(user_id="u0"), UserFeatures("u0")) is FallbackLevel.SNAPSHOT, "the store has forgotten"
    assert fallback_level(Query(user_id="u0"), known(())) is FallbackLevel.POPULAR, "an erased user is a stranger"
    assert (
        fallback_level(Query(user_id="stranger", session_items=("i2",)), UserFeatures("stranger"))
        is FallbackLevel.SESSION
    )
    assert fallback_level(Query(user_id="stranger"), UserFeatures("stranger")) is FallbackLevel.POPULAR
    assert fallback_level(Query(session_items=("unheard-of",)), None) is FallbackLevel.POPULAR


def test_stored_and_folded_embeddings_give_the_same_answer(catalogue: Catalogue) -> None:
    history = tuple(HistoryEntry(n, n, f"i{n}", "purchase") for n in (1, 3, 9))
    vector = catalogue.index.fold_in(history)
    assert vector is not None
    stored = recommend(
        Query(user_id="u0"), UserFeatures("u0", history, embeddings={"small": vector}, revision=1), catalogue
    )
    folded = recommend(Query(user_id="u0"), known(history), catalogue)
    assert stored.rows.tolist() == folded.rows.tolist()
    assert stored.scores.tolist() == folded.scores.tolist()


def test_folding_many_at_once_equals_folding_one_by_one(catalogue: Catalogue) -> None:
    histories = [tuple(HistoryEntry(n, n, f"i{n * step % ITEMS}", "view") for n in range(1, 5)) for step in range(1, 8)]
    together = catalogue.index.fold_in_many([*histories, (), (HistoryEntry(1, 1, "unheard-of", "view"),)])
    assert together[-2:] == [None, None]
    for vector, history in zip(together, histories, strict=False):
        alone = catalogue.index.fold_in(history)
        assert vector is not None
        assert alone is not None
        np.testing.assert_allclose(vector, alone, atol=1e-6)


def test_hiding_and_showing_an_item_takes_effect_at_once(catalogue: Catalogue) -> None:
    hidden = catalogue.updated([Item(item_id="i0", updated_at=WATERMARK, available=False)])
    assert "i0" not in items_of(recommend(Query(k=ITEMS), None, hidden), hidden)
    shown = hidden.updated(
        [Item(item_id="i0", updated_at=WATERMARK), Item(item_id="i7", updated_at=WATERMARK, available=True)]
    )
    assert {"i0", "i7"} <= set(items_of(recommend(Query(k=ITEMS), None, shown), shown))
    assert "i0" in items_of(recommend(Query(k=ITEMS), None, catalogue), catalogue), "the old catalogue is untouched"


def placed(*sources: Source, **rest: Any) -> Placement:
    return Placement(sources=tuple(map(Candidates, sources)), fallback=(), **rest)


def test_similar_items_come_nearest_first_and_without_the_item(catalogue: Catalogue) -> None:
    answer = recommend(Query(k=5, session_items=("i4",), placement=placed(Source.SIMILAR)), None, catalogue)
    shown = items_of(answer, catalogue)
    assert "i4" not in shown
    assert all(int(one[1:]) % 2 == 0 for one in shown)
    assert answer.scores.tolist() == sorted(answer.scores.tolist(), reverse=True)
    unknown = recommend(Query(k=5, session_items=("unheard-of",), placement=placed(Source.SIMILAR)), None, catalogue)
    assert unknown.short


def test_contributions_add_up_to_the_score(catalogue: Catalogue) -> None:
    history = tuple(HistoryEntry(n, n, f"i{n}", "purchase") for n in (1, 3, 9, 4))
    trace = Trace()
    answer = recommend(Query(k=5), known(history), catalogue, trace=trace)
    for why, score in zip(Explanation(trace, answer, catalogue).why(), answer.scores.tolist(), strict=True):
        assert sum(one.score for one in why.contributions) == pytest.approx(score, abs=1e-4)
        assert {one.item_id for one in why.contributions} <= {"i1", "i3", "i9", "i4"}


def test_sources_share_the_places_as_configured(catalogue: Catalogue) -> None:
    placement = Placement(sources=(Candidates(Source.PERSONAL, 3.0), Candidates(Source.POPULAR, 1.0)))
    answer = recommend(Query(k=8, user_id="u1", placement=placement), None, catalogue)
    assert Counter(answer.sources) == {Source.PERSONAL: 6, Source.POPULAR: 2}
    assert answer.sources[0] is Source.PERSONAL


def test_a_source_with_nothing_to_say_leaves_its_places_to_the_others(catalogue: Catalogue) -> None:
    answer = recommend(
        Query(k=8, user_id="u1", placement=placed(Source.CO_OCCURRENCE, Source.PERSONAL)), None, catalogue
    )
    assert set(answer.sources) == {Source.PERSONAL}
    assert len(answer.rows) == 8


def test_what_was_shown_lately_goes_behind(catalogue: Catalogue) -> None:
    plain = recommend(Query(k=3, placement=placed(Source.POPULAR)), known(()), catalogue)
    assert items_of(plain, catalogue) == ["i0", "i1", "i2"]
    placement = placed(Source.POPULAR, rotate_hours=1.0)
    shown = (HistoryEntry(1000, 1, "i1", "impression"), HistoryEntry(-10_000_000, 2, "i2", "impression"))
    features = replace(known(()), impressions=shown)
    turned = recommend(Query(k=3, placement=placement, now_ms=2000), features, catalogue)
    assert items_of(turned, catalogue) == ["i0", "i2", "i3"]


def test_a_boost_lifts_what_matches_and_tells_of_it(catalogue: Catalogue) -> None:
    placement = placed(Source.POPULAR, boosts=(Boost('colour = "blue"', 3.0),))
    trace = Trace()
    answer = recommend(Query(k=3, placement=placement), None, catalogue, trace=trace)
    assert items_of(answer, catalogue) == ["i10", "i11", "i12"]
    why = Explanation(trace, answer, catalogue).why()[0]
    assert why.boosts == ['colour = "blue"']
    assert why.ranks["boosts"] < why.ranks["candidates"]


def test_diversity_mixes_the_tastes(catalogue: Catalogue) -> None:
    def gardens(diversity: float) -> int:
        query = Query(k=6, user_id="u1", placement=placed(Source.PERSONAL, diversity=diversity))
        return sum(int(one[1:]) % 2 for one in items_of(recommend(query, None, catalogue), catalogue))

    assert gardens(0.0) == 6
    assert gardens(0.7) < 6


def test_personal_items_below_the_least_score_make_room(catalogue: Catalogue) -> None:
    placement = msgspec.structs.replace(placed(Source.PERSONAL, min_score=0.5), fallback=(Source.POPULAR,))
    answer = recommend(Query(k=30, user_id="u1", placement=placement), None, catalogue)
    assert 0 < answer.sources.count(Source.PERSONAL) <= 20
    assert all(
        score >= 0.5 for score, source in zip(answer.scores, answer.sources, strict=True) if source is Source.PERSONAL
    )
    assert len(answer.rows) == 30


def test_a_version_of_another_format_is_refused(version: tuple[Path, Manifest]) -> None:
    directory, manifest = version
    with pytest.raises(CorruptArtefact, match="format 99"):
        Index.open(directory, msgspec.structs.replace(manifest, format_version=99))


@pytest.mark.parametrize("change", [{"items": ITEMS + 1}, {"dimensions": 9}])
def test_a_manifest_that_does_not_fit_its_arrays_is_refused(
    version: tuple[Path, Manifest], change: dict[str, int]
) -> None:
    directory, manifest = version
    with pytest.raises(CorruptArtefact):
        Index.open(directory, msgspec.structs.replace(manifest, section=manifest.section | change))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    manifest = publish_small_version(MemoryModelRegistry(), tmp_path, "broken")
    (tmp_path / "broken" / "items.faiss").unlink()
    with pytest.raises(CorruptArtefact, match="broken"):
        Index.open(tmp_path / "broken", manifest)
