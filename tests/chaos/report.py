"""The figures of one run, in words and as JSON."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import msgspec

from tests.chaos.injecting import Injection

WAYS = ("acknowledged", "remembered", "logged")
"""Whither an event is on its way after a fault (`Injection`)."""


@dataclass(frozen=True, slots=True)
class Figures:
    backend: str
    seed: int
    seconds: float
    sent: int
    acknowledged: int
    doubtful: int
    doubtful_in_the_log: int
    messages_on_the_topic: int
    users: int
    faults: dict[str, int]
    lost: int
    duplicated: int
    longest_stall: float
    caught_up: float
    recovery: dict[str, dict[str, float]]

    def as_json(self) -> str:
        return msgspec.json.format(msgspec.json.encode(asdict(self))).decode()

    def __str__(self) -> str:
        kinds = ", ".join(f"{times} {kind}" for kind, times in self.faults.items())
        slowest = ", ".join(f"{way} {max(one[way] for one in self.recovery.values()):.1f} s" for way in WAYS)
        return "\n".join(
            [
                f"chaos on {self.backend}, seed {self.seed}, {self.seconds:.0f} s:",
                f"  events        {self.sent} sent, {self.acknowledged} acknowledged, {self.doubtful} in doubt "
                f"({self.doubtful_in_the_log} of them in the log), {self.messages_on_the_topic} messages, "
                f"{self.users} users",
                f"  faults        {sum(self.faults.values())}: {kinds}",
                f"  lost          {self.lost}",
                f"  duplicated    {self.duplicated}",
                f"  longest stall {self.longest_stall:.1f} s without any acknowledgement",
                f"  caught up     {self.caught_up:.1f} s after the last event",
                f"  recovery      of an event sent after a fault, at worst: {slowest}",
            ]
        )


def kinds(done: Sequence[Injection]) -> dict[str, int]:
    """Faults by what befell whom."""
    return dict(sorted(Counter(_name(one) for one in done).items()))


def recoveries(done: Sequence[Injection]) -> dict[str, dict[str, float]]:
    """The slowest of each kind."""
    by_name: defaultdict[str, list[Injection]] = defaultdict(list)
    for one in done:
        by_name[_name(one)].append(one)
    return {
        name: {way: round(max(getattr(one, way) for one in found), 2) for way in WAYS}
        for name, found in sorted(by_name.items())
    }


def _name(one: Injection) -> str:
    return f"{one.fault.target} {one.fault.kind.value}"
