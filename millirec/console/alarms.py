"""What an operator wants to be told without looking for it. Limits as in the alert rules (helm/files/alerts.yaml)."""

from dataclasses import dataclass

from millirec.console.monitor import Sample

SLOW_ANSWER = 0.1
STALE = 1.0
LAGGING = 10_000.0
MUCH_DEGRADED = 0.02


@dataclass(frozen=True, slots=True)
class Alarm:
    """`kind` is bad or warn; `advice` says where to look."""

    kind: str
    text: str
    advice: str


def alarms(now: Sample) -> list[Alarm]:
    """What is wrong at the time of a sample, the worst first."""
    found: list[Alarm] = []

    def when(holds: bool, kind: str, text: str, advice: str) -> None:
        if holds:
            found.append(Alarm(kind, text, advice))

    when(now.failed > 0, "bad", f"{now.failed:.1f} recommendations a second fail", "Look at the log of the service.")
    nothing = not now.silent and not now.versions
    when(nothing, "bad", "No version is in service", "Train one, or look why it is not loaded: millirec doctor.")
    when(
        now.circuit_open > 0,
        "bad",
        "The feature store does not answer in time",
        "Answers come from the factors in the artefact until it does. Check the store with millirec doctor.",
    )
    when(now.shed > 0, "bad", f"{now.shed:.1f} requests a second are turned away", "Add replicas or workers.")
    when(
        now.spooled > 0,
        "bad",
        f"{now.spooled:,.0f} messages wait on the spool",
        "The topic does not take events; they follow in order once it does.",
    )
    when(bool(now.silent), "warn", f"No metrics from {', '.join(now.silent)}", "Is that process running?")
    slow = now.latency is not None and now.latency.p99 > SLOW_ANSWER
    when(slow, "warn", "The slowest hundredth of answers takes more than 100 ms", "Look at load and at the store.")
    stale = now.freshness is not None and now.freshness.p99 > STALE
    when(stale, "warn", "Events take more than a second to count", "Look at the consumers and their lag.")
    names = ", ".join(sorted(now.versions))
    when(
        len(now.versions) > 1, "warn", f"Replicas answer with different versions: {names}", "It should pass in seconds."
    )
    for group, lag in now.lag.items():
        when(lag > LAGGING, "warn", f"The {group} consumers are {lag:,.0f} messages behind", "Start more of them.")
    when(
        now.degraded > MUCH_DEGRADED,
        "warn",
        f"{now.degraded:.0%} of the answers are worse than they could be",
        "The share of the fallback fallback levels shows which.",
    )
    when(
        bool(now.dead_letters),
        "warn",
        f"{now.dead_letters or 0:,.0f} dead letters wait",
        "Look at them under dead letters.",
    )
    return sorted(found, key=lambda one: one.kind)
