"""The figures of a training report: plots of one `TrainingResult` as inline SVG."""

import io
from collections.abc import Callable, Mapping
from typing import Any

import matplotlib as mpl
import matplotlib.dates as mdates
import numpy as np
import polars as pl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.evaluation.evaluate import HEADLINE_K, KS
from training.reports.result import TrainingResult

COLOURS = {"candidate": "#2f7ed8", "popularity": "#b0803a", "live": "#3a9d6c", "own history": "#9b6fc0"}
INK = "#8a8f98"
"""Grey that reads on a white and on a dark page alike."""
PASSED, REFUSED = "#2e9e5b", "#d0533f"


def figures(result: TrainingResult) -> Mapping[str, Markup]:
    """Return the figures that the result has data for, by name."""
    plots: dict[str, Callable[[Axes, TrainingResult], None]] = {"timeline": _timeline, "fit": _fit}
    if any(check.interval is not None for check in result.checks):
        plots["intervals"] = _intervals
    if len(result.candidate.recall):
        plots |= {"by_k": _by_k, "by_segment": _by_segment, "distribution": _distribution, "tail": _tail}
    return {name: _svg(draw, result) for name, draw in plots.items()}


def _svg(draw: Callable[[Axes, TrainingResult], None], result: TrainingResult) -> Markup:
    """Return an inline SVG with a transparent background."""
    style: dict[Any, Any] = {
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "svg.hashsalt": "millirec",
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(8.0, 3.2), layout="constrained")
        draw(figure.subplots(), result)
        output = io.StringIO()
        figure.savefig(output, format="svg", transparent=True, metadata={"Date": None})
    svg = output.getvalue()
    return Markup(svg[svg.index("<svg") :])  # noqa: S704  # matplotlib escapes the texts in it


def _intervals(axes: Axes, result: TrainingResult) -> None:
    """Draw recall above what must be kept, with its interval; left of 0 is too little."""
    intervals = [check for check in result.checks if check.interval is not None][::-1]
    for position, check in enumerate(intervals):
        if check.interval is not None:
            interval, colour = check.interval, PASSED if check.passed else REFUSED
            axes.plot([interval.low, interval.high], [position, position], color=colour, linewidth=2)
            axes.plot([interval.estimate], [position], marker="o", color=colour)
    axes.axvline(0.0, color=INK, linestyle="--")
    axes.set_yticks(range(len(intervals)), [check.name for check in intervals])
    axes.set_ylim(-0.5, len(intervals) - 0.5)
    axes.set_xlabel("recall above what must be kept")


def _by_k(axes: Axes, result: TrainingResult) -> None:
    for evaluation in result.evaluations:
        values = [evaluation.metrics[f"recall@{k}"] for k in KS]
        axes.plot(KS, values, marker="o", label=evaluation.name, color=COLOURS[evaluation.name])
    axes.set_xticks(KS)
    axes.set_xlabel("k")
    axes.set_ylabel("recall@k")
    axes.set_ylim(bottom=0)
    axes.legend()


def _by_segment(axes: Axes, result: TrainingResult) -> None:
    sizes = {name: int((~np.isnan(values)).sum()) for name, values in result.candidate.segments.items()}
    present = [name for name, users in sizes.items() if users]
    evaluations = result.evaluations
    width = 0.8 / len(evaluations)
    for position, evaluation in enumerate(evaluations):
        at = np.arange(len(present)) + (position - (len(evaluations) - 1) / 2) * width
        axes.bar(
            at,
            [np.nanmean(evaluation.segments[name]) for name in present],
            width,
            label=evaluation.name,
            color=COLOURS[evaluation.name],
        )
    labels = [f"{name}\n{sizes[name]:,} users" for name in present]
    axes.set_xticks(np.arange(len(present)), labels)
    axes.set_ylabel(f"recall@{HEADLINE_K}")
    axes.legend()


def _distribution(axes: Axes, result: TrainingResult) -> None:
    bins = np.linspace(0, 1, 21)
    for evaluation in result.evaluations:
        axes.hist(
            evaluation.recall,
            bins=bins.tolist(),
            histtype="step",
            label=evaluation.name,
            color=COLOURS[evaluation.name],
            linewidth=1.5,
        )
    axes.set_xlabel(f"recall@{HEADLINE_K} of one user")
    axes.set_ylabel("users")
    axes.legend()


def _tail(axes: Axes, result: TrainingResult) -> None:
    listed = np.sort(result.candidate.list_counts)[::-1]
    demand = result.split.future.group_by("item_id").agg(pl.col("user_id").n_unique().alias("users"))
    bought = np.sort(demand["users"].to_numpy())[::-1]
    axes.plot(np.arange(1, len(listed) + 1), listed, color=COLOURS["candidate"], label="lists it is in")
    axes.plot(np.arange(1, len(bought) + 1), bought, color=INK, label="users who wanted it")
    axes.set_xscale("log")
    axes.set_yscale("symlog")
    axes.set_ylim(bottom=0)
    axes.set_xlim(1, max(len(listed), 2))
    axes.set_xlabel("item, by rank")
    axes.legend()


def _timeline(axes: Axes, result: TrainingResult) -> None:
    for frame, colour in ((result.split.past, INK), (result.split.future, COLOURS["candidate"])):
        weekly = frame.group_by(pl.col("occurred_at").dt.truncate("1w").alias("week")).len().sort("week")
        axes.bar(weekly["week"].dt.date().to_list(), weekly["len"].to_list(), width=6.0, color=colour)
    cutoff = mdates.date2num(result.split.cutoff)  # type: ignore[no-untyped-call]
    axes.axvline(cutoff, color=COLOURS["popularity"], linestyle="--")
    axes.set_ylabel("interactions")


def _fit(axes: Axes, result: TrainingResult) -> None:
    axes.plot(np.arange(1, len(result.fit.history) + 1), result.fit.history, marker="o", color=COLOURS["candidate"])
    axes.set_xlabel("pass over the data")
    axes.set_ylabel(result.fit.history_name)
