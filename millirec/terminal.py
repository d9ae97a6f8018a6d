"""How the command line talks to people: one console, progress bars, errors that say what to do."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.segment import Segment
from rich.text import Text
from typer import TyperException
from typer.core import TyperGroup

from recsys.errors import GateRefused, InvalidInput, RecsysError, Unavailable
from recsys.observability.text import printable, printable_json

Model = Annotated[str, typer.Option("--model", help="The model that the version is of.")]


class Terminal(Console):
    """A console that shows text as it is: none of it is markup, and none of it moves the cursor.

    A string is one line; what has styles or lines of its own is a `Text`.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Render a string with control characters written out."""
        return super().render_str(printable(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of a renderable with control characters of its text written out."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text, lines=True))


class PrintableGroup(TyperGroup):
    """A group of commands whose usage errors quote arguments with control characters written out."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Parse the group's own options. Raises usage errors that can be printed."""
        with _printable_usage():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        """Parse and run the subcommand, however deep. Raises usage errors that can be printed."""
        with _printable_usage():
            return super().invoke(ctx)


@contextmanager
def _printable_usage() -> Iterator[None]:
    try:
        yield
    except TyperException as error:
        # A usage error's own class has no public name; what is printed of one is its `message`.
        if hasattr(error, "message"):
            error.message = printable(error.message, lines=True)
        raise


console = Terminal()
errors = Terminal(stderr=True)

_ADVICE: dict[type[RecsysError], str] = {
    Unavailable: "`millirec doctor` checks every connection.",
    GateRefused: "Look at the report; `--force --reason TEXT` publishes anyway and is recorded.",
}


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Show a progress bar on a terminal; nothing where output is a file."""
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=errors,
        transient=False,
        disable=not errors.is_terminal,
    ) as progress:
        yield progress


def print_json(value: object) -> None:
    """Print a value as JSON on standard output, for programs."""
    sys.stdout.write(printable_json(msgspec.json.format(msgspec.json.encode(value)).decode()) + "\n")


def print_json_lines(values: Iterable[object]) -> None:
    """Print each value as JSON on a line, for programs."""
    for value in values:
        sys.stdout.write(printable_json(msgspec.json.encode(value).decode()) + "\n")


def refuse(reason: str) -> None:
    """Print what is wrong, for a person."""
    errors.print(Text("error:", style="red"), Text(printable(reason, lines=True)), soft_wrap=True)


def explain(error: RecsysError) -> int:
    """Print `error` for a person and return the exit code: 2 for wrong input, 1 for everything else."""
    refuse(str(error))
    for kind, advice in _ADVICE.items():
        if isinstance(error, kind):
            errors.print(advice, highlight=False)
    return 2 if isinstance(error, InvalidInput) else 1
