"""Settings of ingest."""

from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, Field

from recsys.settings import Section


class IngestSettings(Section):
    """What ingest accepts, and where it keeps what it refused."""

    future_tolerance: float = Field(
        300.0, ge=0, le=86400, description="seconds an event may lie ahead of the clock before it is refused"
    )
    earliest: AwareDatetime = Field(
        datetime(2000, 1, 1, tzinfo=UTC), description="events before this are refused as broken clocks"
    )
    import_rows: int = Field(50_000, ge=1, description="rows an import maps and commits at a time")
    rejected: Path = Field(Path("var/rejected"), description="a local folder for dead letters and rejected rows")
