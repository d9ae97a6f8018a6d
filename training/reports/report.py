"""The report of a training run: a table for the terminal and one self-contained HTML page with plots."""

from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from recsys.models.kinds import RecommenderSection, section_of
from recsys.observability.text import printable
from recsys.whole_file import write_whole
from training.evaluation.evaluate import HEADLINE_K, Evaluation
from training.provenance import FACTORS
from training.reports.figures import figures
from training.reports.result import TrainingResult

METRICS = tuple(f"{name}@{HEADLINE_K}" for name in ("recall", "ndcg", "map", "hit", "coverage", "novelty"))


def render(result: TrainingResult) -> RenderableType:
    """Return the result as a table and notes for a terminal of 80 columns."""
    # Narrow enough for 80 columns.
    table = Table(
        title=f"{len(result.candidate.recall):,} held-out users, asked as the service would for {HEADLINE_K} items",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("model", no_wrap=True)
    for name in METRICS:
        table.add_column(name.partition("@")[0], justify="right", no_wrap=True)
    for evaluation in (*result.evaluations, *result.discovery):
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
    environment = Environment(loader=PackageLoader("training.reports"), autoescape=True, undefined=StrictUndefined)
    page = environment.get_template("report.html").render(
        manifest=result.manifest,
        section=section_of(result.manifest, RecommenderSection),
        reasons=result.reasons,
        rebuilt=None if result.rebuilt is None else rebuilt(*result.rebuilt),
        summary=_summary(result),
        live_note=result.live_note,
        cutoff=result.split.cutoff,
        held_out=result.split.future.height,
        evaluated=len(result.candidate.recall),
        checks=result.checks,
        metrics=METRICS,
        models=[(evaluation.name, _cells(evaluation)) for evaluation in (*result.evaluations, *result.discovery)],
        headline_k=HEADLINE_K,
        trials=result.manifest.parameters.get("search_tried", []),
        history_name=result.fit.history_name,
        figures={"intervals": "", **figures(result)},
    )
    result.report.parent.mkdir(parents=True, exist_ok=True)
    write_whole(result.report, printable(page, lines=True).encode())


def rebuilt(version: str, differs: Sequence[str]) -> str:
    """Return a sentence that says whether `version` was rebuilt identically, or what differs."""
    if not differs:
        return f"made again as {version} was: the item factors are the same, bit for bit"
    same = differs[0].partition(" ")[0] != FACTORS
    factors = "the item factors are the same all the same" if same else "the item factors differ"
    return f"made again like {version}; {factors}: " + "; ".join(differs)


def _summary(result: TrainingResult) -> str:
    if not len(result.candidate.recall):
        return "nothing was measured: nobody of the held-out days has a past"
    ratio = _ratio(result.candidate, result.popularity)
    return f"recall@{HEADLINE_K} is {ratio:.2f} times that of popular items"


def _cells(evaluation: Evaluation) -> list[str]:
    return [f"{evaluation.metrics[name]:.3f}" if name in evaluation.metrics else "-" for name in METRICS]


def _ratio(candidate: Evaluation, popularity: Evaluation) -> float:
    name = f"recall@{HEADLINE_K}"
    return candidate.metrics[name] / max(popularity.metrics[name], 1e-9)
