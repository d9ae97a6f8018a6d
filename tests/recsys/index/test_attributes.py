"""Columns answer for a whole catalogue what an expression says of each item."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import CorruptArtefact
from recsys.filters.expression import compile_expression
from recsys.index import columns
from recsys.index.attributes import Attributes
from recsys.index.columns import AVAILABLE, HIDDEN, UNDESCRIBED, write_attributes
from recsys.index.id_map import IdMap
from recsys.messages.item import Item
from tests.environment.versions import WATERMARK, small_item
from tests.recsys.filters.expressions import CATALOGUES, EXPRESSIONS


def opened(folder: Path, items: Sequence[Item | None]) -> Attributes:
    names = write_attributes(folder, items)
    assert sorted(names) == sorted(path.name for path in folder.iterdir())
    return Attributes.open(folder, IdMap.build([f"i{n}" for n in range(len(items))]))


def assert_consistent(items: Sequence[Item | None], texts: Sequence[str]) -> None:
    with TemporaryDirectory() as folder:
        attributes = opened(Path(folder), items)
        for text in texts:
            expression = compile_expression(text)
            mask = attributes.mask(expression, lambda row: items[row])
            assert mask.tolist() == [expression.matches(item) for item in items], text


@given(CATALOGUES, st.lists(EXPRESSIONS, min_size=1, max_size=8))
def test_a_mask_is_what_the_expression_says_of_each_item(items: list[Item | None], texts: list[str]) -> None:
    assert_consistent(items, texts)


@given(items=CATALOGUES, texts=st.lists(EXPRESSIONS, min_size=1, max_size=4), most=st.integers(0, 3))
def test_properties_without_columns_are_read_from_the_items(
    items: list[Item | None], texts: list[str], most: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "MAX_NAMES", most)
        assert_consistent(items, texts)


def test_state_and_time_of_every_item_are_known(tmp_path: Path) -> None:
    attributes = opened(tmp_path, [small_item(0), None, small_item(7)])
    assert attributes.state.tolist() == [AVAILABLE, UNDESCRIBED, HIDDEN]
    assert attributes.updated.tolist() == [WATERMARK.timestamp(), -np.inf, WATERMARK.timestamp()]


def test_any_name_of_a_property_is_safe(tmp_path: Path) -> None:
    name = "../../../etc/pass wd\0.npy"
    item = Item(item_id="i0", updated_at=WATERMARK, properties={name: "x"})
    attributes = opened(tmp_path, [item, None])
    assert attributes.mask(compile_expression(f"`{name}` = 'x'"), lambda _: item).tolist() == [True, False]


@pytest.mark.parametrize(
    "name", ["state", "updated", "numbers", "number_rows", "texts", "text_offsets", "text_starts", "text_rows"]
)
def test_an_array_of_another_length_is_refused(tmp_path: Path, name: str) -> None:
    opened(tmp_path, [small_item(n) for n in range(5)])
    path = tmp_path / f"attributes.{name}.npy"
    array = np.load(path)
    np.save(path, array[:-1])
    with pytest.raises(CorruptArtefact):
        Attributes.open(tmp_path, IdMap.build([f"i{n}" for n in range(5)]))
