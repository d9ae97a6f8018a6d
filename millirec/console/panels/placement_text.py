"""A placement as text to edit: laid out so that every field has a line, and checked so that an error names it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from recsys.errors import InvalidInput
from recsys.messages.wire import invalid_input
from recsys.observability.text import printable_json
from recsys.recommender.placement import Placement

WIDTH = 78
"""Characters. What fits is written on one line."""


@dataclass(frozen=True, slots=True)
class Misfit:
    """An error in a text: `line` counts from 1, `field` is empty for what is not JSON."""

    line: int
    field: str
    reason: str

    @property
    def words(self) -> str:
        """The error with its line and field, for people."""
        return f"line {self.line}, {self.field or 'JSON'}: {self.reason}"


def text_of(placement: object) -> str:
    """Return a `Placement`, or any value that JSON can hold, as text to edit."""
    return printable_json(_laid_out(json.loads(msgspec.json.encode(placement)))[0])


def check(text: str) -> tuple[str, Placement | Misfit]:
    """Return the text laid out anew where it is JSON, and its placement or the error in it."""
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        return text, Misfit(line, "", getattr(error, "msg", "is nested too deeply"))
    laid_out, lines = _laid_out(value)
    try:
        return laid_out, msgspec.json.decode(text, type=Placement)
    except msgspec.DecodeError as error:
        return laid_out, _misfit(invalid_input(error, "body"), lines)


def _misfit(error: InvalidInput, lines: Mapping[str, int]) -> Misfit:
    path = "" if error.field == "body" else error.field
    parent = path
    while parent not in lines:
        parent = parent.rpartition(".")[0]
    return Misfit(lines[parent], path or "placement", error.reason)


def _laid_out(value: Any) -> tuple[str, dict[str, int]]:
    """Return pretty JSON and the line of each value by its path, `boosts.0.factor`."""
    lines: list[str] = []
    line_numbers: dict[str, int] = {}

    def write(node: Any, path: str, prefix: str, suffix: str) -> None:
        """Append the lines of a value."""
        line_numbers[path] = len(lines) + 1
        flat = json.dumps(node, ensure_ascii=False)
        inner = dict(enumerate(node)) if isinstance(node, list) else node
        if not isinstance(inner, dict) or not inner or (path and len(prefix) + len(flat) < WIDTH):
            lines.append(f"{prefix}{flat}{suffix}")
            _note(inner, path, line_numbers)
            return
        indent = " " * (len(prefix) - len(prefix.lstrip()) + 2)
        opened, closed = "[]" if isinstance(node, list) else "{}"
        lines.append(f"{prefix}{opened}")
        for number, (name, part) in enumerate(inner.items(), 1):
            label = "" if isinstance(node, list) else f"{json.dumps(name, ensure_ascii=False)}: "
            comma = "," if number < len(inner) else ""
            write(part, f"{path}.{name}".strip("."), f"{indent}{label}", comma)
        lines.append(f"{indent[2:]}{closed}{suffix}")

    write(value, "", "", "")
    return "\n".join(lines), line_numbers


def _note(value: Any, path: str, line_numbers: dict[str, int]) -> None:
    """Record the line of everything within `value`."""
    parts = dict(enumerate(value)) if isinstance(value, list) else value
    for name, part in parts.items() if isinstance(parts, dict) else ():
        line_numbers[f"{path}.{name}"] = line_numbers[path]
        _note(part, f"{path}.{name}", line_numbers)
