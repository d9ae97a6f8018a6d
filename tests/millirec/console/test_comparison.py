"""Two answers beside each other."""

import pytest

from millirec.console.widgets.answer_list import marks, overlap


def test_every_item_says_where_the_other_list_has_it() -> None:
    here, there = ["a", "b", "c", "d"], ["a", "c", "b", "e"]
    assert [mark.words for mark in marks(here, there)] == ["same place", "1 higher", "1 lower", "only here"]
    assert [mark.words for mark in marks(there, here)] == ["same place", "1 higher", "1 lower", "only here"]


@pytest.mark.parametrize(
    ("one", "other", "share"), [("abcd", "dcba", 1.0), ("abcd", "ab", 0.5), ("", "a", 0.0), ("", "", 1.0)]
)
def test_overlap_is_the_share_that_both_have(one: str, other: str, share: float) -> None:
    assert overlap(list(one), list(other)) == share
