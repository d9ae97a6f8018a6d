"""The HTML report of a training run: one file that needs no other, with every text of others escaped."""

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from recsys.stores.model_registry.memory import MemoryModelRegistry
from tests.training.conftest import checkerboard, log_of
from training.evaluation.bootstrap import Interval
from training.reports.report import write_html
from training.reports.result import TrainingResult
from training.runs.context import RunRequest
from training.runs.run import run
from training.settings import GateSettings, TrainSettings

HOSTILE = """</td></title></style><script>alert("1")</script><img src=x onerror='alert(2)'>&lt;{{ 7 * 7 }}"""


class Page(HTMLParser):
    """The elements of a page by name, the values of their attributes and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    settings = TrainSettings(
        factors=8,
        parameters={"iterations": 2},
        holdout_days=14.0,
        threads=1,
        gate=GateSettings(min_ratio_to_popularity=1.0),
        reports=tmp_path_factory.mktemp("reports"),
    )
    request = RunRequest(actor="ann", reason="the week's data", force=True)
    return run(settings, log_of(checkerboard()), MemoryModelRegistry(), request)


def written(result: TrainingResult, folder: Path) -> Page:
    write_html(replace(result, report=folder / "report.html"))
    return Page((folder / "report.html").read_text("utf-8"))


def test_the_report_shows_what_was_measured_in_one_file_without_scripts(result: TrainingResult, tmp_path: Path) -> None:
    page = written(result, tmp_path)
    for check in result.checks:
        assert check.name in page.text
        assert check.measured in page.text
    for evaluation in result.evaluations:
        assert evaluation.name in page.text
        assert f"{evaluation.metrics['recall@20']:.3f}" in page.text
    section = result.manifest.section
    assert f"{section['items']:,}, {section['users']:,}" in page.text
    assert page.elements.isdisjoint({"script", "link", "img", "iframe", "object"})
    references = {value for name, value in page.attributes if name in {"src", "href", "xlink:href"}}
    assert all(value.startswith("#") for value in references), "nothing is loaded from elsewhere"


def test_text_of_others_is_escaped_wherever_the_report_has_it(result: TrainingResult, tmp_path: Path) -> None:
    refused = replace(result.checks[0], name=HOSTILE, measured=HOSTILE, limit=HOSTILE, setting=HOSTILE, passed=False)
    trial = {**result.manifest.parameters["search_tried"][0], "spec": {"kind": HOSTILE}}
    manifest = msgspec.structs.replace(
        result.manifest,
        version=HOSTILE,
        section={**result.manifest.section, "algorithm": HOSTILE},
        parameters={**result.manifest.parameters, "search_tried": [trial]},
    )
    hostile = replace(
        result,
        manifest=manifest,
        discovery=(replace(result.candidate, name=HOSTILE),),
        checks=[refused],
        live_note=HOSTILE,
        rebuilt=(HOSTILE, [HOSTILE]),
    )
    plain, page = written(result, tmp_path), written(hostile, tmp_path)
    assert page.elements <= plain.elements | {"ul", "li"}
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.text.count(HOSTILE) == 16, "each is there as text, and its braces are no template"


def test_a_check_with_an_interval_adds_its_figure(result: TrainingResult, tmp_path: Path) -> None:
    check = replace(result.checks[0], interval=Interval(0.01, -0.02, 0.03, 40))
    with_figure = written(replace(result, checks=[check]), tmp_path)
    assert "Intervals over users" in with_figure.text
    assert "Intervals over users" not in written(replace(result, checks=[]), tmp_path).text


def test_a_report_without_evaluated_users_says_that_nothing_was_measured(
    result: TrainingResult, tmp_path: Path
) -> None:
    page = written(replace(result, candidate=replace(result.candidate, recall=result.candidate.recall[:0])), tmp_path)
    assert "nothing was measured" in page.text
    assert "Quality on the held-out days" not in page.text
