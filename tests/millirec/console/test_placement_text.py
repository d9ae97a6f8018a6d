"""A placement as text: what is laid out reads back as the same, and what is wrong is named by line and field."""

import msgspec
import pytest

from millirec.console.panels.placement_text import Misfit, check, text_of
from recsys.recommender.placement import READY_MADE, Boost, Placement

FULL = Placement(
    boosts=(Boost("price > 3", 1.5, {"device": "desktop"}), Boost('categories = "tea"', 0.5)),
    exclude_seen={"purchase": 30.0, "*": 1.0},
    properties=("title", "price"),
)


@pytest.mark.parametrize("placement", [*READY_MADE.values(), FULL])
def test_what_is_laid_out_is_the_same_placement_and_stays_as_it_is(placement: Placement) -> None:
    text = text_of(placement)
    assert check(text) == (text, placement)
    assert check(msgspec.json.encode(placement).decode()) == (text, placement)


@pytest.mark.parametrize(
    ("text", "misfit"),
    [
        ('{"k": 0}', Misfit(2, "k", "Expected `int` >= 1")),
        ('{"k": 3, "sources": [{"source": "stars"}]}', Misfit(3, "sources.0.source", "Invalid enum value 'stars'")),
        ('{"colour": 1}', Misfit(2, "colour", "Object contains unknown field `colour`")),
        ("[]", Misfit(1, "placement", "Expected `object`, got `array`")),
        ('{"k": 3,\n"sources": }', Misfit(2, "", "Expecting value")),
        ("", Misfit(1, "", "Expecting value")),
        ('{"a":' * 100_000, Misfit(1, "", "is nested too deeply")),
    ],
)
def test_what_is_wrong_is_named_by_line_and_field(text: str, misfit: Misfit) -> None:
    assert check(text)[1] == misfit


@pytest.mark.parametrize(
    ("text", "line", "field"),
    [
        ('{"k": 3, "filter": "price <"}', 3, "filter"),
        ('{"boosts": [{"when": "price <", "factor": 2}]}', 2, "boosts.0.when"),
    ],
)
def test_a_filter_that_is_none_is_named_by_its_own_field(text: str, line: int, field: str) -> None:
    found = check(text)[1]
    assert isinstance(found, Misfit)
    assert (found.line, found.field) == (line, field)


def test_the_line_that_is_named_holds_the_field() -> None:
    text = msgspec.json.encode(FULL).decode().replace("0.5", "500")
    laid_out, found = check(text)
    assert isinstance(found, Misfit)
    assert found.field == "boosts.1.factor"
    assert '"factor": 500' in laid_out.splitlines()[found.line - 1]
