"""The gate's part of the report: every check, and the intervals beside what may be lost."""

import html
from collections.abc import Sequence

from matplotlib.axes import Axes

from training.gate import Check

PASSED, REFUSED = "#2e9e5b", "#d0533f"


def verdict(checks: Sequence[Check], *, forced: bool) -> str:
    """Return an HTML paragraph that says whether the gate passed the version, with the reasons if not."""
    refused = [check.reason for check in checks if not check.passed]
    if not refused:
        return '<p class="passed">Passed the quality gate.</p>'
    how = "Refused by the quality gate, and forced:" if forced else "Refused by the quality gate:"
    return (
        f'<p class="refused">{how}</p><ul>' + "".join(f"<li>{html.escape(reason)}</li>" for reason in refused) + "</ul>"
    )


def checks_table(checks: Sequence[Check]) -> str:
    """Return an HTML table with one row per check."""
    rows = "".join(
        f"<tr><td>{html.escape(check.name)}</td><td>{check.measured}</td>"
        f'<td class="words">{html.escape(check.limit)}</td><td>{html.escape(check.setting)}</td>'
        f'<td class="{"passed" if check.passed else "refused"}">{"passed" if check.passed else "refused"}</td></tr>'
        for check in checks
    )
    return f"<table><tr><th>check</th><th>measured</th><th>asked</th><th>setting</th><th></th></tr>{rows}</table>"


def with_intervals(checks: Sequence[Check]) -> list[Check]:
    """Return the checks that have an interval."""
    return [check for check in checks if check.interval is not None]


def draw_intervals(axes: Axes, checks: Sequence[Check]) -> None:
    """Draw recall above what must be kept, with its interval; left of 0 is too little."""
    intervals = with_intervals(checks)[::-1]
    for position, check in enumerate(intervals):
        if check.interval is not None:
            interval, colour = check.interval, PASSED if check.passed else REFUSED
            axes.plot([interval.low, interval.high], [position, position], color=colour, linewidth=2)
            axes.plot([interval.estimate], [position], marker="o", color=colour)
    axes.axvline(0.0, color="#8a8f98", linestyle="--")
    axes.set_yticks(range(len(intervals)), [check.name for check in intervals])
    axes.set_ylim(-0.5, len(intervals) - 0.5)
    axes.set_xlabel("recall above what must be kept")
