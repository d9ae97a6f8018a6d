"""Each held-out user is asked about as the service would ask."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pytest

from recsys.catalogue.catalogue import Catalogue
from recsys.index.index import Index
from recsys.stores.model_registry.memory import MemoryModelRegistry
from recsys.users import HistoryEntry
from tests.environment.versions import ITEMS, publish_small_version
from tests.training.conftest import DAYS, START, checkerboard
from training.evaluation.evaluate import (
    HeldOutUser,
    evaluate_model,
    evaluate_own_history,
    evaluate_popularity,
    held_out_users,
    popularity_lift,
)
from training.evaluation.splits import split_by_time
from training.settings import SegmentSettings

TEA = HistoryEntry(1, 1, "i4", "purchase")


def silent(*_: object) -> None:
    return


@pytest.fixture(scope="module")
def catalogue() -> Iterator[Catalogue]:
    """Items `i0`..`i39`, even ones tea; the lower the number the more popular; `i7` is unavailable."""
    with TemporaryDirectory() as folder:
        manifest = publish_small_version(MemoryModelRegistry(), Path(folder), "small")
        yield Catalogue.of(Index.open(Path(folder) / "small", manifest))


def user(*wanted: str, past: int = 5) -> HeldOutUser:
    return HeldOutUser("someone", (TEA,), past, frozenset(wanted))


def test_popularity_has_a_known_answer(catalogue: Catalogue) -> None:
    users = [user("i0", "i1"), user("i39"), user("i0", "never sold before")]
    judged = evaluate_popularity("popularity", catalogue, users, exclude_seen=False, progress=silent)
    assert judged.recall.tolist() == [1.0, 0.0, 0.5], "what the index does not know counts as missed"
    assert judged.metrics["recall@20"] == pytest.approx(0.5)
    assert judged.metrics["hit@5"] == pytest.approx(2 / 3)
    assert judged.metrics["coverage@20"] == pytest.approx(20 / ITEMS)
    assert np.flatnonzero(judged.list_counts).tolist() == [row for row in range(21) if row != 7]


def test_novelty_counts_in_bits_how_few_users_know_what_is_shown(catalogue: Catalogue) -> None:
    users = [HeldOutUser(f"u{n}", (TEA,) if n < 2 else (), 1, frozenset({"i0"})) for n in range(8)]
    judged = evaluate_popularity("popularity", catalogue, users, exclude_seen=False, progress=silent)
    known_by_two, known_by_nobody = 2.0, 3.0
    assert judged.metrics["novelty@20"] == pytest.approx((known_by_two + 19 * known_by_nobody) / 20)


def test_a_model_is_asked_with_the_history_folded_in(catalogue: Catalogue) -> None:
    tea = [f"i{n}" for n in range(0, ITEMS, 2)]
    judged = evaluate_model("candidate", catalogue, [user(*tea)], exclude_seen=False, progress=silent)
    assert judged.metrics["recall@20"] > 0.8
    assert judged.list_counts[4] == 1
    without = evaluate_model("candidate", catalogue, [user(*tea)], exclude_seen=True, progress=silent)
    assert without.list_counts[4] == 0


def test_own_history_shows_what_a_user_did_most_and_last_then_what_is_popular(catalogue: Catalogue) -> None:
    history = tuple(HistoryEntry(n, n, item, "purchase") for n, item in enumerate(["i30", "i31", "i30", "i39"]))
    wanted = [HeldOutUser("u", history, 4, frozenset({item})) for item in ("i30", "i31", "i39", "i0", "i29")]
    judged = evaluate_own_history("own history", catalogue, wanted, progress=silent)
    assert judged.recall.tolist() == [1.0, 1.0, 1.0, 1.0, 0.0]
    places = [1, 2, 3, 4]  # of two items bought once, the more popular comes first
    assert judged.metrics["ndcg@5"] == pytest.approx(sum(1 / np.log2(place + 1) for place in places) / len(wanted))


def test_recall_is_told_by_who_asks_and_by_what_is_wanted(catalogue: Catalogue) -> None:
    users = [
        HeldOutUser("new", (), 1, frozenset({"i0", "i39"}), "new users", frozenset({"i0"})),
        HeldOutUser("heavy", (), 99, frozenset({"i38", "i0"}), "heavy users", frozenset({"i38", "i0"})),
    ]
    found = evaluate_popularity("popularity", catalogue, users, exclude_seen=False, progress=silent).segments
    nan = np.nan
    expected = {
        "new users": [0.5, nan],
        "light users": [nan, nan],
        "heavy users": [nan, 0.5],
        "head items": [1.0, 0.5],
        "tail items": [0.0, nan],
    }
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


def test_users_are_told_apart_by_how_much_they_did_and_items_by_who_wanted_them() -> None:
    rows = checkerboard()
    often = rows.filter(pl.col("user_id").is_in([f"u{n}" for n in range(5)])).with_columns(item_id=pl.lit("i0"))
    few = rows.filter(pl.col("user_id") != "u39", pl.col("user_id") != "u38")
    late = rows.filter(pl.col("user_id") == "u39").tail(25)
    split = split_by_time(pl.concat([few, late, often]).sort("occurred_at"), holdout_days=20)
    segments = SegmentSettings(new_up_to=10, light_up_to=100, head=0.02)
    users = held_out_users(split, 10, exclude_seen=False, segments=segments)
    kinds = {one.user_id: one.segment for one in users}
    assert kinds["u39"] == "new users"
    assert {kinds[f"u{n}"] for n in range(5)} == {"heavy users"}
    assert {kinds[f"u{n}"] for n in range(5, 38)} == {"light users"}
    assert {item for one in users for item in one.head} == {"i0"}, "one of forty items"


def test_popularity_lift_is_how_much_more_popular_lists_are_than_histories() -> None:
    known_by, list_counts = np.array([8.0, 2.0, 0.0]), np.array([10, 0, 0])
    had = (8 * 8 + 2 * 2) / 10
    assert popularity_lift(known_by, list_counts) == pytest.approx(8 / had - 1)
    assert popularity_lift(known_by, np.array([8, 2, 0])) == pytest.approx(0.0)
    assert popularity_lift(np.zeros(3), list_counts) == 0.0


def test_progress_reaches_the_number_of_users(catalogue: Catalogue) -> None:
    told: list[tuple[str, int, int]] = []
    users = [user("i0")] * 600
    evaluate_popularity("x", catalogue, users, exclude_seen=False, progress=lambda *step: told.append(step))
    assert told[-1] == ("evaluating x", 600, 600)
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)


def test_only_users_with_a_past_are_asked_about_and_only_what_came_later() -> None:
    rows = checkerboard()
    newcomer = rows.tail(1).with_columns(user_id=pl.lit("newcomer"), event_id=pl.lit("new"))
    split = split_by_time(pl.concat([rows, newcomer]), holdout_days=5)
    users = held_out_users(split, 3, exclude_seen=False)
    assert sorted(one.user_id for one in users) == sorted({f"u{n}" for n in range(40)})
    for one in users:
        mine = rows.filter(pl.col("user_id") == one.user_id)
        later = mine.filter(pl.col("occurred_at") >= split.cutoff)["item_id"]
        assert one.targets == set(later)
        assert len(one.history) == 3
        assert one.past_interactions == mine.height - len(later)
        assert max(entry.at_ms for entry in one.history) < split.cutoff.timestamp() * 1000


def test_what_a_list_leaves_out_by_itself_is_not_asked_for() -> None:
    split = split_by_time(checkerboard(), holdout_days=20)
    for one in held_out_users(split, 10, exclude_seen=True):
        assert not one.targets & {entry.item_id for entry in one.history}


def test_only_the_named_types_count_as_wanted() -> None:
    rows = checkerboard().with_columns(pl.Series("type", ["purchase", "view", "view", "view"] * 1000))
    split = split_by_time(rows, holdout_days=5)
    buyers = held_out_users(split, 10, exclude_seen=False, wanted_types={"purchase"})
    assert {int(one.user_id[1:]) % 4 for one in buyers} == {0}
    assert len(held_out_users(split, 10, exclude_seen=False)) == 40


def test_a_holdout_longer_than_the_log_still_leaves_a_past() -> None:
    split = split_by_time(checkerboard(), holdout_days=10_000)
    assert split.cutoff - START > timedelta(days=DAYS * 0.75)
