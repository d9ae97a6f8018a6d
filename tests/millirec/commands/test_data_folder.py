"""--data on either side of `up` and `demo` names the folder, no other command makes one, and ports are remembered."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from millirec.commands.up import chosen_folder
from millirec.operations import actor_name
from millirec.standalone.ports import Ports, choose_ports, remember_ports
from recsys.errors import InvalidInput

DEFAULT = Path("var/millirec")


def context_with(data: Path | None) -> typer.Context:
    command = typer.main.get_command(typer.Typer(callback=lambda: None, no_args_is_help=True))
    return typer.Context(command, obj=data)


@pytest.mark.parametrize(
    ("before", "after", "chosen"),
    [
        (Path("shop"), None, Path("shop")),
        (None, Path("shop"), Path("shop")),
        (Path("shop"), Path("./shop"), Path("shop")),
        (None, None, DEFAULT),
    ],
)
def test_the_folder_may_stand_on_either_side_of_the_command(
    before: Path | None, after: Path | None, chosen: Path
) -> None:
    assert chosen_folder(context_with(before), after, DEFAULT) == chosen


def test_two_different_folders_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"shop before the command and store after it"):
        chosen_folder(context_with(Path("shop")), Path("store"), DEFAULT)


def test_a_command_makes_no_folder_for_a_wrong_name(tmp_path: Path) -> None:
    for arguments in (["versions", "list"], ["import", str(tmp_path / "events.csv")], ["doctor"]):
        command = [sys.executable, "-m", "millirec", "--data", "shp", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, "shp is no folder of a deployment" in done.stderr) == (2, True), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_deployment_remembers_its_ports(tmp_path: Path) -> None:
    assert choose_ports(tmp_path, None, None) == Ports(service=8000, console=8080)
    remember_ports(tmp_path, choose_ports(tmp_path, 18000, None))
    assert choose_ports(tmp_path, None, 18080) == Ports(service=18000, console=18080)
    (tmp_path / "ports.json").write_text("{")
    assert choose_ports(tmp_path, None, None) == Ports()


@pytest.mark.parametrize("error", [KeyError("getpwuid(): uid not found"), OSError("No username set")])
def test_a_uid_without_a_name_acts_by_its_number(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def nameless() -> str:
        raise error

    monkeypatch.setattr("getpass.getuser", nameless)
    assert actor_name() == f"uid {os.getuid()}"
