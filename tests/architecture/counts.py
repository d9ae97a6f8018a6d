"""Counts that tell how the code reads: `make counts` prints them, `test_counts.py` holds them within bounds.

A bound name (assignment, argument, loop or `with` target, comprehension) is vague when it is a pronoun or participle
that says nothing of what it holds.
"""

import ast
import re
import statistics
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PACKAGES = ("app", "ingest", "training", "recsys", "millirec", "loadtests")
VAGUE = frozenset(
    "one other found told asked wanted known kept made given taken left seen those some many more most place then "  # noqa: SIM905
    "there here what why who wish now before after again".split()
)
"""Names that are never bound."""
SMALL_FILE = 40
"""Lines; a smaller file belongs to its only neighbour."""
SEAMS = re.compile(
    r".*/__(init|main)__\.py|recsys/stores/.*|millirec/commands/.*|millirec/console/pages/.*|loadtests/.*"
)
"""Files that stand alone however small they are: front doors, a store's contract and backends, a command, a page."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Sizes in lines, functions without their docstrings; `vague` are positions `path:line name`."""

    files: dict[str, int] = field(default_factory=dict)
    functions: dict[str, int] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    vague: list[str] = field(default_factory=list)
    undocumented: list[str] = field(default_factory=list)
    public: list[str] = field(default_factory=list)

    @property
    def vague_share(self) -> float:
        return len(self.vague) / max(1, len(self.names))

    @property
    def small_share(self) -> float:
        """The share of small files among all that are no seam."""
        return len(self.small) / max(1, sum(not SEAMS.fullmatch(name) for name in self.files))

    @property
    def all_small_share(self) -> float:
        """The share of small files among all."""
        return sum(lines < SMALL_FILE for lines in self.files.values()) / max(1, len(self.files))

    @property
    def small(self) -> list[str]:
        """Files under `SMALL_FILE` lines that are no seam."""
        return [name for name, lines in self.files.items() if lines < SMALL_FILE and not SEAMS.fullmatch(name)]

    @property
    def documented_share(self) -> float:
        return 1 - len(self.undocumented) / max(1, len(self.public))

    @property
    def median_function(self) -> float:
        return statistics.median(self.functions.values())

    def __str__(self) -> str:
        longest = max(self.functions, key=lambda name: self.functions[name])
        largest = max(self.files, key=lambda name: self.files[name])
        names = Counter(position.rsplit(" ", 1)[1] for position in self.vague)
        return "\n".join(
            [
                f"files: {len(self.files)}, {sum(self.files.values())} lines, largest {largest} {self.files[largest]}",
                f"files under {SMALL_FILE} lines: {100 * self.small_share:.1f} %, seams aside; "
                f"{100 * self.all_small_share:.1f} % with them",
                f"functions: {len(self.functions)}, median {self.median_function:.0f} lines, "
                f"longest {longest} ({self.functions[longest]})",
                f"public functions and classes with a docstring: {100 * self.documented_share:.1f} %",
                f"vague names: {100 * self.vague_share:.2f} % of {len(self.names)} bound; {dict(names.most_common(8))}",
            ]
        )


def count(root: Path, packages: Sequence[str] = PACKAGES) -> Counts:
    """Counts over the Python files of `packages` below `root`."""
    counts = Counts()
    for path in sorted(path for package in packages for path in (root / package).rglob("*.py")):
        text = path.read_text("utf-8")
        name = str(path.relative_to(root))
        lines = len(text.splitlines())
        if path.name != "__init__.py" or lines > 3:
            counts.files[name] = lines
        _count_tree(ast.parse(text), name, counts)
    return counts


def bound_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, name) of every name that `tree` binds."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg


def _count_tree(tree: ast.Module, path: str, counts: Counts) -> None:
    for line, name in bound_names(tree):
        counts.names.append(name)
        if name.strip("_").lower() in VAGUE:
            counts.vague.append(f"{path}:{line} {name}")
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
            counts.functions[f"{path}:{node.lineno} {node.name}"] = (body[-1].end_lineno or 0) - body[0].lineno + 1
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            counts.public.append(f"{path}:{node.lineno} {node.name}")
            if ast.get_docstring(node) is None:
                counts.undocumented.append(f"{path}:{node.lineno} {node.name}")


def main() -> None:
    """Print the counts, and with package names as arguments where the vague names and missing docstrings are."""
    packages = sys.argv[1:]
    counts = count(Path(__file__).parents[2], packages or PACKAGES)
    lines = [str(counts)]
    if packages:
        lines += ["", "vague names:", *counts.vague, "", "without a docstring:", *counts.undocumented]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
