"""Features of items are the same for trainer and service, bounded, and say what an item is."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recsys.index.content import BUCKETS, MAX_TOKENS, features, place, tokens
from recsys.messages.item import Item
from tests.environment.versions import WATERMARK

TEXT = st.text(max_size=200)
ITEMS = st.builds(
    Item,
    item_id=st.just("a"),
    updated_at=st.just(WATERMARK),
    title=st.none() | TEXT,
    categories=st.none() | st.lists(TEXT, max_size=5),
    properties=st.none() | st.dictionaries(TEXT, TEXT | st.floats(0, 1) | st.booleans() | st.lists(TEXT), max_size=5),
)


def item(title: str | None = None, **rest: object) -> Item:
    return Item(item_id="a", updated_at=WATERMARK, title=title, **rest)  # type: ignore[arg-type]


def test_an_item_is_its_categories_words_and_short_properties() -> None:
    found = tokens(item("Red TEA-pot", categories=["tea"], properties={"colour": "Red", "story": "x" * 99, "n": 3.0}))
    assert found == ["", "c:tea", "w:red", "w:tea", "w:pot", "b:red tea", "b:tea pot", "p:colour=red"]


@given(st.lists(ITEMS, max_size=8))
def test_features_are_bounded_and_of_length_one(items: list[Item]) -> None:
    made = features(items)
    counts = np.diff(made.indptr)
    assert ((counts >= 1) & (counts <= MAX_TOKENS)).all()
    assert made.buckets.size == 0 or (made.buckets.min() >= 0 and made.buckets.max() < BUCKETS)
    for start, end in zip(made.indptr, made.indptr[1:], strict=False):
        assert np.isclose((made.weights[start:end] ** 2).sum(), 1.0, atol=1e-5)


@given(st.lists(ITEMS, min_size=1, max_size=8))
def test_items_are_placed_alone_as_they_are_together(items: list[Item]) -> None:
    projection = np.random.default_rng(1).normal(size=(BUCKETS, 3)).astype(np.float32)
    together = place(items, projection)
    for one, vector in zip(items, together, strict=True):
        np.testing.assert_allclose(place([one], projection)[0], vector, atol=1e-5)


def test_a_version_without_content_places_nothing() -> None:
    assert place([item("tea")], np.empty((0, 4), np.float32)).tolist() == [[0.0] * 4]
