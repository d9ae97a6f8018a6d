"""millirec versions list|show|history|diff; what moves aliases and what moves files has modules of its own."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.table import Column, Table

from millirec.commands import versions_files, versions_moves
from millirec.settings import load_settings
from millirec.terminal import Model, console, print_json
from recsys.models.alias_move import DELETED, LIVE
from recsys.models.kinds import summary_of
from recsys.models.manifest import RECOMMENDER, GateVerdict, Manifest, flat
from recsys.stores.model_registry import ModelRegistry, aliases, open_model_registry

if TYPE_CHECKING:
    from millirec.version_diff import Items, VersionDiff

app = typer.Typer(help="Compare, promote, roll back, keep, move and prune versions of models.", no_args_is_help=True)

Version = Annotated[str, typer.Argument(help="A version, or an alias such as `live`.")]
Json = Annotated[bool, typer.Option("--json", help="JSON, for programs.")]
SHOWN_METRICS = ("recall@20", "ndcg@20")


@app.command("list")
def list_versions(model: Model = RECOMMENDER, json: Json = False) -> None:
    """List every version, oldest first, with the aliases that point at it."""
    registry = open_model_registry(load_settings().registry, model)
    pointing = _pointing(registry)
    versions = registry.versions()
    if json:
        print_json(
            [{"aliases": pointing.get(manifest.version, []), **msgspec.to_builtins(manifest)} for manifest in versions]
        )
        return
    table = Table(Column("version", no_wrap=True), "alias", "what it is")
    for name in SHOWN_METRICS:
        table.add_column(name, justify="right")
    for manifest in versions:
        metrics = [_number(manifest.metrics.get(name)) for name in SHOWN_METRICS]
        names = ", ".join(pointing.get(manifest.version, []))
        table.add_row(manifest.version, names, summary_of(manifest), *metrics)
    console.print(table)


@app.command()
def models(json: Json = False) -> None:
    """List the models that anything was published of, with their kind and live version."""
    registry = open_model_registry(load_settings().registry)
    overview = [(name, registry.of(name).versions(), registry.of(name).alias(LIVE)) for name in registry.models()]
    rows = [
        {
            "model": name,
            "kind": versions[-1].kind if versions else "",
            "versions": len(versions),
            "live": None if live is None else live.version,
        }
        for name, versions, live in overview
    ]
    if json:
        print_json(rows)
        return
    table = Table("model", "kind", Column("versions", justify="right"), "live")
    for row in rows:
        table.add_row(*("-" if value is None else str(value) for value in row.values()))
    console.print(table)


@app.command()
def show(version: Version = LIVE, model: Model = RECOMMENDER, json: Json = False) -> None:
    """Show what a version contains, how it was trained, and its metrics."""
    registry = open_model_registry(load_settings().registry, model)
    manifest = registry.manifest(_resolved(registry, version))
    if json:
        print_json(manifest)
        return
    table = Table(show_header=False, box=None)
    for name, described in _described(manifest, _pointing(registry).get(manifest.version, [])).items():
        table.add_row(name, described)
    console.print(table)
    for title, values in (("metric", manifest.metrics), ("parameter", _in_cells(manifest))):
        listed = Table(title, Column("value", justify="right"))
        for name, value in values.items():
            listed.add_row(name, _number(value))
        if values:
            console.print(listed)


@app.command()
def history(
    alias: Annotated[str | None, typer.Argument(help="One alias; all of them when left out.")] = None,
    model: Model = RECOMMENDER,
    json: Json = False,
) -> None:
    """List the moves of aliases, oldest first: who moved which alias where, when and why."""
    moves = open_model_registry(load_settings().registry, model).history(alias)
    if json:
        print_json(moves)
        return
    table = Table("moved at", "alias", "#", Column("version", no_wrap=True), "actor", "reason")
    for move in moves:
        where = f"left {move.version}" if move.cleared else move.version
        where = f"deleted {move.version}" if move.alias.startswith(DELETED) else where
        at = f"{move.moved_at:%Y-%m-%d %H:%M:%S}"
        table.add_row(at, move.alias, str(move.sequence), where, move.actor, move.reason)
    console.print(table)


@app.command()
def diff(
    a: Version,
    b: Version,
    users: Annotated[int, typer.Option(min=0, help="How many users that both know are answered by both.")] = 500,
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="Items per answer.")] = 20,
    seed: Annotated[int, typer.Option(help="Draws the users.")] = 0,
    model: Model = RECOMMENDER,
    json: Json = False,
) -> None:
    """Show what changes from version A to version B: metrics, parameters, items, answers, lengths of factors.

    Users are answered from the snapshots in the versions, by the code that serves: no other system is asked.
    """
    # Here, because it takes the recommender and a second, which no other command of this kind needs.
    from millirec.version_diff import diff_versions

    settings = load_settings()
    registry = open_model_registry(settings.registry, model)
    first, second = (_resolved(registry, version) for version in (a, b))
    difference = diff_versions(registry, settings.registry, first, second, users=users, k=k, seed=seed)
    if json:
        print_json(difference)
    else:
        _print_diff(difference)


def _print_diff(difference: "VersionDiff") -> None:
    metrics = Table(
        "metric", Column(difference.a, justify="right"), Column(difference.b, justify="right"), "difference"
    )
    for name, (first, second) in difference.metrics.items():
        change = "-" if first is None or second is None else f"{second - first:+.4f}"
        metrics.add_row(name, _number(first), _number(second), change)
    parameters = Table("parameter", difference.a, difference.b)
    for name, pair in difference.parameters.items():
        if any(map(_is_table, pair)):
            continue
        parameters.add_row(name, *(_number(value) for value in pair))
    for part in (metrics, parameters):
        if part.row_count:
            console.print(part)
    if difference.items is not None:
        console.print(_answers(difference, difference.items), highlight=False)


def _answers(difference: "VersionDiff", items: "Items") -> Table:
    """Return what differs in the items of two recommenders and in what they answer."""
    summary = Table(show_header=False, box=None)
    summary.add_row("items", f"{items.common:,} in both, {items.gained:,} gained, {items.lost:,} lost")
    for title, examples in (("gained", items.gained_examples), ("lost", items.lost_examples)):
        if examples:
            summary.add_row(f"{title}, most popular", ", ".join(examples))
    if (overlap := difference.overlap) is not None:
        users = f"{overlap.users:,} of {overlap.known_to_both:,} users that both know"
        summary.add_row(f"overlap@{overlap.k}", f"{overlap.mean:.3f} on average, {users}")
        summary.add_row("", f"median {overlap.median:.3f}, a tenth of them below {overlap.p10:.3f}")
        summary.add_row("", f"same answer {overlap.identical:.1%}, same first item {overlap.same_first:.1%}")
    else:
        summary.add_row("overlap", "no user is known to both versions")
    if (norms := difference.norms) is not None:
        summary.add_row("lengths of item factors", f"mean {norms.mean_a:.3f} -> {norms.mean_b:.3f}")
        summary.add_row("", f"ratio: median {norms.median:.3f}, 90 % within {norms.p5:.3f} and {norms.p95:.3f}")
        changes = ", ".join(f"{item} {ratio:.2f}" for item, ratio in norms.changed_most.items())
        summary.add_row("changed most", changes)
    return summary


def _described(manifest: Manifest, pointing: list[str]) -> dict[str, str]:
    return {
        "version": manifest.version,
        "model": f"{manifest.model}, a {manifest.kind}",
        "pointed at by": ", ".join(pointing) or "nothing",
        "made": f"{manifest.created_at:%Y-%m-%d %H:%M:%S %Z}, by {manifest.provenance.code_version}",
        "what it is": summary_of(manifest),
        "gate": _verdict(manifest.verdict),
        "files": f"{len(manifest.files)}, {manifest.size / 1e6:,.1f} MB, format {manifest.format_version}",
    }


def _verdict(verdict: GateVerdict | None) -> str:
    if verdict is None:
        return "not asked"
    refusal = f"refused: {'; '.join(verdict.reasons)}"
    return "passed" if verdict.passed else f"{refusal} (forced)" if verdict.forced else refusal


def _in_cells(manifest: Manifest) -> dict[str, Any]:
    values = flat({**manifest.section, **msgspec.to_builtins(manifest.provenance), **manifest.parameters})
    return {name: value for name, value in values.items() if not _is_table(value)}


def _is_table(value: Any) -> bool:
    """Return whether a value has rows, such as the checks of the gate: JSON shows them, a table cell does not."""
    return isinstance(value, list) and any(isinstance(entry, Mapping) for entry in value)


def _pointing(registry: ModelRegistry) -> dict[str, list[str]]:
    """Return the aliases of each version that has any, sorted."""
    names: dict[str, list[str]] = {}
    for alias, version in sorted(aliases.aliases_of(registry).items()):
        names.setdefault(version, []).append(alias)
    return names


def _resolved(registry: ModelRegistry, version: str) -> str:
    return aliases.aliases_of(registry).get(version, version)


def _number(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


for part in (versions_moves, versions_files):
    part.register(app)
