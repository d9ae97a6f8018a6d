"""Whatever is asked, the answer keeps its promises; and the ladder picks the right rung."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import CorruptArtefact, NotFound
from recsys.index_registry.memory import MemoryIndexRegistry
from recsys.index_version import Manifest
from recsys.item import Item
from recsys.recommendation import Filter, Query, Recommendation, Rung
from recsys.recommender import Catalogue, Index, recommend, similar
from recsys.user_features import HistoryEntry, UserFeatures
from tests.versions import ITEMS, WATERMARK, publish_small_version

ITEM_IDS = st.sampled_from([f"i{n}" for n in range(ITEMS)] + ["unheard-of"])
USER_IDS = st.sampled_from(["u0", "u1", "u2", "stranger"])
FILTERS = st.builds(
    Filter,
    st.frozensets(st.sampled_from(["tea", "garden", "toys"]), max_size=2),
    st.dictionaries(st.just("colour"), st.sampled_from(["red", "blue"]), max_size=1),
)
QUERIES = st.builds(
    Query,
    k=st.integers(1, 60),
    user_id=st.none() | USER_IDS,
    session_items=st.lists(ITEM_IDS, max_size=4).map(tuple),
    exclude=st.lists(ITEM_IDS, max_size=6).map(tuple),
    exclude_seen=st.booleans(),
    filter=st.none() | FILTERS,
)
HISTORIES = st.lists(ITEM_IDS, max_size=12).map(
    lambda items: tuple(HistoryEntry(n, n, item, "purchase") for n, item in enumerate(items))
)


@pytest.fixture(scope="module")
def version() -> Iterator[tuple[Path, Manifest]]:
    with TemporaryDirectory() as folder:
        manifest = publish_small_version(MemoryIndexRegistry(), Path(folder), "small")
        yield Path(folder) / "small", manifest


@pytest.fixture(scope="module")
def catalogue(version: tuple[Path, Manifest]) -> Catalogue:
    return Catalogue.of(Index.open(*version))


def known(history: tuple[HistoryEntry, ...], user_id: str = "u0", revision: int = 1) -> UserFeatures:
    return UserFeatures(user_id, history, {}, {}, revision)


def items_of(answer: Recommendation, catalogue: Catalogue) -> list[str]:
    return catalogue.index.item_id.ids(answer.rows)


@settings(max_examples=300, deadline=None)
@given(query=QUERIES, history=HISTORIES, readable=st.booleans())
def test_every_answer_keeps_its_promises(
    catalogue: Catalogue, query: Query, history: tuple[HistoryEntry, ...], readable: bool
) -> None:
    features = known(history) if readable else None
    answer = recommend(query, features, catalogue)
    shown = items_of(answer, catalogue)
    forbidden = {*query.exclude, *query.session_items, "i7"}
    if query.exclude_seen and readable:
        forbidden |= {entry.item_id for entry in history}
    allowed = {
        f"i{n}"
        for n in range(ITEMS)
        if query.filter is None
        or (
            (not query.filter.categories or ("garden" if n % 2 else "tea") in query.filter.categories)
            and query.filter.properties.get("colour", "red" if n < 10 else "blue") == ("red" if n < 10 else "blue")
        )
    } - forbidden
    assert len(shown) == len(set(shown)) == min(query.k, len(allowed)), "as many distinct items as there are"
    assert set(shown) <= allowed
    assert all(earlier >= later for earlier, later in zip(answer.scores, answer.scores[1:], strict=False))
    assert len(answer.sources) == len(shown)
    again = recommend(query, features, catalogue)
    assert (again.rows.tolist(), again.scores.tolist()) == (answer.rows.tolist(), answer.scores.tolist())


def test_the_ladder_takes_the_best_rung_there_is(catalogue: Catalogue) -> None:
    history = (HistoryEntry(1, 1, "i1", "purchase"),)
    vector = catalogue.index.fold_in(history)
    assert vector is not None
    stored = UserFeatures("u0", history, {}, {"small": vector}, 1)
    foreign = UserFeatures("u0", history, {}, {"other": vector}, 1)

    def rung(query: Query, features: UserFeatures | None) -> Rung:
        return recommend(query, features, catalogue).rung

    assert rung(Query(user_id="u0"), stored) is Rung.EMBEDDING
    assert rung(Query(user_id="u0"), foreign) is Rung.FOLDED, "an embedding of another version is never used"
    assert rung(Query(user_id="u0", session_items=("i2",)), stored) is Rung.FOLDED, "this visit counts too"
    assert rung(Query(user_id="u0"), None) is Rung.SNAPSHOT, "the store is down"
    assert rung(Query(user_id="u0"), UserFeatures("u0")) is Rung.SNAPSHOT, "the store has forgotten"
    assert rung(Query(user_id="u0"), known(())) is Rung.POPULAR, "an erased user is a stranger"
    assert rung(Query(user_id="stranger", session_items=("i2",)), UserFeatures("stranger")) is Rung.SESSION
    assert rung(Query(user_id="stranger"), UserFeatures("stranger")) is Rung.POPULAR
    assert rung(Query(session_items=("unheard-of",)), None) is Rung.POPULAR


def test_stored_and_folded_embeddings_give_the_same_answer(catalogue: Catalogue) -> None:
    history = tuple(HistoryEntry(n, n, f"i{n}", "purchase") for n in (1, 3, 9))
    vector = catalogue.index.fold_in(history)
    assert vector is not None
    stored = recommend(Query(user_id="u0"), UserFeatures("u0", history, {}, {"small": vector}, 1), catalogue)
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


def test_similar_items_come_nearest_first_and_without_the_item(catalogue: Catalogue) -> None:
    answer = similar("i4", 5, catalogue)
    shown = items_of(answer, catalogue)
    assert "i4" not in shown
    assert all(int(one[1:]) % 2 == 0 for one in shown)
    assert answer.scores.tolist() == sorted(answer.scores.tolist(), reverse=True)
    with pytest.raises(NotFound):
        similar("unheard-of", 5, catalogue)


def test_a_version_of_another_format_is_refused(version: tuple[Path, Manifest]) -> None:
    import msgspec

    directory, manifest = version
    with pytest.raises(CorruptArtefact, match="format 99"):
        Index.open(directory, msgspec.structs.replace(manifest, format_version=99))


@pytest.mark.parametrize("change", [{"items": ITEMS + 1}, {"dimensions": 9}])
def test_a_manifest_that_does_not_fit_its_arrays_is_refused(
    version: tuple[Path, Manifest], change: dict[str, int]
) -> None:
    import msgspec

    directory, manifest = version
    with pytest.raises(CorruptArtefact):
        Index.open(directory, msgspec.structs.replace(manifest, **change))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    manifest = publish_small_version(MemoryIndexRegistry(), tmp_path, "broken")
    (tmp_path / "broken" / "items.faiss").unlink()
    with pytest.raises(CorruptArtefact, match="broken"):
        Index.open(tmp_path / "broken", manifest)
