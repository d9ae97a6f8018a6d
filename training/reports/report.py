"""The report of a training run: a table for the terminal and one self-contained HTML page with plots."""

import html
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.dates as mdates
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from recsys.observability.printable import printable
from training.evaluation.evaluate import HEADLINE_K, KS, Evaluation
from training.provenance import FACTORS
from training.reports.report_gate import checks_table, draw_intervals, verdict, with_intervals
from training.reports.result import TrainingResult

SHOWN = tuple(f"{name}@{HEADLINE_K}" for name in ("recall", "ndcg", "map", "hit", "coverage", "novelty"))
COLOURS = {"candidate": "#2f7ed8", "popularity": "#b0803a", "live": "#3a9d6c", "own history": "#9b6fc0"}
INK = "#8a8f98"
"""Grey that reads on a white and on a dark page alike."""

STYLE = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child { text-align: left; } td.words { white-space: normal; }
figure { margin: 2rem 0; } figcaption { opacity: .75; } svg { max-width: 100%; height: auto; }
.passed { color: #2e9e5b; } .refused { color: #d0533f; }
"""


def render(result: TrainingResult) -> RenderableType:
    """Return the result as a table and notes for a terminal of 80 columns."""
    # Narrow enough for 80 columns.
    table = Table(
        title=f"{len(result.candidate.recall):,} held-out users, asked as the service would for {HEADLINE_K} items",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("model", no_wrap=True)
    for name in SHOWN:
        table.add_column(name.partition("@")[0], justify="right", no_wrap=True)
    for evaluation in (*_evaluations(result), *result.discovery):
        table.add_row(evaluation.name, *_cells(evaluation))
    lines = [Text(printable(_summary(result)))]
    if result.live_note:
        lines.append(Text(printable(result.live_note), style="dim"))
    if result.rebuilt is not None:
        lines.append(Text(rebuilt(*result.rebuilt)))
    bare = result.manifest.parameters.get("items_without_properties")
    if bare:
        lines.append(Text(f"{bare:,} items could not be read again and go without their properties", style="yellow"))
    lines += [Text(printable(f"refused: {reason}"), style="red") for reason in result.reasons]
    lines.append(Text(f"version {result.manifest.version}, report {result.report}"))
    return Group(table, *lines)


def write_html(result: TrainingResult) -> None:
    """Write the page to `result.report`; it needs no other file and no network."""
    note = f"<p>{html.escape(result.live_note)}</p>" if result.live_note else ""
    manifest, split = result.manifest, result.split
    status = verdict(result.checks, forced=manifest.parameters["gate"]["forced"]) + _rebuilt(result)
    facts = {
        "algorithm": f"{manifest.algorithm}, {manifest.dimensions} dimensions",
        "items, users": f"{manifest.items:,}, {manifest.users:,}",
        "learned from": f"log version {manifest.log_version}, up to {manifest.watermark:%Y-%m-%d %H:%M} UTC",
        "held out from": f"{split.cutoff:%Y-%m-%d %H:%M} UTC ({split.future.height:,} interactions)",
        "evaluated users": f"{len(result.candidate.recall):,}",
    }
    page = f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>millirec {manifest.version}</title><style>{STYLE}</style>
<h1>Index version {manifest.version}</h1>{status}<p>{html.escape(_summary(result))}.</p>{note}
<table>{"".join(f"<tr><th>{name}</th><td>{html.escape(value)}</td></tr>" for name, value in facts.items())}</table>
<h2>What the gate asked</h2>
{checks_table(result.checks)}
{_intervals(result)}
{_quality(result)}
<h2>How it is searched</h2>
{_search_table(result)}
<h2>What it learned from</h2>
{_figure("Interactions per week; the line is where the holdout begins.", lambda axes: _timeline(axes, result))}
{_figure(f"{result.fit.history_name.capitalize()} of the final model, pass by pass.", lambda axes: _fit(axes, result))}
</html>
"""
    result.report.parent.mkdir(parents=True, exist_ok=True)
    Path(result.report).write_text(printable(page, lines=True), encoding="utf-8")


def _rebuilt(result: TrainingResult) -> str:
    return "" if result.rebuilt is None else f"<p>{html.escape(rebuilt(*result.rebuilt))}</p>"


def rebuilt(version: str, differs: Sequence[str]) -> str:
    """Return a sentence that says whether `version` was rebuilt identically, or what differs."""
    if not differs:
        return f"made again as {version} was: the item factors are the same, bit for bit"
    same = differs[0].partition(" ")[0] != FACTORS
    factors = "the item factors are the same all the same" if same else "the item factors differ"
    return f"made again like {version}; {factors}: " + "; ".join(differs)


def _intervals(result: TrainingResult) -> str:
    if not with_intervals(result.checks):
        return ""
    caption = "Intervals over users, drawn anew; 0 is what has to be kept."
    return _figure(caption, lambda axes: draw_intervals(axes, result.checks))


def _quality(result: TrainingResult) -> str:
    if not len(result.candidate.recall):
        return "<h2>Quality</h2><p>Nobody of the held-out days has a past, so nothing was measured.</p>"
    return f"""<h2>Quality on the held-out days</h2>{_metrics_table(result)}
<p>The candidate learned only from what came before the holdout. What is published is the same recipe on everything.
"Own history" shows each user what they had before, then what is popular: a hard yardstick where the same thing
is bought again, and of no use for discovery. "New items" asks only for items the user did not have before.</p>
{_figure("Share of the wanted items shown in the first k places.", lambda axes: _by_k(axes, result))}
{_figure(f"recall@{HEADLINE_K} by what users had done and what many want.", lambda axes: _by_segment(axes, result))}
{_figure("Who gets how much: users by their own recall.", lambda axes: _distribution(axes, result))}
{_figure("The long tail: lists each item is in, the most shown first.", lambda axes: _tail(axes, result))}"""


def _summary(result: TrainingResult) -> str:
    if not len(result.candidate.recall):
        return "nothing was measured: nobody of the held-out days has a past"
    ratio = _ratio(result.candidate, result.popularity)
    return f"recall@{HEADLINE_K} is {ratio:.2f} times that of popular items"


def _cells(evaluation: Evaluation) -> list[str]:
    return [f"{evaluation.metrics[name]:.3f}" if name in evaluation.metrics else "-" for name in SHOWN]


def _metrics_table(result: TrainingResult) -> str:
    header = "".join(f"<th>{name}</th>" for name in ("model", *SHOWN))
    rows = "".join(
        f"<tr><td>{evaluation.name}</td>" + "".join(f"<td>{cell}</td>" for cell in _cells(evaluation)) + "</tr>"
        for evaluation in (*_evaluations(result), *result.discovery)
    )
    return f"<table><tr>{header}</tr>{rows}</table>"


def _search_table(result: TrainingResult) -> str:
    """Return a table of the search indexes tried; the fastest with enough recall was built."""
    tried = result.manifest.parameters.get("search_tried", [])
    lines = [
        f"<tr><td>{html.escape(trial['spec']['kind'])}{' (chosen)' if trial['chosen'] else ''}</td>"
        f"<td>{trial['recall']:.4f}</td><td>{trial['microseconds']:.0f}</td><td>{trial['megabytes']:.1f}</td><td>{trial['build_seconds']:.1f}</td></tr>"
        for trial in tried
    ]
    head = "<tr><th>search index</th><th>recall@50</th><th>µs a query</th><th>MB</th><th>built in s</th></tr>"
    return f"<table>{head}{''.join(lines)}</table>"


def _figure(caption: str, draw: Callable[[Axes], None]) -> str:
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
        draw(figure.subplots())
        output = io.StringIO()
        figure.savefig(output, format="svg", transparent=True, metadata={"Date": None})
    svg = output.getvalue()
    return f"<figure>{svg[svg.index('<svg') :]}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _by_k(axes: Axes, result: TrainingResult) -> None:
    for evaluation in _evaluations(result):
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
    evaluations = _evaluations(result)
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
    for evaluation in _evaluations(result):
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


def _evaluations(result: TrainingResult) -> list[Evaluation]:
    return [result.candidate, result.popularity, *filter(None, (result.own_history, result.live))]


def _ratio(candidate: Evaluation, popularity: Evaluation) -> float:
    name = f"recall@{HEADLINE_K}"
    return candidate.metrics[name] / max(popularity.metrics[name], 1e-9)
