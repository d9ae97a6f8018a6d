"""The compose file, the Dockerfile and the documents agree with the settings and commands there are."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from pydantic import BaseModel

from millirec.main import app
from millirec.settings import CONFIG_VARIABLE, Settings

ROOT = Path(__file__).parents[2]
FILES = ["compose.yaml", "Dockerfile", "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"]


def variables(model: type[BaseModel], prefix: str) -> set[str]:
    """Every environment variable that sets a field of `model`."""
    found: set[str] = set()
    for name, field in model.model_fields.items():
        variable = f"{prefix}{name}".upper()
        found.add(variable)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= variables(field.annotation, f"{variable}__")
    return found


def services() -> dict[str, dict[str, Any]]:
    composed: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"]
    return composed


@pytest.mark.parametrize("name", FILES)
def test_a_setting_that_is_named_exists(name: str) -> None:
    named = set(re.findall(r"MILLIREC_[A-Z][A-Z0-9_]*[A-Z0-9]", (ROOT / name).read_text("utf-8")))
    assert named - variables(Settings, "MILLIREC_") - {CONFIG_VARIABLE} == set()


def test_a_service_runs_a_command_there_is() -> None:
    ours = {name: one["command"] for name, one in services().items() if "build" in one and "command" in one}
    assert ours
    program = typer.main.get_command(app)
    for name, (command, *arguments) in ours.items():
        found = program.get_command(None, command)  # type: ignore[attr-defined]
        assert found is not None, name
        found.make_context(command, list(arguments))


def test_every_service_is_confined() -> None:
    for name, service in services().items():
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name


def test_every_image_is_pinned() -> None:
    for name, service in services().items():
        assert re.search(r":[\w.-]+$", service["image"]), name
        assert not service["image"].endswith(":latest"), name
