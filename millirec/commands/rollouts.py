"""millirec canary start|status|advance|stop and millirec shadow start|report|stop."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import msgspec
import typer
from rich.table import Column, Table

from millirec.operations import actor_name, notify
from millirec.settings import Settings, load_settings
from millirec.terminal import Model, console, print_json
from recsys.errors import NotFound
from recsys.experiments.rollout import STEP_SECONDS, STEPS, Rollout
from recsys.experiments.shadow import report
from recsys.models.alias_move import CANARY, LIVE, SHADOW, AliasMove
from recsys.models.manifest import RECOMMENDER
from recsys.stores.model_registry import open_model_registry
from recsys.stores.model_registry.rollouts import SHADOW_SHARE, advance_canary, start_canary, start_shadow, stop
from recsys.stores.notifications import VERSIONS_CHANNEL
from recsys.stores.online import Stores, open_stores

T = TypeVar("T")
canary = typer.Typer(
    help="Let a version answer a few users, then more, and take it back by itself when it does worse.",
    no_args_is_help=True,
)
shadow = typer.Typer(help="Have a version answer requests too, without anybody seeing it.", no_args_is_help=True)

Version = Annotated[str, typer.Argument(help="An index version that is not live.")]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; kept in the audit history.")]
Json = Annotated[bool, typer.Option("--json", help="JSON, for programs.")]


@canary.command("start")
def start(
    version: Version,
    reason: Reason,
    steps: Annotated[
        str, typer.Option(help="Shares of the users, ascending; the last step, everybody, is a promote.")
    ] = ",".join(f"{share:g}" for share in STEPS),
    step_hours: Annotated[float, typer.Option(min=0.0, max=8760.0, help="Hours that a step takes at least.")] = (
        STEP_SECONDS / 3600
    ),
    converts: Annotated[
        list[str] | None,
        typer.Option(
            help="Types of interaction that are a success, repeatable; all that name a recommendation if none."
        ),
    ] = None,
    model: Model = RECOMMENDER,
) -> None:
    """Start a canary at its first step. The service advances, promotes or stops it, and says why in the history."""
    from recsys.opening import open_proving_registry

    settings = load_settings()
    move = start_canary(
        open_proving_registry(settings.registry, model),
        version,
        actor=actor_name(),
        reason=reason,
        steps=_shares(steps),
        step_seconds=3600 * step_hours,
        converts=converts or (),
    )
    _announce(settings, move)


@canary.command()
def status(model: Model = RECOMMENDER, json: Json = False) -> None:
    """Show each guardrail of the canary, and what happens next."""
    # Here, because it takes the service's modules, which no other command of this kind needs.
    from app.http.schemas.rollouts import CanaryAnswer, canary_answer
    from app.versions.canary_guard import judged

    settings = load_settings()
    move, rollout = _running(settings, model, CANARY)
    verdict = _with_stores(settings, lambda stores: judged(stores.outcomes, move, rollout))
    answer: CanaryAnswer = canary_answer(move, rollout, verdict, loaded=True)
    if json:
        print_json(answer)
        return
    console.print(f"{move.version} beside {rollout.control}: {verdict.reason}", highlight=False)
    table = Table("users who were ...", *(Column(name, justify="right") for name in ("live", "canary", "difference")))
    table.add_column("between", justify="right")
    for outcome in answer.outcomes:
        bounds = (
            "not known yet"
            if outcome.low is None or outcome.high is None
            else f"{outcome.low:+.2%} and {outcome.high:+.2%}"
        )
        sides = (
            f"{outcome.control_rate:.2%} of {outcome.control_users:,}",
            f"{outcome.canary_rate:.2%} of {outcome.canary_users:,}",
        )
        table.add_row(outcome.name, *sides, f"{outcome.difference:+.2%}", bounds)
    console.print(table)


@canary.command("advance")
def advance(reason: Reason, model: Model = RECOMMENDER) -> None:
    """Move to the next step now, whatever it waits for; after the last one the version is promoted."""
    from recsys.opening import open_proving_registry

    settings = load_settings()
    registry = open_proving_registry(settings.registry, model)
    _announce(settings, advance_canary(registry, actor=actor_name(), reason=reason))


@canary.command("stop")
def stop_canary(reason: Reason, model: Model = RECOMMENDER) -> None:
    """Stop the canary: all users get the live version again."""
    _stop(model, CANARY, reason)


@shadow.command("start")
def begin(
    version: Version,
    reason: Reason,
    share: Annotated[float, typer.Option(help="The share of requests, above 0 and up to 1.")] = SHADOW_SHARE,
    model: Model = RECOMMENDER,
) -> None:
    """Start a shadow. Requests beyond a fiftieth of each worker's time are skipped, and counted."""
    from recsys.opening import open_proving_registry

    settings = load_settings()
    registry = open_proving_registry(settings.registry, model)
    _announce(settings, start_shadow(registry, version, actor=actor_name(), reason=reason, share=share))


