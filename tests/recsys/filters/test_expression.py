"""Expressions on items, and the refusal of wrong ones."""

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import InvalidInput
from recsys.filters.expression import MAX_COMPARISONS, MAX_DEPTH, MAX_LENGTH, MAX_VALUES, compile_expression
from recsys.messages.item import Item
from tests.environment.versions import WATERMARK
from tests.recsys.filters.expressions import EXPRESSIONS, ITEMS

DOCUMENTATION = Path(__file__).parents[3] / "docs" / "expressions.md"
TEA = Item(
    item_id="t1",
    updated_at=WATERMARK,
    title="Green tea",
    price=4.5,
    categories=["tea", "drinks"],
    properties={
        "vegan": True,
        "colour": "green",
        "stars": 4.0,
        "released": "2024-05-01",
        "odd name": "yes",
        "sizes": ["S", "M"],
        "or": "it's",
    },
)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("price < 5", True),
        ("price <= 4.5 and price >= 4.5", True),
        ("price > 4.5", False),
        ("price != 4.5", False),
        ("price in [1, 4.5]", True),
        ('categories = "tea"', True),
        ("categories = 'drinks'", True),
        ('categories != "tea"', False),
        ('categories != "cups"', True),
        ('categories in ["cups", "drinks"]', True),
        ('categories not in ["cups", "plates"]', True),
        ("categories in []", False),
        ("vegan", True),
        ("vegan = true", True),
        ("not vegan", False),
        ("vegan = 1", False),
        ("stars = 4", True),
        ("stars = true", False),
        ("stars = '4'", False),
        ("stars < '5'", False),
        ("released >= '2024-01-01' and released < '2025'", True),
        ("sizes > 'R'", True),
        ("sizes > 'T'", False),
        ("available", True),
        ("available = false", False),
        ("item_id in ['t1', 't2']", True),
        ("`odd name` = 'yes'", True),
        ("`or` = 'it\\'s'", True),
        ("colour", False),
        # A missing property compares with nothing, so only a negation holds.
        ("brand = 'x'", False),
        ("brand < 'x'", False),
        ("brand", False),
        ("brand != 'x'", True),
        ("brand not in ['x']", True),
        ("not brand", True),
        # `and` binds tighter than `or`, `not` tightest.
        ("vegan or vegan and price > 100", True),
        ("(vegan or vegan) and price > 100", False),
        ("not vegan or colour = 'green'", True),
        ("not (vegan or colour = 'green')", False),
        ("VEGAN or Not vegan OR vegan", True),
    ],
)
def test_an_expression_says_what_it_reads_like(text: str, holds: bool) -> None:
    assert compile_expression(text).matches(TEA) is holds


def test_of_an_item_nobody_described_only_its_availability_is_known() -> None:
    assert compile_expression("available").matches(None)
    assert compile_expression("item_id != 'x'").matches(None)
    assert not compile_expression("item_id = 'x' or price >= 0 or vegan").matches(None)


