"""Alarms of the overview page. Limits as in the alert rules (helm/files/alerts.yaml)."""

from dataclasses import dataclass

from millirec.console.service.monitor import Sample

SLOW_ANSWER = 0.1
STALE = 1.0
LAGGING = 10_000.0
MUCH_DEGRADED = 0.02


@dataclass(frozen=True, slots=True)
class Alarm:
    """A condition to act on: `kind` is bad or warn, `advice` says where to look."""

    kind: str
    text: str
    advice: str


def alarms(sample: Sample) -> list[Alarm]:
    """Return what is wrong at the time of a sample, the worst first."""
    findings: list[Alarm] = []

    def when(holds: bool, kind: str, text: str, advice: str) -> None:
        """Add an alarm if the condition holds."""
        if holds:
            findings.append(Alarm(kind, text, advice))

    when(
        sample.failed > 0,
        "bad",
        f"{sample.failed:.1f} recommendations a second fail",
        "Look at the log of the service.",
    )
    nothing = not sample.silent and not sample.versions
    when(nothing, "bad", "No version is in service", "Train one, or look why it is not loaded: millirec doctor.")
    when(
        sample.circuit_open > 0,
        "bad",
        "The feature store does not answer in time",
        "Answers come from the factors in the artefact until it does. Check the store with millirec doctor.",
    )
    when(sample.shed > 0, "bad", f"{sample.shed:.1f} requests a second are turned away", "Add replicas or workers.")
    when(
        sample.spooled > 0,
        "bad",
        f"{sample.spooled:,.0f} messages wait on the spool",
        "The topic does not take events; they follow in order once it does.",
    )
    when(bool(sample.silent), "warn", f"No metrics from {', '.join(sample.silent)}", "Is that process running?")
    slow = sample.latency is not None and sample.latency.p99 > SLOW_ANSWER
    when(slow, "warn", "The slowest hundredth of answers takes more than 100 ms", "Look at load and at the store.")
    stale = sample.freshness is not None and sample.freshness.p99 > STALE
    when(stale, "warn", "Events take more than a second to count", "Look at the consumers and their lag.")
    names = ", ".join(sorted(sample.versions))
    when(
        len(sample.versions) > 1,
        "warn",
        f"Replicas answer with different versions: {names}",
        "It should pass in seconds.",
    )
    for group, lag in sample.lag.items():
        when(lag > LAGGING, "warn", f"The {group} consumers are {lag:,.0f} messages behind", "Start more of them.")
    when(
        sample.degraded > MUCH_DEGRADED,
        "warn",
        f"{sample.degraded:.0%} of the answers are worse than they could be",
        "The share of the fallback fallback levels shows which.",
    )
    when(
        bool(sample.dead_letters),
        "warn",
        f"{sample.dead_letters or 0:,.0f} dead letters wait",
        "Look at them under dead letters.",
    )
    return sorted(findings, key=lambda alarm: alarm.kind)
