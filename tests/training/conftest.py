"""Logs to learn from: a made checkerboard with a known answer, and the shop's two years as imported."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ingest.batch.file_import import import_files
from ingest.batch.mapping import read_mapping
from ingest.settings import IngestSettings
from recsys.stores.event_log import INTERACTION_SCHEMA, InteractionLog
from recsys.stores.event_log.memory import MemoryInteractionLog
from training.settings import GateSettings, TrainSettings

DATA = Path(__file__).parents[2] / "data"
START = datetime(2011, 1, 1, tzinfo=UTC)
USERS, ITEMS, DAYS = 40, 40, 100


def checkerboard(seed: int = 0) -> pl.DataFrame:
    """Even users want even items, odd users odd ones; each buys one random item of theirs a day, for 100 days."""
    rng = np.random.default_rng(seed)
    rows = [
        {
            "event_id": f"e{day}-{user}",
            "user_id": f"u{user}",
            "item_id": f"i{2 * int(rng.integers(ITEMS // 2)) + user % 2}",
            "type": "purchase",
            "occurred_at": START + timedelta(days=day, seconds=user),
            "quantity": 1.0,
            "partition": "test-0",
            "offset": day * USERS + user,
            "date": (START + timedelta(days=day)).date(),
        }
        for day in range(DAYS)
        for user in range(USERS)
    ]
    return pl.DataFrame(rows, schema_overrides=INTERACTION_SCHEMA).select(
        pl.col(name) if name in rows[0] else pl.lit(None, dtype).alias(name)
        for name, dtype in INTERACTION_SCHEMA.items()
    )


def log_of(rows: pl.DataFrame) -> InteractionLog:
    log = MemoryInteractionLog()
    log.append(rows, {"test-0": int(rows["offset"].to_numpy().max())})
    return log


@pytest.fixture
def small(tmp_path: Path) -> TrainSettings:
    """Settings for the checkerboard, where even popularity is close to half right."""
    return TrainSettings(
        factors=8,
        parameters={"iterations": 8},
        half_life_days=0.0,
        holdout_days=14.0,
        threads=1,
        gate=GateSettings(min_ratio_to_popularity=1.0),
        reports=tmp_path / "reports",
    )


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> InteractionLog:
    """Both years, through the real import."""
    log = MemoryInteractionLog()
    settings = IngestSettings(rejected=tmp_path_factory.mktemp("rejected"))
    files = [DATA / "online_retail_ii_2009_2010.parquet", DATA / "online_retail.parquet"]
    import_files(files, read_mapping(DATA / "online_retail.yaml"), log, settings)
    return log
