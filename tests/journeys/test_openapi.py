"""Anything that OpenAPI allows (and much that it does not) gets an answer that OpenAPI describes."""

import subprocess
import sys
from pathlib import Path

import pytest

from recsys.settings import StoreSettings
from recsys.stores.model_registry.aliases import promote
from tests.environment.deployment import deployed
from tests.environment.versions import publish_small_version

EXCLUDED = (
    "unsupported_method",
    "positive_data_acceptance",
    "ignored_auth",
    "missing_required_header",
    # The history of a placement outlives it: it is the audit log.
    "use_after_free",
)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("examples", [6, pytest.param(20, marks=pytest.mark.slow)])
def test_schemathesis_finds_no_server_error_and_no_violation(
    store_settings: StoreSettings, tmp_path: Path, examples: int
) -> None:
    with deployed(store_settings, tmp_path) as deployment:
        registry = deployment.registry
        for seed, version in enumerate(("first", "second")):
            publish_small_version(registry, tmp_path / "built", version, seed)
            promote(registry, version, actor="test", reason="start")
        deployment.serve()
        # One worker: before Python 3.11.5 two threads that parse code at once may raise SystemError.
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{deployment.url}/openapi.json"),
            *("--checks", "all", "--max-examples", str(examples), "--seed", "20111209", "--workers", "1"),
            *("--exclude-checks", ",".join(EXCLUDED)),
            *("--request-timeout", "10", "--suppress-health-check", "all", "--no-color"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stdout[-12_000:] + done.stderr[-2_000:]
