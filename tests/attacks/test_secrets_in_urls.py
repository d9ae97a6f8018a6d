"""A password or token in a URL of any setting is shown nowhere: in no dump, repr, error, log line or finding."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from types import UnionType
from typing import Any, Union, get_args, get_origin

import pytest
import structlog
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_settings import SettingsError
from typer.testing import CliRunner

from app.http.problems import problem_of
from millirec.main import app
from millirec.settings import Settings, load_settings
from recsys.errors import RegistryUnavailable
from recsys.observability.telemetry import configure_logging
from recsys.observability.text import masked

PASSWORD, TOKEN = "hunter2", "t0psecret"
SHAPES = (
    f"s3://user:{PASSWORD}@bucket/path?sig={TOKEN}",
    f"redis://:{PASSWORD}@db:6379/0?password={TOKEN}",
    f"https://user:{PASSWORD}@host/metrics?x=1&access_token={TOKEN}#top",
    f"az://user:{PASSWORD}/@host/c?sv=1&se=2&sig={TOKEN}&x=y",
)
PLAIN = ("redis://db:6379/0", "unix:///run/a@b/sock", "s3://bucket/path@2?region=eu", "no URL: a@b?key=x", "/data/log")


def texts_of(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every setting below `model` that may hold a text, as a path and whether it holds several."""
    for name, field in model.model_fields.items():
        kinds = list(flat(field.annotation))
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel) and tuple not in kinds:
                yield from texts_of(kind, (*path, name))
        if str in kinds or SecretStr in kinds:
            yield (*path, name), tuple in kinds


def flat(annotation: Any) -> Iterator[Any]:
    origin = get_origin(annotation)
    if origin is None:
        yield annotation
        return
    if origin not in (Union, UnionType):
        yield origin
    for inner in get_args(annotation):
        yield from flat(inner)


SETTINGS = sorted({(".".join(path), several) for path, several in texts_of(Settings)})


def variable(path: str) -> str:
    return "MILLIREC_" + path.replace(".", "__").upper()


def is_clean(text: str) -> bool:
    return PASSWORD not in text and TOKEN not in text


def test_the_settings_that_may_hold_a_url_are_among_those_tried() -> None:
    names = {name for name, _ in SETTINGS}
    assert {"store.url", "registry.url", "log.path", "console.api_url", "console.metrics_urls"} <= names
    assert {"console.oidc.issuer", "console.origins", "serve.cors_origins", "topic.kafka.bootstrap"} <= names


@pytest.mark.parametrize(("name", "several"), SETTINGS)
def test_no_setting_shows_it(name: str, several: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Either it is refused without a word of it, or it is masked wherever settings are shown."""
    for shape in SHAPES:
        monkeypatch.setenv(variable(name), json.dumps([shape]) if several else shape)
        shown = CliRunner().invoke(app, ["config"])
        assert is_clean(shown.output + repr(shown.exception)), shown.output
        try:
            settings: object = Settings()
        except (ValidationError, SettingsError) as error:
            settings = error
        assert is_clean(repr(settings) + str(settings))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("as_json", [True, False], ids=["JSON", "for people"])
def test_no_log_line_shows_it(shape: str, as_json: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    before, handlers = structlog.get_config(), list(logging.getLogger().handlers)
    configure_logging(json=as_json)
    try:
        password_in_a_variable = shape
        try:
            raise RuntimeError(f"no connection to {password_in_a_variable}")
        except RuntimeError as error:
            structlog.get_logger().error("failed", error=str(error), urls=[shape], exc_info=True)
            logging.getLogger("library").exception("it failed at %s", shape)
    finally:
        structlog.configure(**before)
        logging.getLogger().handlers[:] = handlers
    assert "RuntimeError" in written.getvalue()
    assert is_clean(written.getvalue()), written.getvalue()


@pytest.mark.parametrize("shape", SHAPES)
def test_no_error_shows_it(shape: str) -> None:
    error = RegistryUnavailable(f"the model registry cannot be opened at {shape}: no such bucket {shape!r}")
    assert is_clean(str(error))
    assert "***@" in str(error)
    assert is_clean(bytes(problem_of(error, "/versions").body).decode())


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_no_secret_stays(text: str) -> None:
    assert masked(text) in (text, "s3://***@2?region=eu")


def test_settings_load_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLIREC_REGISTRY__URL", SHAPES[0])
    assert load_settings().registry.url == SHAPES[0], "masked where it is shown, and not where it is used"
