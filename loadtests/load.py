"""Drive load at one URL and say what came back: wrk where it is installed, else Locust."""

import csv
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

WRK_SCRIPT = """
local users, key = {users}, "{key}"
math.randomseed(os.time())
request = function()
  local headers = {{ ["X-API-Key"] = key }}
  return wrk.format("GET", "/recommend?k=10&user_id=user-" .. math.random(0, users - 1), headers)
end
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\\nJSON {{"requests": %d, "seconds": %f, "failed": %d, "p50": %f, "p95": %f, "p99": %f, "max": %f}}\\n',
    summary.requests, summary.duration / 1e6, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3))
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What one run measured; latencies in milliseconds."""

    generator: str
    requests_per_second: float
    failed: int
    p50: float
    p95: float
    p99: float
    max: float


def drive(url: str, *, users: int, key: str, connections: int, seconds: int) -> Load:
    """GET /recommend for random users over keep-alive `connections` for `seconds`."""
    run = _wrk if shutil.which("wrk") else _locust
    return run(url, users, key, connections, seconds)


def _wrk(url: str, users: int, key: str, connections: int, seconds: int) -> Load:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "recommend.lua"
        script.write_text(WRK_SCRIPT.format(users=users, key=key))
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), url]
        output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 60).stdout
    found = json.loads(output.rpartition("JSON ")[2])
    return Load(
        "wrk",
        found["requests"] / found["seconds"],
        found["failed"],
        found["p50"],
        found["p95"],
        found["p99"],
        found["max"],
    )


def _locust(url: str, users: int, key: str, connections: int, seconds: int) -> Load:
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "locust", "-f", str(Path(__file__).with_name("hammer.py")), "--headless"),
            *("--host", url, "-u", str(connections), "-r", str(connections), "-t", f"{seconds}s"),
            *("--csv", f"{folder}/run", "--only-summary", "--exit-code-on-error", "0"),
            *("--population", str(users), "--api-key", key),
        ]
        subprocess.run(command, capture_output=True, check=True, timeout=seconds + 120)
        with Path(folder, "run_stats.csv").open() as stream:
            total = next(row for row in csv.DictReader(stream) if row["Name"] == "Aggregated")
    return Load(
        "locust",
        float(total["Requests/s"]),
        int(total["Failure Count"]),
        *(float(total[name]) for name in ("50%", "95%", "99%", "Max Response Time")),
    )
