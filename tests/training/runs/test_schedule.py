"""When to train again: by the clock, by what has come in, by how it has changed."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import InvalidInput
from recsys.stores.event_log import INTERACTION_SCHEMA, InteractionLog
from recsys.stores.event_log.memory import MemoryInteractionLog
from recsys.stores.model_registry.memory import MemoryModelRegistry
from tests.training.conftest import checkerboard, log_of
from training.monitoring.data_shift import DataShift
from training.runs.context import RunRequest
from training.runs.metric_drop import MetricWatch, measure_baseline
from training.runs.run import run
from training.runs.triggers import Schedule, Triggers, due, since
from training.settings import TrainSettings

MONDAY = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("cron", "hours"),
    [("0 3 * * *", 15), ("*/30 * * * *", 0.5), ("0 12 * * *", 24), ("0 0 * * SUN", 6 * 24 - 12)],
)
def test_a_cron_expression_says_when(cron: str, hours: float) -> None:
    assert Schedule(cron).next(MONDAY) == MONDAY + timedelta(hours=hours)


def test_of_a_schedule_and_an_interval_the_earlier_counts_and_without_either_there_is_no_time() -> None:
    assert Schedule("0 3 * * *", timedelta(hours=2)).next(MONDAY) == MONDAY + timedelta(hours=2)
    assert Schedule("0 3 * * *", timedelta(hours=20)).next(MONDAY) == MONDAY + timedelta(hours=15)
    assert Schedule().next(MONDAY) is None


@pytest.mark.parametrize("cron", ["", "daily", "61 * * * *", "0 3 * *", "0 0 31 2 *"])
def test_what_is_no_schedule_is_refused_at_once(cron: str) -> None:
    with pytest.raises(InvalidInput, match="schedule"):
        Schedule(cron).check(MONDAY)


@given(st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_the_next_run_is_always_ahead(now: datetime) -> None:
    following = Schedule("15 3,17 * * 1-5").next(now)
    assert following is not None
    assert now < following <= now + timedelta(days=4)


def test_every_reason_to_train_is_told() -> None:
    seen = DataShift(None, 5000, types=0.5, items=0.4)
    assert [one.partition(" (")[0] for one in due(Triggers(5000, 0.3), seen)] == [
        "5000 new events",
        "items have shifted by 0.400",
        "types have shifted by 0.500",
    ]
    assert due(Triggers(5001, 0.6), seen) == []
    assert due(Triggers(shift=0.3), DataShift(None, 1999, types=1.0)) == [], "so few events shift by chance"
    assert not Triggers()


def test_new_is_what_the_live_version_has_not_learned_from(small: TrainSettings) -> None:
    rows = checkerboard()
    log = log_of(rows.head(3200))
    assert isinstance(log, MemoryInteractionLog)
    live = run(small, log, MemoryModelRegistry(), RunRequest(actor="test", reason="test")).manifest
    assert since(log, live, shares=False).new_events == 0
    late = rows.tail(800).with_columns(type=pl.lit("view"))
    log.append(late, {"test-0": 3999})
    assert since(log, live, shares=False).new_events == 800
    shifted = since(log, live, shares=True)
    assert shifted.new_events == 800
    assert shifted.types == pytest.approx(1.0)
    assert shifted.items < 0.1


def test_a_drop_of_the_metric_is_told_once_the_new_events_are_too_many_for_chance(
    small: TrainSettings, tmp_path: Path
) -> None:
    rows, registry = checkerboard(), MemoryModelRegistry()
    log = log_of(rows.head(3200))
    live = run(small, log, registry, RunRequest(actor="test", reason="test")).manifest
    watch = MetricWatch(small, 0.2, every=100)
    log.append(rows.slice(3200, 400), {"test-0": 3599})
    assert watch.reasons(log, registry, live, 99, tmp_path) == [], "so few events say nothing"
    assert watch.reasons(log, registry, live, 400, tmp_path) == [], "tastes are as they were"
    # From one day to the next everybody wants what the others wanted.
    swapped = pl.concat_str(pl.lit("i"), (pl.col("item_id").str.slice(1).cast(pl.Int64).xor(1)).cast(pl.String))
    log.append(rows.tail(400).with_columns(item_id=swapped), {"test-0": 3999})
    assert watch.reasons(log, registry, live, 450, tmp_path) == [], "it is not evaluated for every event"
    (reason,) = watch.reasons(log, registry, live, 800, tmp_path)
    assert f"{live.metrics['recall@20']:.4f} was promised (--when-drop 0.2)" in reason
    assert watch.reasons(log, registry, live, 801, tmp_path) == [reason], "it stays one until there is a new version"
    other = msgspec.structs.replace(live, version="other")
    assert watch.reasons(log, registry, other, 99, tmp_path) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_on_the_shop_a_version_keeps_its_promise_for_a_month_and_not_for_four(
    shop: InteractionLog, tmp_path: Path
) -> None:
    settings, registry = TrainSettings(reports=tmp_path / "reports"), MemoryModelRegistry()
    rows = shop.read().collect()

    def up_to(moment: datetime) -> MemoryInteractionLog:
        log, part = MemoryInteractionLog(), rows.filter(pl.col("occurred_at") <= moment)
        ends = part.group_by("partition").agg(pl.col("offset").max())
        log.append(part.select(list(INTERACTION_SCHEMA)), dict(ends.iter_rows()))
        return log

    trained = datetime(2011, 5, 23, 12, 50, tzinfo=UTC)
    live = run(settings, up_to(trained), registry, RunRequest(actor="test", reason="test")).manifest
    soon = measure_baseline(settings, up_to(trained + timedelta(days=28)), registry, live, tmp_path / "cache")
    late = measure_baseline(settings, up_to(trained + timedelta(days=148)), registry, live, tmp_path / "cache")
    assert soon is not None
    assert late is not None
    assert not soon.fell(0.05)
    assert late.fell(0.15)
