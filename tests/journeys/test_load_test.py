"""The shop's traffic of `make loadtest` runs against the service and judges it."""

import subprocess
import sys
from pathlib import Path

from tests.environment.deployment import Deployment

LOCUSTFILE = Path(__file__).parents[2] / "loadtests" / "locustfile.py"


def load(deployment: Deployment, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--host", deployment.url]
    return subprocess.run(
        [*command, "-u", "10", "-r", "10", "-t", "5s", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_shops_traffic_is_served_without_a_failure(deployment: Deployment) -> None:
    deployment.serve()
    done = load(deployment, "--max-p99", "5000")
    assert done.returncode == 0, done.stdout + done.stderr
    told = done.stdout + done.stderr
    for name in ("/recommend", "/events"):
        assert name in told
    assert "Error report" not in told


def test_a_service_that_is_too_slow_fails_the_load_test(deployment: Deployment) -> None:
    deployment.serve()
    done = load(deployment, "--max-p99", "0.001")
    assert done.returncode == 1
    assert "FAILED" in done.stdout