@shadow.command("report")
def show(model: Model = RECOMMENDER, json: Json = False) -> None:
    """Show how the shadow's answers compare with those of the live version: items, times, scores."""
    settings = load_settings()
    move, rollout = _running(settings, model, SHADOW)
    comparison = report(_with_stores(settings, lambda stores: stores.counters.read(rollout.experiment)))
    if json:
        print_json({"version": move.version, **msgspec.to_builtins(comparison)})
        return
    seconds, scores = comparison.seconds, comparison.scores
    console.print(
        f"{move.version} beside {rollout.control}: {comparison.compared:,} compared, {comparison.failed:,} failed, "
        f"{comparison.skipped:,} skipped",
        highlight=False,
    )
    table = Table("", *(Column(name, justify="right") for name in ("live", "shadow")))
    table.add_row("median in the recommender", _ms(seconds.live_p50), _ms(seconds.shadow_p50))
    table.add_row("99 %", _ms(seconds.live_p99), _ms(seconds.shadow_p99))
    table.add_row("mean score of personal items", *(_number(score) for score in (scores.live_mean, scores.shadow_mean)))
    console.print(table)
    console.print(
        f"items in both: {'-' if comparison.overlap is None else f'{comparison.overlap:.1%}'}", highlight=False
    )


@shadow.command("stop")
def stop_shadow(reason: Reason, model: Model = RECOMMENDER) -> None:
    """Stop the shadow."""
    _stop(model, SHADOW, reason)


def _stop(model: str, alias: str, reason: str) -> None:
    settings = load_settings()
    registry = open_model_registry(settings.registry, model)
    _announce(settings, stop(registry, alias, actor=actor_name(), reason=reason))


def _running(settings: Settings, model: str, alias: str) -> tuple[AliasMove, Rollout]:
    move = open_model_registry(settings.registry, model).alias(alias)
    if move is None or move.rollout is None:
        raise NotFound("rollout", alias)
    return move, move.rollout


def _with_stores(settings: Settings, ask: Callable[[Stores], Awaitable[T]]) -> T:
    async def ask_stores() -> T:
        """Open the stores, call `ask` with them, and close them."""
        stores = open_stores(settings.store)
        try:
            return await ask(stores)
        finally:
            await stores.aclose()

    return asyncio.run(ask_stores())


def _shares(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is not a list of shares such as 0.01,0.1,1", param_hint="--steps"
        ) from error


def _announce(settings: Settings, move: AliasMove) -> None:
    if move.alias == LIVE:
        said = f"{move.version} is live"
    elif move.cleared or move.rollout is None:
        said = f"{move.version} is no {move.alias} any more"
    else:
        whose = "users" if move.alias == CANARY else "requests"
        said = f"{move.version} is the {move.alias}, for {100 * move.rollout.share:g} % of the {whose}"
    console.print(f"{said}: {move.reason}", highlight=False)
    asyncio.run(notify(settings, VERSIONS_CHANNEL, move.version))


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:.2f} ms"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
