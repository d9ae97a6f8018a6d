"""A placement as text to edit: laid out so that every field has a line, and checked so that an error names it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from recsys.errors import InvalidInput
from recsys.placement import Placement
from recsys.printable import printable_json
from recsys.wire import invalid_input

WIDTH = 78
"""Characters. What fits is written on one line."""


@dataclass(frozen=True, slots=True)
class Misfit:
    """What is wrong with a text, where: `line` counts from 1, `field` is empty for what is no JSON."""

    line: int
    field: str
    reason: str

    @property
    def words(self) -> str:
        return f"line {self.line}, {self.field or 'JSON'}: {self.reason}"


def text_of(placement: object) -> str:
    """Of a `Placement`, or of anything JSON can say."""
    return printable_json(_laid_out(json.loads(msgspec.json.encode(placement)))[0])


def check(text: str) -> tuple[str, Placement | Misfit]:
    """The text laid out anew where it is JSON, and the placement it says or what is wrong with it."""
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
    known = path
    while known not in lines:
        known = known.rpartition(".")[0]
    return Misfit(lines[known], path or "placement", error.reason)


def _laid_out(value: Any) -> tuple[str, dict[str, int]]:
    """Pretty JSON and the line of each value by its path, `boosts.0.factor`."""
    lines: list[str] = []
    places: dict[str, int] = {}

    def write(one: Any, path: str, before: str, after: str) -> None:
        places[path] = len(lines) + 1
        flat = json.dumps(one, ensure_ascii=False)
        inner = dict(enumerate(one)) if isinstance(one, list) else one
        if not isinstance(inner, dict) or not inner or (path and len(before) + len(flat) < WIDTH):
            lines.append(f"{before}{flat}{after}")
            _note(inner, path, places)
            return
        indent = " " * (len(before) - len(before.lstrip()) + 2)
        opened, closed = "[]" if isinstance(one, list) else "{}"
        lines.append(f"{before}{opened}")
        for place, (name, part) in enumerate(inner.items(), 1):
            label = "" if isinstance(one, list) else f"{json.dumps(name, ensure_ascii=False)}: "
            comma = "," if place < len(inner) else ""
            write(part, f"{path}.{name}".strip("."), f"{indent}{label}", comma)
        lines.append(f"{indent[2:]}{closed}{after}")

    write(value, "", "", "")
    return "\n".join(lines), places


def _note(value: Any, path: str, places: dict[str, int]) -> None:
    """Everything within `value` stands on its line."""
    parts = dict(enumerate(value)) if isinstance(value, list) else value
    for name, part in parts.items() if isinstance(parts, dict) else ():
        places[f"{path}.{name}"] = places[path]
        _note(part, f"{path}.{name}", places)
