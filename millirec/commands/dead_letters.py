"""millirec dead-letters list|show|replay|discard."""

import asyncio
import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.table import Column, Table

from millirec.operations import actor_name
from millirec.settings import Settings, load_settings
from millirec.terminal import console, print_json, print_json_lines, progress_bar
from recsys.errors import InvalidInput, NotFound
from recsys.stores.topic import open_interaction_topic

if TYPE_CHECKING:
    from recsys.stores.dead_letters.protocol import DeadLetter, DeadLetters, LetterQuery

app = typer.Typer(help="See, replay and discard the messages that could not be applied.", no_args_is_help=True)

AGO = re.compile(r"(\d{1,4})([smhd])")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
SHOWN_BYTES = 2_000


class StatusFilter(StrEnum):
    """The letters to select, by what became of them."""

    WAITING = "waiting"
    REPLAYED = "replayed"
    DISCARDED = "discarded"
    ALL = "all"


Ids = Annotated[list[str] | None, typer.Argument(help="Letters, by id or by how it begins.")]
Reason = Annotated[str, typer.Option(help="Only where the reason has this in it.")]
Field = Annotated[str, typer.Option(help="Only where this field was wrong, such as `occurred_at`.")]
Since = Annotated[str | None, typer.Option(help="Only what was seen since: `2h`, `7d`, or a time such as 2026-11-23.")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most so many, those seen last.")]
Everything = Annotated[bool, typer.Option("--all", help="All that wait.")]
Dry = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
Json = Annotated[bool, typer.Option("--json", help="JSON, one letter a line.")]


@app.command("list")
def list_letters(
    reason: Reason = "",
    field: Field = "",
    since: Since = None,
    status: Annotated[StatusFilter, typer.Option(help="What became of them.")] = StatusFilter.WAITING,
    limit: Limit = 50,
    json: Json = False,
) -> None:
    """List dead letters, those seen last first."""
    letters = _letters(load_settings()).letters(_query(status, None, reason, field, since, limit))
    if json:
        print_json_lines(letters)
        return
    if not letters:
        console.print("no dead letters")
        return
    table = Table(Column("letter", no_wrap=True), "status", "field", "reason", "from", Column("seen", justify="right"))
    table.add_column("last seen", no_wrap=True)
    for letter in letters:
        position, last_seen = f"{letter.partition}:{letter.offset}", f"{letter.last_seen:%Y-%m-%d %H:%M:%S}"
        table.add_row(
            letter.letter, letter.status, letter.field, letter.reason, position, str(letter.times_seen), last_seen
        )
    console.print(table)


@app.command()
def show(
    letter: Annotated[str, typer.Argument(help="A letter, by id or by how it begins.")], json: Json = False
) -> None:
    """Show one letter with all its fields, and its message."""
    letters = _letters(load_settings())
    matches = letters.letters(_query(StatusFilter.ALL, [letter], limit=2))
    if not matches:
        raise NotFound("dead letter", letter)
    if len(matches) > 1:
        raise InvalidInput("letter", f"{letter!r} is how several begin")
    content = letters.content(matches).get(matches[0].letter)
    if json:
        whole = {
            **msgspec.to_builtins(matches[0]),
            "content": None if content is None else msgspec.to_builtins(content),
        }
        print_json(whole)
        return
    table = Table.grid(padding=(0, 2))
    for name, value in msgspec.to_builtins(matches[0]).items():
        if value is not None:
            table.add_row(name.replace("_", " "), str(value))
    for name, header in ({} if content is None else content.headers).items():
        table.add_row(f"header {name}", _readable(header))
    console.print(table)
    console.print("the message is erased" if content is None else _readable(content.value))


@app.command()
def replay(
    letters: Ids = None,
    everything: Everything = False,
    reason: Reason = "",
    field: Field = "",
    since: Since = None,
    limit: Limit = None,
    dry_run: Dry = False,
) -> None:
    """Send the messages of waiting letters again, as they came, once their cause is gone.

    What is still wrong comes back as the same letter. An event that was counted in between is not counted twice.
    """
    settings = load_settings()
    store = _letters(settings)
    chosen = _chosen(store, _query(None, letters, reason, field, since, limit), everything)
    if dry_run:
        _rehearse(settings, store, chosen)
        return
    sent = asyncio.run(_replay(settings, store, chosen))
    console.print(f"{sent:,} replayed; what is still wrong will wait again", highlight=False)


@app.command()
def discard(
    explanation: Annotated[str, typer.Option("--why", "-w", help="Why; kept with the letter.")],
    letters: Ids = None,
    everything: Everything = False,
    reason: Reason = "",
    field: Field = "",
    since: Since = None,
    limit: Limit = None,
    dry_run: Dry = False,
) -> None:
    """Discard waiting letters: their messages are erased for good, and the letters record who did it and why."""
    if not explanation.strip():
        raise InvalidInput("why", "must say something")
    store = _letters(load_settings())
    chosen = _chosen(store, _query(None, letters, reason, field, since, limit), everything)
    if not dry_run:
        store.discard(chosen, actor_name(), explanation, datetime.now(UTC))
    console.print(f"{len(chosen):,} {'would be ' * dry_run}discarded", highlight=False)


def _letters(settings: Settings) -> "DeadLetters":
    from recsys.stores.dead_letters import open_dead_letters

    return open_dead_letters(settings.log)


def _query(
    choice: StatusFilter | None,
    ids: Sequence[str] | None,
    reason: str = "",
    field: str = "",
    since: str | None = None,
    limit: int | None = None,
) -> "LetterQuery":
    """Return the query of the options. Without a status, only waiting letters, or any that are named by id."""
    from recsys.stores.dead_letters.protocol import LetterQuery, Status

    choice = choice or (StatusFilter.ALL if ids else StatusFilter.WAITING)
    status = None if choice is StatusFilter.ALL else Status(choice.value)
    return LetterQuery(status, reason, field, None if since is None else _moment(since), ids or (), limit=limit)


def _chosen(store: "DeadLetters", query: "LetterQuery", everything: bool) -> "list[DeadLetter]":
    """Return the letters of `query` that are not discarded. Raises `InvalidInput` where nothing limits the choice."""
    if not everything and not (query.ids or query.reason or query.field or query.since or query.limit):
        raise InvalidInput("letters", "name some, filter them, or say --all")
    chosen = [letter for letter in store.letters(query) if letter.status.value != StatusFilter.DISCARDED]
    for name in query.ids:
        if not any(letter.letter.startswith(name) for letter in chosen):
            raise NotFound("dead letter", name)
    return chosen


def _rehearse(settings: Settings, store: "DeadLetters", chosen: "Sequence[DeadLetter]") -> None:
    from ingest.maintenance.replay import rehearse

    refused = rehearse(store, chosen, settings.ingest, datetime.now(UTC))
    console.print(f"{len(chosen):,} would be sent, {len(refused):,} of them refused again", highlight=False)
    for (field, reason), count in Counter((refusal.field, refusal.reason) for refusal in refused).most_common(20):
        console.print(f"  {count:,} {field}: {reason}", highlight=False)


async def _replay(settings: Settings, store: "DeadLetters", chosen: "Sequence[DeadLetter]") -> int:
    from ingest.maintenance.replay import replay

    async with open_interaction_topic(settings.topic, settings.store).producer() as producer:
        with progress_bar() as bar:
            task = bar.add_task("replay", total=len(chosen))
            return await replay(store, chosen, producer, actor_name(), lambda done: bar.update(task, advance=done))


def _moment(text: str) -> datetime:
    """Return the time that `2h` (ago) or an ISO time means, in UTC where it names no zone. Raises `InvalidInput`."""
    if (ago := AGO.fullmatch(text)) is not None:
        return datetime.now(UTC) - timedelta(**{UNITS[ago[2]]: int(ago[1])})
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput("since", f"{text!r} is neither like 2h nor a time") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _readable(value: bytes) -> str:
    """Return bytes as text where they are UTF-8, else as a Python literal, cut where they are long."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = repr(value[:SHOWN_BYTES])
    return text if len(text) <= SHOWN_BYTES else f"{text[:SHOWN_BYTES]}... ({len(value):,} bytes)"
