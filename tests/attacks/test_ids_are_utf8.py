"""Bytes that are no UTF-8 name nobody: 400 with the parameter's name, and never an id of U+FFFD."""

from collections.abc import Iterator
from http.client import HTTPConnection
from json import loads
from typing import Any

import pytest
from pydantic import SecretStr

from recsys.settings import StoreSettings
from tests.attacks.conftest import KEYS, keyed_environment
from tests.environment.deployment import Deployment, deployed
from tests.environment.fixtures import with_versions

BROKEN = ("%ff", "a%C3", "%C3%28", "%ED%A0%80", "%F8%88%80%80%80", "%C0%AF", "ok%80ok")
PATHS = (
    ("admin", "GET", "/users/{}", "user_id"),
    ("admin", "DELETE", "/users/{}", "user_id"),
    ("users", "POST", "/users/{}/merge", "user_id"),
    ("admin", "GET", "/users/u1/erasures/{}", "receipt"),
    ("admin", "GET", "/items/{}", "item_id"),
    ("recommend", "GET", "/items/{}/similar", "item_id"),
    ("admin", "PUT", "/placements/{}", "name"),
    ("admin", "POST", "/versions/{}/promote", "version"),
)
QUERIES = (
    ("recommend", "/recommend?user_id={}", "user_id"),
    ("recommend", "/recommend?k=3&cart_items=i1&cart_items={}", "cart_items"),
    ("recommend", "/recommend?properties=title,{}", "properties"),
    ("recommend", "/recommend?user_id=u1&cursor={}", "cursor"),
    ("recommend", "/items/i1/similar?filter={}", "filter"),
    ("recommend", "/popular?filter={}", "filter"),
    ("recommend", "/trending?hours={}", "hours"),
    ("recommend", "/new?properties={}", "properties"),
    ("admin", "/versions/history?limit={}", "limit"),
    ("admin", "/items?search={}", "search"),
    ("admin", "/versions?nothing={}", "nothing"),
)
SURROGATES = (rb'"\ud800"', rb'"a\udfff"', b'"\xed\xa0\x80"', b'"\xff"')


@pytest.fixture(scope="module")
def service(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    store = StoreSettings(url=SecretStr(valkey_url), prefix="utf8:", read_timeout=2.0, timeout=10.0)
    with deployed(store, tmp_path_factory.mktemp("utf8"), keyed_environment()) as made:
        with_versions(made).serve()
        yield made


def ask(service: Deployment, scope: str, method: str, target: str, body: bytes = b"") -> tuple[int, dict[str, Any]]:
    """As the bytes stand here: clients that know better would mend them."""
    connection = HTTPConnection("127.0.0.1", service.port, timeout=30)
    try:
        connection.putrequest(method, target, skip_host=False)
        connection.putheader("X-API-Key", KEYS[scope])
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, loads(answer.read())
    finally:
        connection.close()


@pytest.mark.parametrize(("scope", "method", "path", "field"), PATHS)
def test_a_path_has_to_be_utf8(service: Deployment, scope: str, method: str, path: str, field: str) -> None:
    for broken in BROKEN:
        status, problem = ask(service, scope, method, path.format(broken))
        assert status == 400, (broken, problem)
        assert problem["errors"] == [{"field": field, "reason": "is not valid UTF-8"}]


@pytest.mark.parametrize(("scope", "path", "field"), QUERIES)
def test_a_query_has_to_be_utf8(service: Deployment, scope: str, path: str, field: str) -> None:
    for broken in BROKEN:
        status, problem = ask(service, scope, "GET", path.format(broken))
        assert status == 400, (broken, problem)
        assert problem["errors"] == [{"field": field, "reason": "is not valid UTF-8"}]


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_a_body_has_to_be_utf8(service: Deployment, surrogate: bytes) -> None:
    for scope, method, path, body in (
        ("recommend", "POST", "/recommend", b'{"user_id": %s}'),
        ("recommend", "POST", "/recommend/batch", b'{"users": ["u1", %s]}'),
        ("events", "POST", "/events", b'{"user_id": %s, "item_id": "i1", "type": "view"}'),
        ("events", "POST", "/events", b'{"events": [{"user_id": "u1", "item_id": %s, "type": "view"}]}'),
        ("events", "POST", "/events", b'{"user_id": "u1", "item_id": "i1", "type": "view", "extra": {"x": %s}}'),
        ("catalogue", "PUT", "/items", b'{"item_id": "i1", "properties": {"x": %s}}'),
        ("users", "POST", "/users/u1/merge", b'{"from": %s}'),
        ("admin", "POST", "/versions/rollback", b'{"reason": %s}'),
    ):
        status, problem = ask(service, scope, method, path, body % surrogate)
        assert status == 422, (path, body, problem)
        assert problem["errors"][0]["field"], problem


def test_what_is_utf8_is_taken_as_it_is(service: Deployment) -> None:
    for text, sent in (
        ("é", "%C3%A9"),
        ("\ufffd", "%EF%BF%BD"),
        ("a b+c", "a%20b%2Bc"),
        ("日本", "%E6%97%A5%E6%9C%AC"),
    ):
        status, answer = ask(service, "admin", "GET", f"/users/{sent}")
        assert (status, answer["user_id"]) == (200, text)
        assert ask(service, "recommend", "GET", f"/recommend?user_id={sent}")[0] == 200
