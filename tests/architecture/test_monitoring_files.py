"""Alerts and the dashboard speak of metrics that exist, and of runbook sections that are there."""

import ast
import json
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Counter
from prometheus_client.metrics import MetricWrapperBase

import app.metrics
import ingest.metrics

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "helm/files/alerts.yaml"
DASHBOARD = ROOT / "helm/files/dashboard.json"
RUNBOOK = ROOT / "docs/runbook.md"
SUFFIXES = ("_bucket", "_sum", "_count", "_created")


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text("utf-8"))["groups"] for rule in group["rules"]]


def expressions() -> Iterator[str]:
    for rule in alerts():
        yield rule["expr"]
    for panel in json.loads(DASHBOARD.read_text("utf-8"))["panels"]:
        for target in panel["targets"]:
            yield target["expr"]


def exposed() -> dict[str, set[str]]:
    """The labels of each metric by its name as /metrics shows it, that of a histogram without its endings."""
    values = [*vars(app.metrics).values(), *vars(ingest.metrics).values()]
    metrics = [one for one in values if isinstance(one, MetricWrapperBase)]
    return {f"{one._name}{'_total' * isinstance(one, Counter)}": {*one._labelnames, "le"} for one in metrics}


def named(expression: str) -> Iterable[tuple[str, set[str]]]:
    """Each metric with the labels it is chosen by."""
    for name, chosen in re.findall(r"\b(millirec_[a-z_]+)(?:\{([^}]*)\})?", expression):
        stem = next((name.removesuffix(end) for end in SUFFIXES if name.endswith(end)), name)
        yield stem, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", chosen))


def test_every_metric_that_is_named_exists_with_the_labels_it_is_chosen_by() -> None:
    found = [one for expression in expressions() for one in named(expression)]
    assert len(found) > 30
    metrics = exposed()
    assert {name for name, _ in found} - metrics.keys() == set()
    assert [(name, labels) for name, labels in found if not labels <= metrics[name]] == []


def test_every_alert_and_finding_leads_to_its_section_of_the_runbook_and_every_section_to_one() -> None:
    sections = re.findall(r"^## (\S+)$", RUNBOOK.read_text("utf-8"), re.MULTILINE)
    alerted = list(dict.fromkeys(rule["annotations"]["runbook"] for rule in alerts()))
    assert sections[: len(alerted)] == alerted
    assert set(sections) == {*alerted, *sections_of_findings()}
    assert len(sections) == len(set(sections))


def sections_of_findings() -> set[str]:
    """Return the subjects of the doctor: the last of the words of `note(...)` and `wrong(...)`."""
    calls = [
        node
        for path in (ROOT / "millirec/checkup").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"note", "wrong"}
    ]
    found = {
        one.value
        for call in calls
        for one in call.args[3:]
        if isinstance(one, ast.Constant) and isinstance(one.value, str)
    }
    assert len(found) > 5
    return found


def test_a_counter_whose_increase_alerts_is_there_before_its_first_increase() -> None:
    watched = {name for rule in alerts() for name in re.findall(r"increase\((millirec_[a-z_]+)", rule["expr"])}
    watched -= {"millirec_watcher_failures_total"}  # by name of the watcher, which starts it
    counters = [one for one in vars(app.metrics).values() if isinstance(one, Counter)]
    found = {f"{one._name}_total": one for one in counters if f"{one._name}_total" in watched}
    assert found.keys() == watched
    assert [name for name, one in found.items() if one._labelnames and not one._metrics] == []


def test_every_alert_says_how_urgent_it_is() -> None:
    assert {rule["labels"]["severity"] for rule in alerts()} == {"page", "ticket"}


@pytest.mark.parametrize("arguments", [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts_test.yaml"]])
def test_promtool_is_content(arguments: list[str]) -> None:
    promtool = shutil.which("promtool") or str(ROOT / ".venv/prometheus/usr/bin/promtool")
    if not Path(promtool).exists():
        pytest.skip("promtool is not there: apt install prometheus")
    done = subprocess.run([promtool, *arguments], cwd=ALERTS.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
