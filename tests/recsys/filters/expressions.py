"""Strategies for items and for expressions over them that often hold."""

import msgspec
from hypothesis import strategies as st

from recsys.messages.item import Item
from tests.environment.versions import WATERMARK

TEXTS = st.sampled_from(["", "tea", "garden", "täglich", "it's", 'a "b"', "back\\slash", "\U0001f375", "2024-05-01"])
NUMBERS = st.sampled_from([-1.5, 0.0, 1.0, 2.0, 10.0, 1e11])
NAMES = ["colour", "größe", "odd name", "in", "tick`s"]
FLAGS = st.booleans()
VALUES = TEXTS | NUMBERS | FLAGS | st.lists(TEXTS, max_size=3)

ITEMS = st.none() | st.builds(
    Item,
    item_id=st.just("replaced"),
    updated_at=st.just(WATERMARK),
    title=st.none() | TEXTS,
    price=st.none() | NUMBERS.map(abs),
    categories=st.none() | st.lists(TEXTS, max_size=3),
    available=st.none() | FLAGS,
    properties=st.none() | st.dictionaries(st.sampled_from([*NAMES, "price", "available"]), VALUES, max_size=4),
)
CATALOGUES = st.lists(ITEMS, min_size=1, max_size=12).map(
    lambda items: [item and msgspec.structs.replace(item, item_id=f"i{n}") for n, item in enumerate(items)]
)


def quoted(text: str, mark: str = '"') -> str:
    return mark + text.replace("\\", "\\\\").replace(mark, "\\" + mark) + mark


TEXT = TEXTS.map(quoted)
NUMBER = NUMBERS.map(repr)
FLAG = FLAGS.map(lambda flag: "true" if flag else "false")
ANY = TEXT | NUMBER | FLAG
ORDER = st.sampled_from(["<", "<=", ">", ">="])
SAME = st.sampled_from(["=", "!="])
WITHIN = st.sampled_from(["in", "not in", "NOT  in"])


def lists(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(values, max_size=3).map(lambda some: f"[{', '.join(some)}]")


def _compared(name: str, value: st.SearchStrategy[str], ordered: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return (
        st.builds("{0} {1} {2}".format, st.just(name), SAME, value)
        | st.builds("{0}{1}{2}".format, st.just(name), ORDER, ordered)
        | st.builds("{0} {1} {2}".format, st.just(name), WITHIN, lists(value))
    )


_IDS = st.sampled_from([f'"i{n}"' for n in range(14)])
COMPARISONS = st.one_of(
    _compared("price", NUMBER, NUMBER),
    _compared("title", TEXT, TEXT),
    _compared("categories", TEXT, TEXT),
    st.builds("item_id {0} {1}".format, WITHIN, lists(_IDS)),
    st.sampled_from(["available", "available = false", "available not in [true, false]", "colour"]),
    *(_compared(quoted(name, "`"), ANY, TEXT | NUMBER) for name in NAMES),
)
EXPRESSIONS = st.recursive(
    COMPARISONS,
    lambda inner: (
        st.builds("({0} {1} {2})".format, inner, st.sampled_from(["and", "or", "AND"]), inner)
        | st.builds("not {0}".format, inner)
    ),
    max_leaves=6,
)
