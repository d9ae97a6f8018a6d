"""The gate says every reason for a no, and how sure it is."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.evaluation.bootstrap import Values, mean_interval
from training.evaluation.evaluate import Evaluation, empty_evaluation
from training.gate import Artefact, Evidence, judge, reasons
from training.monitoring.data_shift import DataShift, data_shift, jensen_shannon
from training.settings import Bound, GateSettings

USERS = 100
DEFAULT = GateSettings()
BEGIN = datetime(2011, 1, 1, tzinfo=UTC)


def judged(
    recall: float | Values, coverage: float = 0.5, lift: float = 0.0, segments: Mapping[str, Values] | None = None
) -> Evaluation:
    recalls = np.full(USERS, recall) if isinstance(recall, float) else recall
    metrics = {"recall@20": float(recalls.mean()), "coverage@20": coverage, "popularity_lift@20": lift}
    return Evaluation("x", metrics, recalls, dict(segments or {}), np.zeros(1, dtype=np.int64))


def refused(evidence: Evidence, gate: GateSettings = DEFAULT) -> list[str]:
    return sorted(check.setting.removeprefix("gate.") for check in judge(gate, evidence) if not check.passed)


def test_a_good_version_passes() -> None:
    assert refused(Evidence(judged(0.24), judged(0.09), live=judged(0.25))) == []
    assert refused(Evidence(judged(0.24), judged(0.09), leads={"": 2.8})) == []


def test_the_gate_lists_every_reason() -> None:
    gate = GateSettings(min_recall=0.3, min_ratio_to_popularity=3.0, min_coverage=0.6, max_popularity_lift=1.0)
    segment = {"new users": np.full(USERS, 0.1)}
    evidence = Evidence(
        judged(0.2, lift=2.0, segments=segment),
        judged(0.1),
        live=judged(0.25, coverage=1.5, segments={"new users": np.full(USERS, 0.2)}),
        artefact=Artefact(recall=0.9, megabytes=30_000.0, live_megabytes=1.0),
        shift=DataShift(volume=0.5, new_events=5000, unknown=0.5, types=0.5, items=0.9),
    )
    every = [
        *("max_coverage_drop", "max_drop_to_live", "max_growth", "max_item_shift", "max_megabytes"),
        *("max_popularity_lift", "max_segment_drop", "max_shrink", "max_type_shift", "max_unknown"),
        *("min_coverage", "min_index_recall", "min_ratio_to_popularity", "min_recall"),
    ]
    assert refused(evidence, gate) == every
    told = reasons(judge(gate, evidence))
    assert len(told) == len(every)
    assert all(f"(gate.{name})" in " ".join(told) for name in every)


@pytest.mark.parametrize(("recall", "missing"), [(0.225, []), (0.224, ["max_drop_to_live"])])
def test_a_tenth_of_the_live_versions_recall_may_be_lost(recall: float, missing: list[str]) -> None:
    assert refused(Evidence(judged(recall), judged(0.09), live=judged(0.25))) == missing


@pytest.mark.parametrize(("recall", "missing"), [(0.211, []), (0.209, ["max_lead_lost"])])
def test_three_tenths_of_the_live_versions_lead_may_be_lost(recall: float, missing: list[str]) -> None:
    assert refused(Evidence(judged(recall), judged(0.1), leads={"": 3.0})) == missing


def test_what_cannot_be_proved_is_refused_unless_the_doubt_counts_for_the_candidate() -> None:
    rng = np.random.default_rng(3)
    doubtful = Evidence(judged(rng.random(USERS)), judged(0.01), live=judged(rng.random(USERS)))
    assert refused(doubtful) == ["max_drop_to_live"]
    assert refused(doubtful, GateSettings(decides=Bound.UPPER)) == []


def test_pairs_of_one_user_tell_more_than_two_crowds_do() -> None:
    mine = np.random.default_rng(3).random(USERS)
    paired = judge(GateSettings(), Evidence(judged(mine), judged(0.01), live=judged(mine * 0.95)))
    interval = next(check.interval for check in paired if check.setting == "gate.max_drop_to_live")
    assert interval is not None
    assert interval.high - interval.low < 0.05 < 4 * mine.std() / USERS**0.5


def test_a_segment_is_refused_only_when_it_is_surely_worse_and_large_enough() -> None:
    def evidence(users: int, recall: float) -> Evidence:
        inside = np.where(np.arange(USERS) < users, 1.0, np.nan)
        mine, live = ({"heavy users": inside * value} for value in (recall, 0.4))
        return Evidence(judged(0.3, segments=mine), judged(0.1), live=judged(0.3, segments=live))

    assert refused(evidence(50, 0.2)) == ["max_segment_drop"]
    assert refused(evidence(19, 0.2)) == []
    assert refused(evidence(50, 0.35)) == []


def test_segments_keep_their_lead_too_where_live_has_seen_the_answers() -> None:
    popular = judged(0.1, segments={"new users": np.full(USERS, 0.1)})
    forgot = judged(0.3, segments={"new users": np.full(USERS, 0.1)})
    assert refused(Evidence(forgot, popular, leads={"": 3.0, "new users": 3.0})) == ["max_segment_lead_lost"]


def test_too_few_users_say_nothing_and_the_artefact_is_looked_at_all_the_same() -> None:
    few = judged(np.full(19, 0.9))
    assert refused(Evidence(few, judged(0.1))) == ["min_users"]
    nobody = Evidence(empty_evaluation("x"), empty_evaluation("y"), artefact=Artefact(0.5, 1.0))
    assert refused(nobody) == ["min_index_recall", "min_users"]


def test_popularity_that_hits_nothing_is_no_division_by_zero() -> None:
    assert refused(Evidence(judged(0.1), judged(0.0), leads={"": 2.0})) == []


def test_an_interval_holds_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    held = 0
    for seed in range(200):
        one = mean_interval(rng.exponential(size=60), confidence=0.9, samples=400, seed=seed)
        held += one.low <= 1.0 <= one.high
    assert 165 <= held <= 195, "90 % of 200, less what a skewed sample of 60 costs"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_an_interval_is_the_same_again_and_lies_among_the_values(values: list[float]) -> None:
    array = np.array(values)
    one, again = (mean_interval(array, confidence=0.95, samples=200, seed=5) for _ in range(2))
    assert one == again
    assert array.min() - 1e-9 <= one.low <= one.high <= array.max() + 1e-9


def test_drawing_in_pieces_keeps_to_the_number_of_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.evaluation.bootstrap.CELLS", 1000)
    one = mean_interval(np.arange(100.0), confidence=0.95, samples=333, seed=1)
    assert one.low < one.estimate == 49.5 < one.high


HISTOGRAMS = st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=20)


@given(HISTOGRAMS.filter(lambda bins: any(a for a, _ in bins) and any(b for _, b in bins)))
def test_the_divergence_is_symmetric_and_between_nothing_and_one(bins: list[tuple[int, int]]) -> None:
    one, other = (np.array(column, dtype=np.float64) for column in zip(*bins, strict=True))
    assert jensen_shannon(one, other) == pytest.approx(jensen_shannon(other, one))
    assert -1e-9 <= jensen_shannon(one, other) <= 1 + 1e-9
    assert jensen_shannon(one, 3 * one) == pytest.approx(0.0, abs=1e-9)


def events(items: list[str], kind: str, after: int) -> pl.DataFrame:
    at = [BEGIN + timedelta(hours=after + n) for n in range(len(items))]
    return pl.DataFrame({"item_id": items, "type": kind, "occurred_at": at})


def test_the_shift_tells_new_events_from_old_ones() -> None:
    old = events(["tea", "cup"] * 10, "purchase", 0)
    new = events(["tea", "cup", "lamp", "gnome"], "view", 100)
    shift = data_shift(pl.concat([old, new]), BEGIN + timedelta(hours=50), {"lamp": None}, previous_count=48)
    assert (shift.volume, shift.new_events, shift.unknown) == (0.5, 4, 0.25)
    assert shift.types == pytest.approx(1.0)
    assert 0.2 < shift.items < 0.5


def test_without_new_events_nothing_has_shifted() -> None:
    old = events(["tea"] * 3, "purchase", 0)
    assert data_shift(old, BEGIN + timedelta(days=9), {}) == DataShift(None, 0)
