"""Two versions side by side: metrics at once, items and answers once the artefacts are read."""

from typing import Any

from nicegui import ui

from millirec.console.service.client import ApiClient, ApiDown, ApiProblem
from millirec.console.widgets.notices import banner

Json = dict[str, Any]
PATIENCE = 150.0
"""Seconds that reading both artefacts and answering some hundred users may take."""
LONGEST = 100
"""Characters of a parameter and its change; the command shows longer ones."""


async def compare(api: ApiClient, first: Json, second: Json) -> None:
    """Draw what changes from `first` to `second`, two of the versions that GET /versions answers with."""
    with ui.row().classes("w-full items-center gap-2"):
        ui.label("From").classes("m-dim")
        ui.label(first["version"]).classes("m-mono")
        ui.label("to").classes("m-dim")
        ui.label(second["version"]).classes("m-mono")
    with ui.element("div").classes("w-full grid gap-4 grid-cols-1 lg:grid-cols-2"):
        with ui.card().classes("min-w-0"):
            _metrics(first["metrics"], second["metrics"])
        with ui.card().classes("min-w-0") as rest:
            ui.label("Items and answers").classes("font-medium")
            with ui.row().classes("items-center gap-3") as waiting:
                ui.spinner()
                ui.label("Reading both artefacts ...").classes("m-dim")
    path = f"/versions/{first['version']}/difference/{second['version']}"
    try:
        difference = await api.get(path, timeout=PATIENCE, model=first["model"])
    except (ApiDown, ApiProblem) as problem:
        with rest:
            banner(f"Not compared: {problem}", kind="warn", icon="warning")
    else:
        with rest:
            _facts(difference)
    waiting.delete()


def _metrics(first: dict[str, float], second: dict[str, float]) -> None:
    names = [name for name in first if name in second]
    own = [name for name in names if not name.startswith(("popularity ", "own history "))]
    rows = [
        {
            "metric": name,
            "from": f"{first[name]:.4f}",
            "to": f"{second[name]:.4f}",
            "change": f"{second[name] - first[name]:+.4f}",
        }
        for name in own
    ]
    columns = [
        {"name": name, "label": label, "field": name, "align": "left" if name == "metric" else "right"}
        for name, label in (("metric", "Metric"), ("from", "From"), ("to", "To"), ("change", "Change"))
    ]
    ui.label("Metrics").classes("font-medium")
    ui.table(rows=rows, columns=columns, row_key="metric", pagination=12).classes("w-full").props("flat dense")


def _items(items: Json) -> list[tuple[str, str]]:
    facts = [("Items", f"{items['common']:,} in both, {items['gained']:,} gained, {items['lost']:,} lost")]
    examples = {name: ", ".join(items[f"{name}_examples"]) for name in ("gained", "lost")}
    return facts + [(f"{name.capitalize()}, most popular", text) for name, text in examples.items() if text]


def _facts(difference: Json) -> None:
    items, overlap, norms = difference["items"], difference["overlap"], difference["norms"]
    facts = [] if items is None else _items(items)
    if items is not None and overlap is None:
        facts.append(("Answers", "no user is known to both versions"))
    if overlap is not None:
        users = f"{overlap['users']:,} of {overlap['known_to_both']:,} users that both know"
        facts += [
            (f"Overlap@{overlap['k']}", f"{overlap['mean']:.3f} on average, of {users}"),
            ("", f"median {overlap['median']:.3f}, a tenth of them below {overlap['p10']:.3f}"),
            ("Same answer", f"{overlap['identical']:.1%}; same first item: {overlap['same_first']:.1%}"),
        ]
    if norms is not None:
        facts.append(("Lengths of item factors", f"mean {norms['mean_a']:.3f} to {norms['mean_b']:.3f}"))
        facts.append(("", f"ratio {norms['median']:.3f}, 90 % within {norms['p5']:.3f} and {norms['p95']:.3f}"))
    changed = [(name, f"{a} to {b}") for name, (a, b) in difference["parameters"].items()]
    facts += [(name, text) for name, text in changed if len(text) <= LONGEST]
    for title, text in facts:
        with ui.row().classes("w-full gap-x-3 gap-y-0"):
            ui.label(title).classes("m-dim w-44")
            ui.label(text).classes("flex-1 min-w-[200px] break-words")
