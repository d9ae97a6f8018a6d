"""Settings of ingest."""

from pathlib import Path

from pydantic import Field

from recsys.settings import Seconds, TimeBounds

MAX_COLUMNS = 2000


class IngestSettings(TimeBounds):
    """What ingest accepts, and for how long and where it keeps what it refused."""

    features_batch: int = Field(1000, ge=1, le=10_000, description="messages the features group takes at a time")
    log_batch: int = Field(20_000, ge=1, le=1_000_000, description="messages the log group commits at a time")
    log_wait: Seconds = Field(2.0, description="how long the log group waits for a batch to fill")
    compact_every: int = Field(500, ge=0, description="new files of the log between compactions; 0: never")
    refresh: Seconds = Field(10.0, description="how often to look for versions to fold in for, if not notified")
    metrics_port: int | None = Field(None, ge=1, le=65535, description="Prometheus metrics of the consumers")
    metrics_host: str = Field("0.0.0.0", description="address on which they are served")  # noqa: S104
    import_rows: int = Field(50_000, ge=1, description="rows an import maps and commits at a time")
    import_columns: int = Field(MAX_COLUMNS, ge=1, le=20_000, description="columns that an imported file may have")
    rejected: Path = Field(Path("var/rejected"), description="a local folder for the rejected rows of imports")
    dead_letters_kept: float = Field(
        30 * 86400, gt=0, description="seconds until a dead letter is erased, whatever became of it"
    )
