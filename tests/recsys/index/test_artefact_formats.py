"""Versions that other releases wrote are served as they were meant, or refused by name; never served wrong."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from recsys.catalogue.catalogue import Catalogue
from recsys.errors import CorruptArtefact
from recsys.index.index import Index
from recsys.models.manifest import FORMAT_VERSION, Manifest
from recsys.recommender.pipeline import recommend
from recsys.recommender.query import FallbackLevel, Query
from recsys.stores.model_registry.archive import import_version
from recsys.stores.model_registry.memory import MemoryModelRegistry
from tests.environment.versions import ITEMS, USERS

ARTEFACTS = Path(__file__).parents[2] / "data" / "artefacts"


def kept(name: str, folder: Path) -> tuple[Path, Manifest]:
    """An artefact of the repository, through the registry as a replica gets it."""
    registry = MemoryModelRegistry()
    manifest = import_version(registry, ARTEFACTS / f"{name}.tar.zst", folder / "scratch")
    assert manifest == registry.manifest(name)
    return registry.fetch(name, folder / "cache"), manifest


def test_every_format_so_far_is_kept_and_the_newest_is_ours() -> None:
    names = [f"format-{number}" for number in range(1, FORMAT_VERSION + 1)]
    assert sorted(path.name.partition(".")[0] for path in ARTEFACTS.glob("*.tar.zst")) == names


def test_our_format_is_served_as_it_was_meant(tmp_path: Path) -> None:
    catalogue = Catalogue.of(Index.open(*kept(f"format-{FORMAT_VERSION}", tmp_path)))
    assert (len(catalogue), catalogue.index.item_id.ids(np.arange(2))) == (ITEMS, ["i0", "i1"])
    for number in range(USERS):
        answer = recommend(Query(k=5, user_id=f"u{number}"), None, catalogue)
        assert answer.fallback_level is FallbackLevel.SNAPSHOT
        assert {int(row) % 2 for row in answer.rows} == {number % 2}, "everybody gets their own taste"
    assert "i7" not in catalogue.index.item_id.ids(recommend(Query(k=ITEMS), None, catalogue).rows)


@pytest.mark.parametrize("number", range(1, FORMAT_VERSION))
def test_a_format_of_an_earlier_release_is_refused_by_name_with_what_to_do(tmp_path: Path, number: int) -> None:
    refusal = rf"format-{number} has artefact format {number}, this release reads {FORMAT_VERSION}: train anew"
    with pytest.raises(CorruptArtefact, match=refusal):
        kept(f"format-{number}", tmp_path)


def test_a_format_of_a_later_release_is_refused_by_name_though_its_files_look_like_ours(tmp_path: Path) -> None:
    folder, manifest = kept(f"format-{FORMAT_VERSION}", tmp_path)
    later = msgspec.structs.replace(manifest, format_version=FORMAT_VERSION + 1)
    with pytest.raises(CorruptArtefact, match=f"format {FORMAT_VERSION + 1}, this release reads {FORMAT_VERSION}"):
        Index.open(folder, later)


def test_words_that_a_later_release_adds_to_the_manifest_are_no_reason_to_refuse(tmp_path: Path) -> None:
    folder, manifest = kept(f"format-{FORMAT_VERSION}", tmp_path)
    raw = msgspec.json.decode(msgspec.json.encode(manifest))
    more = msgspec.json.decode(msgspec.json.encode({**raw, "signed_by": "ada"}), type=Manifest)
    assert more == manifest
    assert len(Index.open(folder, more)) == ITEMS
