"""The report of a shadow from the counts that many workers add up."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.experiments.shadow import COMPARED, OVERLAP, SECONDS, report, time_counted


def test_nothing_compared_is_nothing_known() -> None:
    found = report({})
    assert (found.compared, found.failed, found.skipped, found.overlap) == (0, 0, 0, None)
    assert (found.seconds.live_p50, found.scores.shadow_mean) == (None, None)


@given(st.lists(st.floats(SECONDS[0], 1.0), min_size=1, max_size=200))
def test_quantiles_are_right_to_a_quarter(times: list[float]) -> None:
    counts = Counter(time_counted("live", one) for one in times) + Counter({COMPARED: len(times)})
    median = report(counts).seconds.live_p50
    exact = sorted(times)[(len(times) - 1) // 2]
    assert median is not None
    assert exact <= median * (1 + 1e-9)
    assert median <= 1.2501 * exact


def test_overlap_and_scores_are_means() -> None:
    counts = {COMPARED: 4, OVERLAP: 3_000_000, "live:scores": 2_000_000, "live:scores:n": 8, "failed": 1}
    found = report(counts)
    assert found.overlap == pytest.approx(0.75)
    assert found.scores.live_mean == pytest.approx(0.25)
    assert found.failed == 1
    assert found.scores.shadow_mean is None
