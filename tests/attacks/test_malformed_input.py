"""Whatever a request holds, its answer is a 2xx or a 4xx that is a problem, with a line in the log at most."""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, unquote

import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from app.main import create_app
from tests.attacks.in_process import app_settings

examples = settings(suppress_health_check=list(HealthCheck))

FIELDS: dict[tuple[str, str], tuple[str, ...]] = {
    ("POST", "/recommend"): (
        *("user_id", "k", "placement", "session_items", "cart_items", "exclude", "filter", "diversity"),
        *("properties", "pages", "cursor", "explain", "boosts", "context"),
    ),
    ("POST", "/recommend/batch"): ("users", "k", "placement", "exclude", "filter", "properties"),
    ("POST", "/explain"): ("item_id", "user_id", "k", "filter", "boosts", "context", "placement"),
    ("POST", "/events"): (
        *("events", "user_id", "item_id", "type", "event_id", "occurred_at", "quantity", "price"),
        *("session_id", "recommendation_id"),
    ),
    ("PUT", "/items"): ("items", "item_id", "title", "price", "categories", "available", "properties"),
    ("POST", "/users/u1/merge"): ("from",),
    ("PUT", "/placements/fuzz"): (
        *("k", "sources", "filter", "exclude_seen", "boosts", "diversity", "max_per_category", "rotate_hours"),
        *("min_score", "fallback", "trending_hours", "properties"),
    ),
    ("POST", "/recommend/preview"): ("placement", "version", "user_id", "k", "session_items", "context", "explain"),
    ("POST", "/versions/first/recommend"): ("user_id", "k", "filter", "boosts", "pages", "cursor"),
    ("POST", "/versions/none/promote"): ("reason", "alias"),
    ("POST", "/rollouts/canary"): ("version", "reason", "steps", "step_hours", "converts"),
    ("POST", "/rollouts/shadow"): ("version", "reason", "share"),
}
PARAMETERS: dict[str, tuple[str, ...]] = {
    "/recommend": (
        *("user_id", "k", "placement", "session_items", "cart_items", "exclude", "filter", "diversity"),
        *("properties", "pages", "cursor", "explain", "nonsense"),
    ),
    "/popular": ("k", "filter", "properties"),
    "/trending": ("k", "filter", "hours"),
    "/new": ("k", "filter"),
    "/items/i1/similar": ("k", "filter"),
    "/items": ("item_id",),
    "/versions/history": ("limit",),
}
PATHS = ("/items/{}", "/items/{}/similar", "/users/{}", "/users/{}/erasures/{}", "/placements/{}", "/versions/{}/pin")

