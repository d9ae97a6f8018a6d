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
local users, key, path, batch, pause = {users}, "{key}", "{path}", {batch}, {pause}
math.randomseed(os.time())
local function user() return "user-" .. math.random(0, users - 1) end
if pause > 0 then delay = function() return math.random(0, 2 * pause) end end
request = function()
  local headers = {{ ["X-API-Key"] = key }}
  if batch == 0 then return wrk.format("GET", path .. "&user_id=" .. user(), headers) end
  local names = {{}}
  for place = 1, batch do names[place] = '"' .. user() .. '"' end
  local body = '{{"users": [' .. table.concat(names, ",") .. '], "k": 10, "placement": "discover"}}'
  return wrk.format("POST", "/recommend/batch", headers, body)
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
    """Result of one run of the load generator; latencies in milliseconds."""

    generator: str
    requests_per_second: float
    failed: int
    p50: float
    p95: float
    p99: float
    max: float


def drive(
    url: str,
    *,
    users: int,
    key: str,
    connections: int,
    seconds: int,
    placement: str = "default",
    batch: int = 0,
    pause_ms: int = 0,
) -> Load:
    """GET /recommend for random users over keep-alive `connections` for `seconds`, or batches of so many users.

    Each connection waits `pause_ms` on average before it asks again: many that wait offer a rate, whatever becomes
    of them. Batches and pauses need wrk.
    """
    if shutil.which("wrk"):
        return _wrk(url, users, key, connections, seconds, placement, batch, pause_ms)
    if batch or pause_ms:
        raise RuntimeError("batches and overload are measured with wrk: install it (Debian, Ubuntu: apt install wrk)")
    return _locust(url, users, key, connections, seconds, placement)


def _wrk(
    url: str, users: int, key: str, connections: int, seconds: int, placement: str, batch: int, pause_ms: int
) -> Load:
    path = f"/recommend?k=10&placement={placement}" if placement else "/recommend?k=10"
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "recommend.lua"
        script.write_text(WRK_SCRIPT.format(users=users, key=key, path=path, batch=batch, pause=pause_ms))
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), url]
        output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 60).stdout
    summary = json.loads(output.rpartition("JSON ")[2])
    rate = summary["requests"] / summary["seconds"]
    return Load("wrk", rate, summary["failed"], *(summary[name] for name in ("p50", "p95", "p99", "max")))


def _locust(url: str, users: int, key: str, connections: int, seconds: int, placement: str) -> Load:
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "locust", "-f", str(Path(__file__).with_name("hammer.py")), "--headless"),
            *("--host", url, "-u", str(connections), "-r", str(connections), "-t", f"{seconds}s"),
            *("--csv", f"{folder}/run", "--only-summary", "--exit-code-on-error", "0"),
            *("--population", str(users), "--api-key", key, "--placement", placement),
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
