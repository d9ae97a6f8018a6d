from pathlib import Path

import pytest

from ingest.settings import IngestSettings
from recsys.settings import LogSettings, RegistrySettings, StoreSettings, TopicSettings
from recsys.stores.event_log.memory import MemoryInteractionLog
from tests.ingest.running import Ingest
from tests.ingest.shop import Shop


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path, MemoryInteractionLog())


@pytest.fixture
def ingest(store_settings: StoreSettings, tmp_path: Path) -> Ingest:
    """On the session's Valkey, a Delta folder and a registry folder of the test's own."""
    return Ingest(
        topic=TopicSettings(partitions=2, lease=1.0),
        store=store_settings,
        log=LogSettings(path=str(tmp_path / "log")),
        registry=RegistrySettings(url=str(tmp_path / "registry"), cache=tmp_path / "cache"),
        ingest=IngestSettings(log_wait=0.1, refresh=0.5, rejected=tmp_path / "rejected"),
    )
