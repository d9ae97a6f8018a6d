"""The catalogue as of the last change is the same whichever way it came about."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.catalogue import changes, masks, new_items
from recsys.catalogue.catalogue import Catalogue
from recsys.filters.expression import Expression, compile_expression
from recsys.index.id_map import UNKNOWN
from recsys.index.index import Index
from recsys.messages.item import Item
from recsys.stores.model_registry.memory import MemoryModelRegistry
from tests.environment.versions import DIMENSIONS, WATERMARK, publish_small_version
from tests.environment.versions import ITEMS as N
from tests.recsys.filters.expressions import EXPRESSIONS, ITEMS

CHEAP = compile_expression("price < 10")
TEA = compile_expression('categories = "tea"')
CHANGES = st.lists(
    st.builds(
        lambda item, number, seconds: msgspec.structs.replace(
            item, item_id=f"i{number}", updated_at=WATERMARK + timedelta(seconds=seconds)
        ),
        ITEMS.filter(bool),
        st.integers(N - 4, N + 6),
        st.integers(0, 5),
    ),
    max_size=8,
)
"""Of a few items of the small version, and some it does not know."""


@pytest.fixture(scope="module")
def catalogue() -> Iterator[Catalogue]:
    with TemporaryDirectory() as folder:
        manifest = publish_small_version(MemoryModelRegistry(), Path(folder), "small")
        yield Catalogue.of(Index.open(Path(folder) / "small", manifest))


def at(seconds: int, item_id: str, **fields: Any) -> Item:
    return Item(item_id=item_id, updated_at=WATERMARK + timedelta(seconds=seconds), **fields)


def allowed(catalogue: Catalogue, *conditions: Expression) -> list[bool]:
    found = catalogue.allowed(conditions)
    return [True] * len(catalogue) if found is None else found.mask.tolist()


def one_by_one(catalogue: Catalogue, *conditions: Expression) -> list[bool]:
    items = [catalogue.item(row) for row in range(len(catalogue))]
    return [
        (item is None or item.available is not False) and all(c.matches(item) for c in conditions) for item in items
    ]


@given(
    batches=st.lists(CHANGES, min_size=1, max_size=3),
    text=EXPRESSIONS,
    most=st.integers(1, 12),
    segment=st.integers(1, 6),
)
def test_a_mask_is_right_after_any_changes(
    catalogue: Catalogue, batches: list[list[Item]], text: str, most: int, segment: int
) -> None:
    asked: Sequence[tuple[Expression, ...]] = [(), (CHEAP,), (compile_expression(text),), (CHEAP, TEA)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(new_items, "MAX_NEW", most)
        patch.setattr(changes, "MIN_SEGMENT", segment)
        patch.setattr(changes, "MAX_SEGMENTS", 1)
        for batch in batches:
            before, catalogue = catalogue, catalogue.updated(batch)
            assert len(catalogue) <= N + most
            for conditions in asked[: len(batch) + 2]:
                assert allowed(catalogue, *conditions) == one_by_one(catalogue, *conditions)
            catalogue.warmed(before)
            assert all(catalogue.has_mask(conditions) for conditions in asked[:2])


@given(batches=st.lists(CHANGES, max_size=4), most=st.integers(1, 12))
def test_the_newest_of_the_new_items_are_known_and_keep_their_rows(
    catalogue: Catalogue, batches: list[list[Item]], most: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(new_items, "MAX_NEW", most)
        for batch in batches:
            before, catalogue = catalogue, catalogue.updated(batch)
            latest = {item.item_id: item for item in batch}
            rows = dict(zip(latest, catalogue.rows(latest).tolist(), strict=True))
            assert all(catalogue.item(row) == latest[item_id] for item_id, row in rows.items() if row != UNKNOWN)
            held = [item.updated_at for item in catalogue.new.items]
            missing = [latest[item_id].updated_at for item_id, row in rows.items() if row == UNKNOWN]
            assert not missing or (len(held) == most and max(missing) <= min(held))
            stayed = [item.item_id for item in before.new.items if catalogue.rows([item.item_id])[0] != UNKNOWN]
            assert catalogue.rows(stayed).tolist() == before.rows(stayed).tolist()
        everything = np.arange(len(catalogue))
        assert catalogue.rows(catalogue.ids(everything)).tolist() == everything.tolist()
        times = [catalogue.new.items[row - N].updated_at for row in catalogue.new_rows.tolist()]
        assert times == sorted(times)
        assert len(times) == len(catalogue) - N


def test_an_item_the_version_does_not_know_joins_it(catalogue: Catalogue) -> None:
    grown = catalogue.updated([at(1, "fresh", title="Fresh", price=3.0, categories=["tea"])])
    assert (len(catalogue), len(grown)) == (N, N + 1)
    assert grown.rows(["i3", "fresh", "unheard of"]).tolist() == [3, N, UNKNOWN]
    assert grown.ids(np.array([N, 3])) == ["fresh", "i3"]
    assert grown.new_rows.tolist() == [N]
    assert grown.categories_of(np.array([N, 0, 1])) == [("tea",), ("tea",), ("garden",)]
    assert grown.returned_properties([N, 0], ["title"]) == [{"title": "Fresh"}, {"title": "Item 0"}]
    assert allowed(grown, CHEAP, TEA)[N]
    vectors = grown.vectors(np.array([5, N]))
    assert vectors.shape == (2, DIMENSIONS)
    np.testing.assert_array_equal(vectors[0], catalogue.index.item_factors[5])


def test_without_anything_hidden_or_asked_for_everything_is_allowed(catalogue: Catalogue) -> None:
    assert catalogue.allowed(()) is not None
    shown = catalogue.updated([at(1, "i7", available=True), at(1, "fresh")])
    assert shown.allowed(()) is None
    hidden = shown.updated([at(2, "fresh", available=False)])
    found = hidden.allowed(())
    assert found is not None
    assert (found.mask.tolist(), found.count) == ([True] * N + [False], N)
    assert catalogue.allowed(()) is not None


def test_changed_categories_are_the_ones_that_count(catalogue: Catalogue) -> None:
    changed = catalogue.updated([at(1, "i0", categories=["cups", "tea"]), at(1, "i1", title="bare")])
    assert changed.categories_of(np.array([0, 1, 2])) == [("cups", "tea"), (), ("tea",)]


def test_a_mask_is_made_once_and_patched_after_changes(catalogue: Catalogue) -> None:
    made = catalogue.allowed((CHEAP,))
    assert catalogue.allowed((CHEAP,)) is made
    changed = catalogue.updated([at(1, "i3", price=99.0)])
    patched = changed.allowed((CHEAP,))
    assert patched is not None
    assert made is not None
    assert np.flatnonzero(made.mask != patched.mask).tolist() == [3]
    assert changed.allowed((CHEAP,)) is patched
    assert catalogue.allowed((CHEAP,)) is made


def test_masks_are_bounded_in_number_and_bytes(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = Catalogue.of(catalogue.index)
    monkeypatch.setattr(masks, "MAX_MASKS", 3)
    first = fresh.allowed((CHEAP,))
    for price in range(3):
        assert fresh.allowed((CHEAP,)) is first
        fresh.allowed((compile_expression(f"price > {price}"),))
    fresh.allowed((TEA,))
    fresh.allowed(())
    fresh.allowed((compile_expression("price > 0"),))
    assert fresh.allowed((CHEAP,)) is not first
    monkeypatch.setattr(masks, "MAX_BYTES", masks.BYTES_PER_ROW * N)
    kept = fresh.allowed((TEA,))
    assert fresh.allowed((TEA,)) is kept
    fresh.allowed((CHEAP,))
    assert fresh.allowed((TEA,)) is not kept


def test_after_very_many_changes_a_mask_is_made_anew(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "MAX_STALE", 2)
    catalogue.allowed((CHEAP,))
    changed = catalogue.updated([at(1, f"i{n}", price=99.0) for n in range(5)])
    assert allowed(changed, CHEAP) == one_by_one(changed, CHEAP)


def test_only_what_is_newer_than_the_version_is_a_change(catalogue: Catalogue) -> None:
    items = [at(0, "i1"), at(1, "i2"), at(-1, "i3"), at(-5, "fresh")]
    assert [item.item_id for item in catalogue.newer(items)] == ["i2", "fresh"]
    assert catalogue.newer([]) == []
