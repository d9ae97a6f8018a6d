"""The compose file, the Dockerfile and the documents agree with the settings and commands there are."""

import os
import re
import subprocess
import sys
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


def test_every_service_takes_no_more_than_its_share() -> None:
    for name, service in services().items():
        for limit in ("cpus", "mem_limit", "pids_limit"):
            assert service[limit], (name, limit)
        assert service["ulimits"]["nofile"] >= 65536, name
        # The image of Kafka writes beside its programs.
        assert service.get("read_only") is True or name == "kafka", name


def test_every_image_of_others_is_pinned_to_a_release_and_to_its_bytes_once_they_are_looked_up() -> None:
    images = {name: service["image"] for name, service in services().items() if "build" not in service}
    assert images
    for name, image in images.items():
        assert re.fullmatch(r"[\w./-]+:\d+\.\d+\.\d+[\w.-]*\$\{[A-Z]+_DIGEST:-\}", image), name
    for name, service in services().items():
        if "build" in service:
            assert service["build"]["args"] == {"PYTHON_DIGEST": "${PYTHON_DIGEST:-}"}, name
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    assert re.search(r"^ARG PYTHON=\d+\.\d+\.\d+-", dockerfile, re.MULTILINE)
    bases = re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)
    assert {base for base in bases if ":" in base} == {"python:${PYTHON}${PYTHON_DIGEST}"}


def test_an_audit_that_reaches_no_advisories_says_so_and_is_no_success() -> None:
    nowhere = {**os.environ, "PYTHON": sys.executable, "HTTPS_PROXY": "http://127.0.0.1:1"}
    done = subprocess.run([ROOT / ".ci/audit"], env=nowhere, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert "cannot be reached" in done.stderr
    assert "nothing was audited" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_workflow_audits_the_dependencies_and_runs_targets_there_are() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert "make audit" in commands
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert {"audit", "attacks", "digests"} <= targets
    for command in commands:
        if command.startswith("make "):
            assert command.split()[1] in targets, command
