"""What operators, and the guard of a canary, do with rollouts: each is a move of the alias `canary` or `shadow`."""

from collections.abc import Sequence
from datetime import UTC, datetime
from secrets import token_hex

import msgspec

from recsys.errors import Conflict, InvalidInput, NotFound
from recsys.experiments.rollout import STEP_SECONDS, STEPS, Rollout, checked_steps, next_share
from recsys.models.alias_move import CANARY, LIVE, SHADOW, AliasMove
from recsys.stores.model_registry.aliases import promote
from recsys.stores.model_registry.protocol import ModelRegistry

SHADOW_SHARE = 0.1


def start_canary(
    registry: ModelRegistry,
    version: str,
    *,
    actor: str,
    reason: str,
    steps: Sequence[float] = STEPS,
    step_seconds: float = STEP_SECONDS,
    converts: Sequence[str] = (),
) -> AliasMove:
    """Let `version` answer the first step's share of the users.

    Raises `InvalidInput`, `NotFound`, `Conflict`, and `CorruptArtefact` for a version that cannot be opened.
    """
    shares = checked_steps(steps)
    running = registry.alias(CANARY)
    if running is not None:
        raise Conflict(f"version {running.version} is the canary: stop it first")
    rollout = Rollout(
        share=shares[0],
        salt=token_hex(4),
        started_at=datetime.now(UTC),
        control=_other_than_live(registry, version),
        steps=shares,
        step_seconds=step_seconds,
        converts=tuple(converts),
    )
    if shares[0] >= 1.0:
        raise InvalidInput("steps", "need one below 1: a canary that answers everybody is a promote")
    return registry.move_alias(CANARY, version, actor=actor, reason=reason, rollout=rollout)


def advance_canary(
    registry: ModelRegistry, judged_move: AliasMove | None = None, *, actor: str, reason: str
) -> AliasMove:
    """On to the next step; after the last one the version is promoted and the canary over.

    `judged_move` is the state that was judged. Raises `Conflict` where it is not the newest any more, `NotFound`
    without one, and `CorruptArtefact`, with nothing moved, for a version that cannot be opened.
    """
    move = judged_move or _running(registry, CANARY)
    rollout = move.rollout
    if rollout is None:
        raise InvalidInput("canary", f"version {move.version} was put there without steps: stop it and start a canary")
    share = next_share(rollout.share, rollout.steps)
    if share < 1.0:
        further = msgspec.structs.replace(rollout, share=share)
        return registry.move_alias(
            CANARY, move.version, actor=actor, reason=reason, rollout=further, last_sequence=move.sequence
        )
    registry.prove(move.version)
    # Cleared first: of two operators the second must not promote a canary that the first has just stopped.
    stop(registry, CANARY, move, actor=actor, reason=reason)
    return promote(registry, move.version, actor=actor, reason=reason)


def start_shadow(
    registry: ModelRegistry, version: str, *, actor: str, reason: str, share: float = SHADOW_SHARE
) -> AliasMove:
    """Ask `version` too for a share of the requests. Raises as `start_canary`."""
    if not 0 < share <= 1:
        raise InvalidInput("share", "is a share of the requests: above 0, and 1 at most")
    rollout = Rollout(
        share=share,
        salt=token_hex(4),
        started_at=datetime.now(UTC),
        control=_other_than_live(registry, version),
    )
    return registry.move_alias(SHADOW, version, actor=actor, reason=reason, rollout=rollout)


def stop(
    registry: ModelRegistry, alias: str, judged_move: AliasMove | None = None, *, actor: str, reason: str
) -> AliasMove:
    """End a canary or shadow; of a canary, everybody gets the live version again. Raises as `advance_canary`."""
    move = judged_move or _running(registry, alias)
    return registry.move_alias(alias, None, actor=actor, reason=reason, last_sequence=move.sequence)


def _other_than_live(registry: ModelRegistry, version: str) -> str:
    """The live version. Raises `Conflict` where there is none, or it is `version`."""
    live = registry.alias(LIVE)
    if live is None:
        raise Conflict("no version is live yet: promote this one")
    if live.version == version:
        raise Conflict(f"version {version} is live already")
    return live.version


def _running(registry: ModelRegistry, alias: str) -> AliasMove:
    move = registry.alias(alias)
    if move is None:
        raise NotFound("rollout", alias)
    return move