def test_an_unavailable_item_is_not_available() -> None:
    hidden = Item(item_id="h", updated_at=WATERMARK, available=False, properties={"available": True})
    assert not compile_expression("available").matches(hidden)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "at column 1: expected (, a name, not, found the end"),
        ("price <", 'at column 8: expected a "text", a number, found the end'),
        ("price == 3", "at column 8: expected a \"text\", a number, true or false, found '='"),
        ("vegan and or", "at column 11: expected (, a name, not, found 'or'"),
        ("colour 'red'", "at column 8: expected <, <=, > or >=, = or !=, and, in, not, or, the end, found \"'red'\""),
        ("(price < 3", "at column 11: expected ), found the end"),
        ("price < 3)", "at column 10: expected the end, found ')'"),
        ("x > true", "at column 5: expected a \"text\", a number, found 'true'"),
        ("x = [1]", "at column 5: expected a \"text\", a number, true or false, found '['"),
        ("x in 3", "at column 6: expected a [list], found '3'"),
        ("x = 'red", "at column 5: a text without its closing quote"),
        ("x & y", "at column 3: an odd character '&'"),
        ("price < 'a'", "price is a number, so it cannot be compared with 'a'"),
        ("price = true", "price is a number, so it cannot be compared with True"),
        ("title in ['a', 3]", "title is text, so it cannot be compared with 3.0"),
        ("available = 'yes'", "available is true or false, so it cannot be compared with 'yes'"),
        ("item_id > 'a'", "item_id has no order, so > does not apply to it"),
        ("x < 1e999", "x: a number is too large"),
    ],
)
def test_a_wrong_expression_is_refused_with_the_place_and_the_reason(text: str, reason: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        compile_expression(text)
    assert (refusal.value.field, refusal.value.reason) == ("filter", reason)


def _nested(depth: int) -> str:
    return "a" if depth == 1 else f"({_nested(depth - 1)} {'and' if depth % 2 else 'or'} b)"


@pytest.mark.parametrize(
    ("fits", "too_much"),
    [
        ("a" * MAX_LENGTH, "a" * (MAX_LENGTH + 1)),
        (_nested(MAX_DEPTH), _nested(MAX_DEPTH + 1)),
        ("not " * (MAX_DEPTH - 1) + "a", "not " * MAX_DEPTH + "a"),
        (" or ".join(["a"] * MAX_COMPARISONS), " or ".join(["a"] * (MAX_COMPARISONS + 1))),
        (f"a in {list(range(MAX_VALUES))}", f"a in {list(range(MAX_VALUES + 1))}"),
        ("(" * 1000 + "a" + ")" * 1000, "(" * 1024 + "a" + ")" * 1024),
    ],
)
def test_an_expression_has_bounds(fits: str, too_much: str) -> None:
    assert compile_expression(fits).text == fits
    with pytest.raises(InvalidInput, match="filter"):
        compile_expression(too_much)


@given(EXPRESSIONS, ITEMS)
def test_not_is_the_opposite_of_everything(text: str, item: Item | None) -> None:
    assert compile_expression(f"not ({text})").matches(item) is not compile_expression(text).matches(item)


@given(EXPRESSIONS, EXPRESSIONS, ITEMS)
def test_neither_is_not_one_or_the_other(one: str, other: str, item: Item | None) -> None:
    neither = compile_expression(f"not ({one}) and not ({other})").matches(item)
    assert neither is compile_expression(f"not ({one} or {other})").matches(item)


WORDS = ["(", ")", "[", "]", ",", "=", "!=", "<", "in", "not", "and", "or", "a", "'b'", "1", "true", "`"]


@given(st.text(max_size=40) | st.lists(st.sampled_from(WORDS)).map(" ".join))
def test_whatever_is_written_is_understood_or_refused(text: str) -> None:
    with suppress(InvalidInput):
        assert compile_expression(text).matches(TEA) in (True, False)


@pytest.mark.parametrize("other", ["price < 5 ", "price<5"])
def test_equal_texts_are_equal_expressions(other: Any) -> None:
    assert compile_expression("price < 5") == compile_expression("price < 5")
    assert hash(compile_expression("price < 5")) == hash(compile_expression("price < 5"))
    assert compile_expression("price < 5") != compile_expression(other)


def test_the_examples_in_the_documentation_are_understood() -> None:
    blocks = re.findall(r"```(?:json)?\n(.+?)\n```", DOCUMENTATION.read_text("utf-8"), re.DOTALL)
    example, request, refusal = blocks
    assert not compile_expression(example).matches(None)
    body = json.loads(request)
    assert compile_expression(body["filter"]).matches(TEA)
    assert not compile_expression(body["boosts"][0]["when"]).matches(TEA)
    with pytest.raises(InvalidInput, match=re.escape(refusal)):
        compile_expression("price <")
