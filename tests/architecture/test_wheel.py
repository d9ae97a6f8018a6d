"""The wheel has every file that the programs read at run time, not only their modules."""

import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
TEMPLATES = {
    "training.reports": {"report.html"},
    "millirec.console.login": {"layout.html", "login.html", "onward.html", "refused.html"},
}


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of the files in the wheel, as hatch builds it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=100)
    (wheel,) = folder.glob("*.whl")
    with ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.mark.parametrize("package", sorted(TEMPLATES))
def test_templates_are_resources_of_their_package(package: str) -> None:
    names = {resource.name for resource in (files(package) / "templates").iterdir()}
    assert names == TEMPLATES[package]


def test_the_wheel_has_every_file_of_its_packages(members: set[str]) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "app", "training", "ingest", "recsys", "millirec"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git work tree")
    assert set(listed.stdout.splitlines()) - members == set()
    assert "millirec/console/login/templates/login.html" in members
