"""The console's figures from Prometheus texts: increases, quantiles, alarms; and of a service that is gone."""

import math
from dataclasses import replace

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from millirec.console.panels.canary import shares_of
from millirec.console.service.alarms import alarms
from millirec.console.service.client import ApiClient, ApiDown, ApiProblem, Reachability, SessionEnded
from millirec.console.service.exposition import Quantiles, by_label, increase, quantiles, read, together, total
from millirec.console.service.monitor import MAX_SAMPLES, Monitor, Sample

BUCKETS = (0.001, 0.01, 0.1, 1.0)
NAME = "millirec_request_seconds"
FINE = Sample(
    at=0.0,
    recommended=10.0,
    latency=Quantiles(0.002, 0.01),
    lag={"features": 3.0},
    dead_letters=0.0,
    versions={"a": 2.0},
)


class Process:
    """One replica's metrics, as its library writes them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("millirec_requests", "Requests", ["route", "method", "status"], registry=self.registry)
        self.answers = Counter(
            "millirec_recommendations", "Answers", ["fallback_level", "degraded"], registry=self.registry
        )
        self.seconds = Histogram(NAME, "Time", ["route"], buckets=BUCKETS, registry=self.registry)

    def recommend(
        self, times: int, *, seconds: float = 0.005, fallback_level: str = "embedding", status: str = "200"
    ) -> None:
        for _ in range(times):
            self.requests.labels("/recommend", "GET", status).inc()
            self.answers.labels(fallback_level, "false").inc()
            self.seconds.labels("/recommend").observe(seconds)

    def text(self) -> str:
        return generate_latest(self.registry).decode()


def test_increases_are_per_series_and_survive_a_restart() -> None:
    before, after = Process(), Process()
    before.recommend(50)
    after.recommend(20)
    assert total(increase(read(after.text()), read(before.text())), "millirec_requests_total") == 20
    first = read(before.text())
    before.recommend(7, fallback_level="popular")
    grown = increase(read(before.text()), first)
    assert by_label(grown, "millirec_recommendations_total", "fallback_level") == {"embedding": 0, "popular": 7}


def test_replicas_are_added_up() -> None:
    one, two = Process(), Process()
    one.recommend(3)
    two.recommend(4)
    assert total(together([read(one.text()), read(two.text())]), "millirec_requests_total") == 7


@given(st.lists(st.floats(0.0002, 5.0), min_size=1, max_size=60))
def test_quantiles_lie_in_the_bucket_of_the_observation_they_stand_for(observed: list[float]) -> None:
    process = Process()
    for one in observed:
        process.seconds.labels("/recommend").observe(one)
    found = quantiles(read(process.text()), NAME)
    assert found is not None
    assert 0 <= found.p50 <= found.p99 <= BUCKETS[-1]
    median = sorted(observed)[math.ceil(len(observed) / 2) - 1]
    upper = next((bound for bound in BUCKETS if median <= bound), BUCKETS[-1])
    lower = max((bound for bound in (0.0, *BUCKETS) if bound < median), default=0.0)
    assert min(lower, BUCKETS[-1]) <= found.p50 <= upper


def test_nothing_observed_has_no_quantiles() -> None:
    assert quantiles(read(Process().text()), NAME) is None
    assert quantiles({}, NAME) is None


async def test_the_monitor_shows_rates_shares_and_who_is_silent() -> None:
    process = Process()
    alive = {"/health/live": "{}"}

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "gone":
            raise httpx.ConnectError("refused")
        return httpx.Response(200, text=alive.get(request.url.path) or process.text())

    reachability = Reachability()
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://service") as http:
        monitor = Monitor(http, reachability, ("/metrics", "http://gone/metrics"), 1.0)
        process.recommend(1)
        await monitor.look()
        process.recommend(30, fallback_level="embedding")
        process.recommend(10, fallback_level="popular", status="500")
        await monitor.look()
        newest = monitor.samples[-1]
        assert newest.silent == ("http://gone/metrics",)
        assert newest.fallback_levels["popular"] == pytest.approx(0.25)
        assert newest.failed / newest.recommended == pytest.approx(0.25)
        assert newest.latency is not None
        assert 0.001 < newest.latency.p50 <= 0.01
        assert not reachability.down
        for _ in range(MAX_SAMPLES):
            monitor.samples.append(newest)
        await monitor.look()
        assert len(monitor.samples) == MAX_SAMPLES, "a console that runs for weeks keeps minutes"


def test_all_is_well_raises_no_alarm() -> None:
    assert alarms(FINE) == []


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        (replace(FINE, failed=1.0), "fail"),
        (replace(FINE, circuit_open=1.0), "feature store"),
        (replace(FINE, shed=2.0), "turned away"),
        (replace(FINE, spooled=12.0), "spool"),
        (replace(FINE, silent=("http://x/metrics",)), "http://x/metrics"),
        (replace(FINE, latency=Quantiles(0.1, 0.4)), "100 ms"),
        (replace(FINE, freshness=Quantiles(0.1, 4.0)), "more than a second"),
        (replace(FINE, lag={"log": 50_000.0}), "50,000"),
        (replace(FINE, degraded=0.3), "30%"),
        (replace(FINE, dead_letters=2.0), "dead letters"),
        (replace(FINE, versions={}), "No version"),
        (replace(FINE, versions={"a": 1.0, "b": 1.0}), "different versions: a, b"),
    ],
)
def test_what_is_wrong_is_said(sample: Sample, words: str) -> None:
    (alarm,) = alarms(sample)
    assert words in alarm.text


async def test_a_busy_service_is_asked_again_but_a_change_is_made_once() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.method)
        busy = {"title": "Temporarily unavailable", "status": 503, "detail": "shed"}
        return httpx.Response(503, json=busy) if len(asked) < 3 else httpx.Response(200, json={"ok": True})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://service") as http:
        api = ApiClient(http, Reachability())
        assert await api.get("/versions") == {"ok": True}
        assert asked == ["GET"] * 3
        asked.clear()
        with pytest.raises(ApiProblem, match="Temporarily unavailable: shed"):
            await api.post("/versions/rollback", {"reason": "x"})
        assert asked == ["POST"]


async def test_a_service_that_is_gone_is_known_to_every_page() -> None:
    reachability = Reachability()
    async with httpx.AsyncClient(base_url="http://127.0.0.1:9", timeout=1.0) as http:
        with pytest.raises(ApiDown):
            await ApiClient(http, reachability).get("/versions")
    assert reachability.down


async def test_a_page_that_outlives_its_login_can_do_nothing() -> None:
    async with httpx.AsyncClient(base_url="http://127.0.0.1:9") as http:
        with pytest.raises(SessionEnded):
            await ApiClient(http, Reachability(), "key", lambda: False).post("/versions/rollback", {"reason": "x"})


def test_a_reason_of_somebody_with_a_shared_key_is_signed_and_fits() -> None:
    api = ApiClient(httpx.AsyncClient(), Reachability(), person="ann@shop.example", shares_key=True)
    assert api.signed("better") == "better (by ann@shop.example)"
    assert len(api.signed("x" * 500)) == 500
    assert replace(api, shares_key=False).signed("better") == "better"


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("1, 5, 25, 100", [0.01, 0.05, 0.25, 1.0]),
        ("50%", [0.5]),
        ("", None),
        ("5, 1", None),
        ("x", None),
        ("101", None),
    ],
)
def test_steps_of_a_canary_are_read_as_they_are_typed(text: str, shares: list[float] | None) -> None:
    assert shares_of(text) == (None if shares is None else pytest.approx(shares))
