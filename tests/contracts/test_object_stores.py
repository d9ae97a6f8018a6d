"""Which store an address opens, with what from the environment, and how it asks for what must not be there yet."""

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote

import pytest
from obstore.store import AzureStore, GCSStore, S3Store

from recsys.clients.objects import Objects, object_store
from recsys.clients.storage_errors import reason_of
from recsys.errors import Unavailable
from recsys.settings import LogSettings
from recsys.stores.event_log import open_interaction_log
from recsys.stores.model_registry.object_store import ObjectStoreModelRegistry


class Cloud(ThreadingHTTPServer):
    """Keeps one object, refuses a second put with `refusal`, and remembers the headers of each put."""

    def __init__(self, refusal: int) -> None:
        super().__init__(("127.0.0.1", 0), Blobs)
        self.refusal = refusal
        self.puts: list[dict[str, str]] = []
        self.held: dict[str, bytes] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Blobs(BaseHTTPRequestHandler):
    server: Cloud

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.puts.append({name.lower(): value for name, value in self.headers.items()})
        if self.path in self.server.held:
            self._answer(self.server.refusal, b"")
        else:
            self.server.held[self.path] = body
            self._answer(201, b"")

    def do_GET(self) -> None:
        self._answer(200, self.server.held[self.path])

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        for name, value in (("ETag", '"1"'), ("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")):
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Write no log: it would only fill the output of the tests."""


@pytest.fixture
def cloud(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """One that answers as the scheme's would, where the environment says it is, with credentials from there."""
    google = request.param == "gs"
    with Cloud(refusal=412 if google else 409) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        account = {"gcs_base_url": server.url, "disable_oauth": True, "client_email": "", "private_key": ""}
        variables = {
            "GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps({**account, "private_key_id": ""}),
            "GOOGLE_ALLOW_HTTP": "true",
            "AZURE_STORAGE_ACCOUNT_NAME": "account",
            "AZURE_STORAGE_ACCOUNT_KEY": "bm90aGluZw==",
            "AZURE_STORAGE_ENDPOINT": server.url,
            "AZURE_ALLOW_HTTP": "true",
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("cloud", "url", "kind", "condition"),
    [
        ("gs", "gs://bucket/registry", GCSStore, ("x-goog-if-generation-match", "0")),
        ("az", "az://container/registry", AzureStore, ("if-none-match", "*")),
    ],
    indirect=["cloud"],
)
def test_google_and_azure_are_asked_to_take_a_move_only_where_there_is_none(
    cloud: Cloud, url: str, kind: type[GCSStore | AzureStore], condition: tuple[str, str]
) -> None:
    objects = Objects(url)
    assert isinstance(objects.store, kind)
    assert objects.create("aliases/live/00000001.json", b"ours")
    assert not objects.create("aliases/live/00000001.json", b"theirs")
    assert objects.get("aliases/live/00000001.json") == b"ours"
    assert [headers.get(condition[0]) for headers in cloud.puts] == [condition[1]] * 2
    assert all(unquote(path).endswith("/registry/aliases/live/00000001.json") for path in cloud.held)
    if kind is AzureStore:
        assert all(headers["authorization"].startswith("SharedKey account:") for headers in cloud.puts)


def test_amazon_is_asked_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    store = object_store("s3://bucket/registry")
    assert isinstance(store, S3Store)
    assert store.prefix == "registry"


@pytest.mark.parametrize(("scheme", "prefix"), [("s3", "AWS"), ("gs", "GOOGLE"), ("az", "AZURE")])
def test_settings_of_the_client_in_the_environment_win_over_ours(
    monkeypatch: pytest.MonkeyPatch, scheme: str, prefix: str
) -> None:
    monkeypatch.setenv(f"{prefix}_ALLOW_HTTP", "true")
    monkeypatch.setenv(f"{prefix}_TIMEOUT", "7s")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    options = object_store(f"{scheme}://bucket").client_options  # type: ignore[union-attr]
    assert options is not None
    assert (options.get("timeout"), options.get("connect_timeout")) == ("7s", "5s")
    assert str(options.get("allow_http")).lower() == "true"


def failure(url: str, kind: str) -> str:
    """What opening a registry or a log at `url` says."""
    registry, log = ObjectStoreModelRegistry(Objects(url)), open_interaction_log(LogSettings(path=url))
    call: Callable[[], object] = registry.versions if kind == "registry" else log.version
    with pytest.raises(Unavailable) as raised:
        call()
    return str(raised.value)


@pytest.mark.parametrize("kind", ["registry", "log"])
def test_plain_http_is_refused_unless_it_is_allowed(s3_url: str, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    assert ObjectStoreModelRegistry(Objects(s3_url)).versions() == []
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    assert failure(s3_url, kind).endswith(": http:// addresses need AWS_ALLOW_HTTP=true")


@pytest.mark.parametrize("kind", ["registry", "log"])
def test_what_an_object_store_refuses_is_one_sentence_in_one_line(
    s3_url: str, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    no_bucket = failure("s3://nobody-made-this/x", kind)
    assert no_bucket.endswith(": there is no such bucket or container: create it, or correct the name")
    assert "http://127.0.0.1" in no_bucket
    assert no_bucket.isprintable()


def test_a_store_that_is_away_is_one_sentence_in_one_line(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.clients.objects.RETRY", {"max_retries": 0})
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:9")
    away = failure("s3://bucket/registry", "registry")
    assert away.endswith(": it cannot be reached: check the address and the network")
    assert away.isprintable()


def test_secrets_and_colours_of_an_error_stay_behind() -> None:
    nested = "\x1b[31m↳\x1b[0m Error performing GET http://a:secret@host/x?sig=secret in 7.5ms - 418"
    error = f"Generic S3 error\n   {nested}"
    reason = reason_of(OSError(error))
    assert "secret" not in reason
    assert reason.isprintable()
