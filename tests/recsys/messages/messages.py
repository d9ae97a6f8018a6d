"""Messages of every kind, as hypothesis draws them."""

from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from recsys.messages.interaction import Erasure, Interaction, Merge
from recsys.messages.item import Item
from recsys.messages.wire import Message

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
IDS = st.text(
    st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\u2028\u2029"), min_size=1, max_size=128
)
TIMES = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # made aware
PRICES = st.none() | st.floats(0, 1e12)
SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e15, 1e15) | TEXT
EXTRAS: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    TEXT, st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))
)

INTERACTIONS = st.builds(
    Interaction,
    event_id=IDS,
    user_id=IDS,
    item_id=IDS,
    type=st.from_regex(r"[a-z][a-z0-9_]{0,31}", fullmatch=True),
    occurred_at=TIMES,
    quantity=st.floats(0, 1e9, exclude_min=True),
    price=PRICES,
    session_id=st.none() | IDS,
    recommendation_id=st.none() | IDS,
    extra=st.none() | EXTRAS,
)
ITEMS = st.builds(
    Item,
    item_id=IDS,
    updated_at=TIMES,
    title=st.none() | TEXT,
    price=PRICES,
    categories=st.none() | st.lists(TEXT, max_size=3),
    available=st.none() | st.booleans(),
    properties=st.none()
    | st.dictionaries(
        TEXT.filter(bool), TEXT | st.floats(-1e15, 1e15) | st.booleans() | st.lists(TEXT, max_size=3), max_size=5
    ),
)
ERASURES = st.builds(Erasure, event_id=IDS, user_id=IDS, occurred_at=TIMES)
MERGES = st.builds(Merge, event_id=IDS, user_id=IDS, into=IDS, occurred_at=TIMES)
MESSAGES: st.SearchStrategy[Message] = st.one_of(INTERACTIONS, ITEMS, ERASURES, MERGES)
