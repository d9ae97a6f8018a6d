"""Trending: what is wanted more than usual within the window, by counts alone."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.catalogue.catalogue import Catalogue
from recsys.index.index import Index
from recsys.messages.item import Item
from recsys.recommender.trends import MIN_EVIDENCE, TREND_HOURS, Trends, above_usual, usual_share
from recsys.stores.model_registry.memory import MemoryModelRegistry
from tests.environment.versions import ITEMS, WATERMARK, publish_small_version

NOW = 500_000
COUNTS = st.dictionaries(
    st.integers(NOW - TREND_HOURS + 1, NOW + 1),
    st.dictionaries(st.sampled_from([f"i{n}" for n in range(8)] + ["unheard of"]), st.integers(1, 100_000)),
    max_size=6,
)


@pytest.fixture(scope="module")
def catalogue() -> Iterator[Catalogue]:
    """The small version: `i0` is the most popular, `i39` the least; nothing trended at its watermark."""
    with TemporaryDirectory() as folder:
        registry = MemoryModelRegistry()
        manifest = publish_small_version(registry, Path(folder), "v1")
        yield Catalogue.of(Index.open(registry.fetch("v1", Path(folder) / "cache"), manifest))


def leading(catalogue: Catalogue, hours: float = 24, **counts: Mapping[str, int] | int) -> list[str]:
    """Ids of what trends; `counts` by hours ago, such as `ago_3={"i1": 4000}`."""
    by_hour = {NOW - int(name.removeprefix("ago_")): weights for name, weights in counts.items()}
    found = Trends().updated(NOW, by_hour).ranked(catalogue, hours)  # type: ignore[arg-type]
    return catalogue.ids(found.rows)


def test_what_is_wanted_above_its_share_leads(catalogue: Catalogue) -> None:
    usual = {f"i{n}": 1000 * (ITEMS - n) for n in range(ITEMS)}
    assert leading(catalogue, ago_100=usual, ago_0={"i0": 40_000, "i30": 40_000})[0] == "i30"
    assert "i0" not in leading(catalogue, ago_100=usual, ago_0=usual)


def test_without_a_week_of_counts_popularity_says_what_is_usual(catalogue: Catalogue) -> None:
    assert leading(catalogue, ago_0={"i0": 30_000, "i39": 30_000, "i20": 29_000})[:2] == ["i39", "i20"]


def test_the_same_counts_trend_no_more_once_they_are_usual(catalogue: Catalogue) -> None:
    news = {"i30": 40_000, "i31": 40_000}
    assert set(leading(catalogue, ago_0=news)) == {"i30", "i31"}
    trends = Trends().updated(NOW, {NOW - hour: news for hour in range(TREND_HOURS)})
    scores = trends.ranked(catalogue, 3).scores
    assert scores.max(initial=0.0) < Trends().updated(NOW, {NOW: news}).ranked(catalogue, 3).scores.max()


@pytest.mark.parametrize(("hours", "expected"), [(1, ["i5"]), (3, ["i5", "i6"]), (2.5, ["i5", "i6"]), (2, ["i5"])])
def test_only_what_happened_within_the_window_is_recent(
    catalogue: Catalogue, hours: float, expected: list[str]
) -> None:
    found = leading(catalogue, hours, ago_0={"i5": 9000}, ago_3={"i6": 8000})
    assert found == expected


def test_what_is_a_little_ahead_of_the_clock_counts(catalogue: Catalogue) -> None:
    trends = Trends().updated(NOW, {NOW + 1: {"i9": 5000}})
    assert catalogue.ids(trends.ranked(catalogue, 1).rows) == ["i9"]


def test_too_little_evidence_is_left_out(catalogue: Catalogue) -> None:
    weight = int(1000 * MIN_EVIDENCE)
    assert leading(catalogue, ago_0={"i9": weight, "i10": weight - 1}) == ["i9"]


def test_without_counts_the_versions_own_trends_show(catalogue: Catalogue) -> None:
    index = catalogue.index
    for trends in (Trends(), Trends().updated(NOW, {NOW - 100: {"i1": 90_000}}), Trends().updated(NOW, {NOW: {}})):
        found = trends.ranked(catalogue, 24)
        np.testing.assert_array_equal(found.rows, index.trending_rows)
        np.testing.assert_array_equal(found.scores, index.trending[index.trending_rows])


def test_an_item_newer_than_the_version_trends_once_the_catalogue_knows_it(catalogue: Catalogue) -> None:
    trends = Trends().updated(NOW, {NOW: {"brand new": 50_000, "i30": 9_000, "unheard of": 70_000}})
    assert catalogue.ids(trends.ranked(catalogue, 24).rows) == ["i30"]
    grown = catalogue.updated([Item(item_id="brand new", updated_at=WATERMARK)])
    assert trends.ranked(grown, 24).rows.tolist() == [len(catalogue.index), 30]
    assert catalogue.ids(trends.ranked(catalogue, 24).rows) == ["i30"]


def test_the_same_question_is_answered_once(catalogue: Catalogue) -> None:
    trends = Trends().updated(NOW, {NOW: {"i5": 9000}})
    assert trends.ranked(catalogue, 24) is trends.ranked(catalogue, 23.5)
    later = trends.updated(NOW + 1, {})
    later.warm(catalogue, previous=trends)
    assert later._ranked.keys() == trends._ranked.keys()


@given(COUNTS, st.sampled_from([1.0, 5.0, 24.0, 168.0]))
def test_a_ranking_is_best_first_distinct_and_above_nothing(
    catalogue: Catalogue, counts: dict[int, dict[str, int]], hours: float
) -> None:
    found = Trends().updated(NOW, counts).ranked(catalogue, hours)
    assert len(set(found.rows.tolist())) == len(found.rows)
    assert ((found.rows >= 0) & (found.rows < len(catalogue))).all()
    assert (np.diff(found.scores) <= 0).all()
    assert (found.scores > 0).all()


@given(COUNTS, st.data())
def test_hours_may_come_one_by_one_in_any_order_and_again(
    catalogue: Catalogue, counts: dict[int, dict[str, int]], data: st.DataObject
) -> None:
    trends = Trends().updated(NOW - 1, {hour: {"i39": 1} for hour in counts})
    for hour in data.draw(st.permutations(list(counts))):
        trends = trends.updated(NOW, {hour: counts[hour]})
    once = Trends().updated(NOW, counts).ranked(catalogue, 24)
    stepwise = trends.updated(NOW, {}).ranked(catalogue, 24)
    assert dict(zip(stepwise.rows.tolist(), stepwise.scores.tolist(), strict=True)) == pytest.approx(
        dict(zip(once.rows.tolist(), once.scores.tolist(), strict=True)), rel=1e-5
    )


def test_hours_beyond_the_week_are_forgotten() -> None:
    trends = Trends()
    for hour in range(NOW, NOW + 400):
        trends = trends.updated(hour, {hour: {"i1": 1}})
    assert len(trends.hours) == TREND_HOURS


def test_known_scores() -> None:
    share = usual_share(np.array([30.0, 0.0]), 90.0, np.array([0.5, 0.0]), trust=10.0)
    np.testing.assert_allclose(share, [0.35, 0.0])
    scores = above_usual(np.array([10.0, 3.0, 1.0]), np.array([8.0, 0.0, 3.0]))
    np.testing.assert_allclose(scores, [2.0 / 3.0, 3.0, 0.0])
