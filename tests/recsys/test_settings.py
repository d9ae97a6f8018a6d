"""Settings as they are written down: in manifests, of which two are compared, and for people."""

import os
import subprocess
import sys

DUMP = """
from app.settings import ApiKey, Scope
from training.settings import TrainSettings
settings = TrainSettings.model_validate({"wanted_types": [f"type-{n}" for n in range(9)]})
key = ApiKey.model_validate({"name": "shop", "sha256": "0" * 64, "scopes": list(Scope)})
print(settings.model_dump_json(), settings.model_dump(mode="json"), repr(settings), key.model_dump(mode="json"))
"""


def dumped(hash_seed: str) -> str:
    """What another process, which hashes in another way, writes of the same settings."""
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.run(
        [sys.executable, "-c", DUMP], env=environment, capture_output=True, text=True, check=True, timeout=120
    ).stdout


def test_two_processes_write_the_same_settings_in_the_same_order() -> None:
    first = dumped("1")
    assert "type-0" in first
    assert first == dumped("2") == dumped("3")
