from pathlib import Path

import pytest

from recsys.interaction_log.memory import MemoryInteractionLog
from tests.ingest.shop import Shop


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path, MemoryInteractionLog())
