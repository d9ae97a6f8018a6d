"""How the command line talks to people: one console, progress bars, errors that say what to do."""

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from recsys.errors import GateRefused, InvalidInput, RecsysError, Unavailable

console = Console()
errors = Console(stderr=True)

_ADVICE: dict[type[RecsysError], str] = {
    Unavailable: "`millirec doctor` checks every connection.",
    GateRefused: "Look at the report; `--force --reason TEXT` publishes anyway and is recorded.",
}


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar on a terminal; nothing but the final state where output is a file."""
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=errors,
        transient=False,
        disable=not errors.is_terminal,
    ) as progress:
        yield progress


def explain(error: RecsysError) -> int:
    """Print `error` for a person and return the exit code: 2 for wrong input, 1 for everything else."""
    errors.print(f"[red]error:[/red] {escape(str(error))}", highlight=False)
    for kind, advice in _ADVICE.items():
        if isinstance(error, kind):
            errors.print(advice, highlight=False)
    return 2 if isinstance(error, InvalidInput) else 1


def explain_settings(error: ValidationError) -> int:
    """Print what is wrong with the settings, field by field, with the variable that sets it."""
    errors.print("[red]error:[/red] the settings are not valid")
    for one in error.errors(include_input=False, include_url=False):
        path = [str(part) for part in one["loc"]]
        variable = "MILLIREC_" + "__".join(path).upper()
        errors.print(f"  {'.'.join(path)} ({variable}): {escape(one['msg'])}", highlight=False)
    return 2
