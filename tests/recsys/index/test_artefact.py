"""What training hands over comes back as it was, and odd shapes never reach the registry."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.catalogue.catalogue import Catalogue
from recsys.errors import CorruptArtefact, InvalidInput
from recsys.filters.expression import compile_expression
from recsys.index.artefact import IndexContents, file_entries, without_unreadable, write_artefact
from recsys.index.index import Index
from recsys.messages.item import Item
from recsys.models.kinds import RecommenderSection, section_of
from recsys.stores.model_registry.memory import MemoryModelRegistry
from tests.environment.versions import ITEMS, WATERMARK, publish_small_version, small_item

RNG = np.random.default_rng(3)
CONTENTS = IndexContents(
    item_ids=["a", "b", "c"],
    item_factors=RNG.normal(size=(3, 2)).astype(np.float32),
    popularity=np.array([4.0, 2.0, 0.0], dtype=np.float32),
    user_ids=["ann"],
    user_factors=RNG.normal(size=(1, 2)).astype(np.float32),
    items=[small_item(1), None, small_item(2)],
)


def search_index(contents: IndexContents) -> faiss.Index:
    index = faiss.IndexFlatIP(contents.item_factors.shape[1])
    index.add(np.nan_to_num(contents.item_factors))
    return index


def test_what_was_written_is_what_is_opened(tmp_path: Path) -> None:
    manifest = publish_small_version(MemoryModelRegistry(), tmp_path, "v")
    index = Index.open(tmp_path / "v", manifest)
    assert index.item_id.ids(np.arange(ITEMS)) == [f"i{n}" for n in range(ITEMS)]
    assert [index.item(row) for row in range(ITEMS)] == [small_item(n) for n in range(ITEMS)]
    np.testing.assert_allclose(index.popularity, np.arange(ITEMS, 0, -1) / ITEMS, rtol=1e-6)
    assert index.popular_rows.tolist() == list(range(ITEMS))
    for row in (0, 7, ITEMS - 1):
        found, scores = index.search(index.item_factors[row : row + 1], ITEMS)
        np.testing.assert_allclose(scores[0], (index.item_factors @ index.item_factors[row])[found[0]], atol=1e-6)
    assert index.snapshot("nobody") is None
    assert [row for row in range(ITEMS) if Catalogue.of(index).is_hidden(row)] == [7]


def test_an_item_that_nobody_described_stays_so(tmp_path: Path) -> None:
    files = write_artefact(tmp_path, CONTENTS, search_index(CONTENTS))
    offsets = np.load(files["items.offsets.npy"])
    assert offsets[1] == offsets[2]
    assert set(file_entries(files)) == set(files)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"item_ids": ["a", "b"]}, "item_factors"),
        ({"items": [None]}, "item_factors"),
        ({"popularity": np.zeros(4, dtype=np.float32)}, "item_factors"),
        ({"user_ids": []}, "user_factors"),
        ({"user_factors": np.zeros((1, 3), dtype=np.float32)}, "user_factors"),
        ({"item_factors": np.full((3, 2), np.nan, dtype=np.float32)}, "item_factors"),
        ({"user_factors": np.full((1, 2), np.inf, dtype=np.float32)}, "item_factors"),
        ({"item_ids": ["a", "b", "a"]}, "ids"),
    ],
)
def test_odd_contents_are_refused(tmp_path: Path, change: dict[str, Any], field: str) -> None:
    contents = replace(CONTENTS, **change)
    with pytest.raises(InvalidInput) as refusal:
        write_artefact(tmp_path, contents, search_index(CONTENTS))
    assert refusal.value.field == field


def test_a_search_index_of_other_items_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="search_index"):
        write_artefact(tmp_path, CONTENTS, faiss.IndexFlatIP(2))


FILES = [
    "item_factors.npy",
    "user_factors.npy",
    "popularity.npy",
    "items.blob.npy",
    "items.offsets.npy",
    "attributes.json",
    "attributes.state.npy",
    "attributes.text_rows.npy",
    "items.faiss",
    "item_id.blob.npy",
    "item_id.hashes.npy",
    "user_id.order.npy",
]


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_short_is_refused(tmp_path: Path, name: str) -> None:
    manifest = publish_small_version(MemoryModelRegistry(), tmp_path, "cut")
    path = tmp_path / "cut" / name
    path.write_bytes(path.read_bytes()[:-17])
    with pytest.raises(CorruptArtefact, match="cut"):
        Index.open(tmp_path / "cut", manifest)


@pytest.mark.parametrize("name", ["item_factors.npy", "user_factors.npy", "popularity.npy", "items.offsets.npy"])
@settings(max_examples=20)
@given(rows=st.integers(0, 60).filter(lambda n: n not in {ITEMS, ITEMS + 1, 20}))
def test_an_array_of_another_length_is_refused(tmp_path_factory: pytest.TempPathFactory, name: str, rows: int) -> None:
    folder = tmp_path_factory.mktemp("odd")
    manifest = publish_small_version(MemoryModelRegistry(), folder, "odd")
    shape = (rows, 8) if "factors" in name else (rows,)
    np.save(folder / "odd" / name, np.zeros(shape, dtype=np.int64 if "offsets" in name else np.float32))
    with pytest.raises(CorruptArtefact):
        Index.open(folder / "odd", manifest)


def test_a_manifest_without_confidence_is_refused(tmp_path: Path) -> None:
    import msgspec

    manifest = publish_small_version(MemoryModelRegistry(), tmp_path, "v")
    assert section_of(manifest, RecommenderSection).watermark == WATERMARK
    bare = {name: value for name, value in manifest.section.items() if name != "confidence"}
    for section in (bare, bare | {"confidence": {"alpha": "much"}}):
        with pytest.raises(CorruptArtefact):
            Index.open(tmp_path / "v", msgspec.structs.replace(manifest, section=section))


@pytest.mark.parametrize("damage", [b"{", b"\xff\xff", b'{"kind":"item"}', b"[" * 3000])
def test_an_item_that_cannot_be_read_costs_its_properties_and_stays_hidden(tmp_path: Path, damage: bytes) -> None:
    manifest = publish_small_version(MemoryModelRegistry(), tmp_path, "v")
    blobs = [msgspec.json.encode(small_item(n)) for n in range(ITEMS)]
    blobs[7] = blobs[8] = damage
    np.save(tmp_path / "v/items.blob.npy", np.frombuffer(b"".join(blobs), np.uint8))
    np.save(tmp_path / "v/items.offsets.npy", np.cumsum([0, *map(len, blobs)]))
    catalogue = Catalogue.of(Index.open(tmp_path / "v", manifest))
    assert catalogue.returned_properties([6, 7, 8], None) == [small_item(6).returned_properties(), {}, {}]
    assert catalogue.categories_of(np.array([7, 8, 9])) == [(), (), ("garden",)]
    assert [catalogue.item(row).available for row in (7, 8)] == [False, None]  # type: ignore[union-attr]
    allowed = catalogue.allowed((compile_expression('title = "Item 9" or not colour = "red"'),))
    assert allowed is not None
    assert not allowed.mask[7]


def test_an_item_that_could_not_be_read_again_never_reaches_a_version(tmp_path: Path) -> None:
    wide = msgspec.structs.replace(small_item(7), properties={f"p{n}": True for n in range(65)})
    contents = replace(CONTENTS, items=[small_item(1), None, wide])
    with pytest.raises(InvalidInput, match=r"items\.i7"):
        write_artefact(tmp_path, contents, search_index(CONTENTS))
    items, bare = without_unreadable(contents.items)
    assert (bare, items[:2], items[2]) == (
        ["i7"],
        contents.items[:2],
        Item(item_id="i7", updated_at=WATERMARK, available=False),
    )
    assert write_artefact(tmp_path, replace(contents, items=items), search_index(CONTENTS))
