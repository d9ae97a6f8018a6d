"""The id map finds what it was built of, also from the files, and nothing else."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import CorruptArtefact, InvalidInput
from recsys.index import id_map
from recsys.index.id_map import UNKNOWN, IdMap

IDS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12), unique=True, max_size=50)


@given(IDS)
def test_every_id_is_found_and_read_back(ids: list[str]) -> None:
    built = IdMap.build(ids)
    rows = built.rows(ids)
    assert rows.tolist() == list(range(len(ids)))
    assert built.ids(rows) == ids


@given(IDS, IDS)
def test_what_is_not_in_the_map_is_unknown(ids: list[str], others: list[str]) -> None:
    built = IdMap.build(ids)
    for other in set(others) - set(ids):
        assert built.row(other) == UNKNOWN


@given(IDS, st.lists(st.lists(st.integers(0, 60), max_size=30), max_size=5))
def test_asking_again_finds_the_same_however_little_is_remembered(ids: list[str], questions: list[list[int]]) -> None:
    built = IdMap.build(ids)
    names = [*ids, *(f"unknown to the map {n}" for n in range(3))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(id_map, "REMEMBERED", 20)
        for places in questions:
            wanted = [place % len(names) for place in places]
            rows = built.rows([names[place] for place in wanted]).tolist()
            assert rows == [place if place < len(ids) else UNKNOWN for place in wanted]


@given(IDS)
def test_the_files_hold_the_same_map(ids: list[str]) -> None:
    with TemporaryDirectory() as folder:
        IdMap.build(ids).save(Path(folder), "item_id")
        opened = IdMap.open(Path(folder), "item_id")
        assert opened.ids(opened.rows(ids)) == ids


def test_an_id_given_twice_is_refused() -> None:
    with pytest.raises(InvalidInput, match="'b' and 'b'"):
        IdMap.build(["a", "b", "c", "b"])


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    IdMap.build(["a", "b"]).save(tmp_path, "item_id")
    np.save(tmp_path / "item_id.order.npy", np.arange(3, dtype=np.int32))
    with pytest.raises(CorruptArtefact):
        IdMap.open(tmp_path, "item_id")