texts = (
    st.sampled_from(["", "u1", "i1", "home", "first", "price < 1", "((((", "price < ", '"', "title = 'a", "null", "*"])
    | st.sampled_from(
        ["\x00", "\x1b[31m", "\u2028", "é" * 200, "x" * 3000, "NaN", "-1", "1e999", "9" * 400, "0000-00-00"]
    )
    | st.text(max_size=30)
)
numbers = (
    st.sampled_from([0, -1, 1, 5, 2**31, 2**63, 2**64, -(2**70), 10**400, 0.5, -0.0, 1e308, 5e-324]) | st.integers()
)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["when", "factor", "source", "share", "purchase", "item_id", "*"]) | texts,
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
SPOILT = (
    *(b"", b"null", b"[]", b"{", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf{}", b"{}x", b"[" * 100_000),
    *(b'{"k":NaN}', b'{"k":Infinity}', b'{"k":1,"k":2}', b'{"k":1e99999}', b'{"k":-0}', b'{"k":01}'),
    *(b'{"k":' + b"9" * 5000 + b"}", b'{"context":' * 50_000, b'{"items":[' + b"[" * 50_000),
    *(b'{"user_id":"\\ud800"}', b'{"user_id":"\xff"}', b'{"\xff":1}', b'{"events":[{"user_id":"\xff"}]}'),
    b'{"filter":"' + b"(" * 2000 + b'"}',
    b'{"user_id":"u1","item_id":"i1","type":"view","occurred_at":"9999-12-31T23:59:59.999999-23:59"}',
    b'{"user_id":"u1","item_id":"i1","type":"view","occurred_at":"0001-01-01T00:00:00+23:59"}',
)
FUZZ = st.binary(max_size=20) | st.sampled_from(
    [b"%", b"%zz", b"%ff", b"%ed%a0%80", b"%00", b"+", b"&&", b"=", b"\xff"]
)


Stands = Callable[..., None]


@pytest.fixture(scope="module")
def stand(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stands]:
    """Without keys, so that every route can be reached."""
    made = create_app(app_settings(valkey_url, tmp_path_factory.mktemp("malformed")))
    with asyncio.Runner() as runner:
        lifespan = made.router.lifespan_context(made)
        runner.run(lifespan.__aenter__())
        yield lambda *request, **sent: runner.run(stands(made, *request, **sent))
        runner.run(lifespan.__aexit__(None, None, None))


async def stands(app: FastAPI, method: str, path: str, query: bytes = b"", body: bytes = b"") -> None:
    """The answer is no fault of the service's; all as bytes, since clients mend what they send."""
    raw = path.encode("utf-8", "surrogateescape")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": raw,
        "query_string": query,
        "root_path": "",
        "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(messages, {"type": "http.disconnect"})

    async def send(message: Any) -> None:
        sent.append(message)

    with capture_logs() as logs:
        await app(scope, receive, send)
    status = sent[0]["status"]
    content = b"".join(message.get("body", b"") for message in sent[1:])
    assert status < 500, (status, content[:300])
    json.loads(content, parse_constant=pytest.fail)  # NaN and Infinity are no JSON
    if status >= 400:
        assert dict(sent[0]["headers"])[b"content-type"] == b"application/problem+json"
        assert len(content) < 4000, "what was sent is not sent back"
        assert len(logs) <= 1
    assert "exc_info" not in str(logs), logs


@pytest.mark.parametrize(("method", "path"), FIELDS)
@examples
@given(data=st.data())
def test_bodies_of_any_values(stand: Stands, method: str, path: str, data: st.DataObject) -> None:
    body = data.draw(st.dictionaries(st.sampled_from(FIELDS[method, path]), values, max_size=5))
    stand(method, path, body=encoded(body))


@pytest.mark.parametrize(("method", "path"), FIELDS)
def test_bodies_that_are_no_json_or_hardly(stand: Stands, method: str, path: str) -> None:
    for body in SPOILT:
        stand(method, path, body=body)


@pytest.mark.parametrize("path", PARAMETERS)
@examples
@given(data=st.data())
def test_queries_of_any_bytes(stand: Stands, path: str, data: st.DataObject) -> None:
    names = st.sampled_from(PARAMETERS[path]).map(str.encode)
    content = (
        FUZZ | texts.map(lambda text: quote(text).encode()) | numbers.map(lambda number: str(number)[:500].encode())
    )
    query = b"&".join(
        data.draw(st.lists(st.builds(lambda name, value: name + b"=" + value, names, content), max_size=4))
    )
    stand("GET", path, query=query)


@examples
@given(
    path=st.sampled_from(PATHS),
    part=texts.filter(bool) | st.sampled_from(["%ff", "%00", "%ed%a0%80", "%2F%41", "..", "%C3%A9"]),
)
def test_paths_of_any_characters(stand: Stands, path: str, part: str) -> None:
    quoted = part if part.startswith("%") else quote(part, safe="")
    stand("POST" if path.endswith("/pin") else "GET", path.format(quoted, quoted), body=b'{"reason":"fuzz"}')


def encoded(value: Any) -> bytes:
    """As JSON; texts that no UTF-8 can say are escaped, numbers are whatever they are."""
    return json.dumps(value).encode()
