"""The console's entrance: keys, sessions, origins, and OIDC against a provider that signs for real."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from fastapi import FastAPI, Request
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from starlette.responses import JSONResponse

from millirec.console.login import login
from millirec.console.login.access import AccessControl, create_entrance
from millirec.console.login.attempts import Attempts
from millirec.console.login.session import COOKIE, NOBODY, OPEN, Sessions
from millirec.console.service.client import Reachability
from millirec.console_settings import ConsoleSettings, OidcSettings
from tests.environment.oidc_provider import CLIENT, Provider, serving

HOST = "http://127.0.0.1:8080"
KEY = "mr_right"


def service(key: str | None) -> FastAPI:
    """As much of the service's door as a login sees; `tests/millirec/console/test_console.py` has the whole of it."""
    app = FastAPI()

    @app.get("/placements")
    async def placements(request: Request) -> Any:
        given_key = request.headers.get("x-api-key")
        if key is None or given_key == key:
            return {"placements": []}
        status, title = (403, "Not allowed") if given_key == "mr_of_a_shop" else (401, "Not authenticated")
        return JSONResponse({"title": title, "status": status, "detail": "no"}, status)

    return app


@asynccontextmanager
async def browser(
    key: str | None = KEY, settings: ConsoleSettings | None = None, **headers: str
) -> AsyncIterator[tuple[httpx.AsyncClient, login.Login]]:
    """A browser before the console's entrance, behind which there is one page that says hello."""
    settings = settings or ConsoleSettings()
    sessions = Sessions(settings.session_minutes * 60, settings.max_sessions)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(service(key)), base_url="http://service") as http:
        entrance = login.Login(settings, sessions, Attempts(), http, Reachability())
        pages = FastAPI()
        app = AccessControl(pages, create_entrance(entrance), sessions, settings.host, settings.origins)

        @pages.api_route("/page", methods=["GET", "POST"])
        async def page() -> str:
            return "hello"

        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url=HOST, headers={"Origin": HOST, **headers}
        ) as client:
            yield client, entrance


async def test_nobody_sees_a_page_without_logging_in() -> None:
    async with browser() as (client, _):
        answer = await client.get("/page?a=b")
        assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=%2Fpage%3Fa%3Db")
        assert (await client.post("/page")).status_code == 401


async def test_an_admin_key_lets_in_and_stays_on_the_server() -> None:
    async with browser() as (client, entrance):
        answer = await client.post("/login", data={"key": KEY, "next": "/page"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/page")
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert KEY not in str(answer.headers) + answer.text
        assert (await client.get("/page")).json() == "hello"
        session = entrance.sessions.find(client.cookies[COOKIE])
        assert session is not None
        assert session.key == KEY
        assert KEY not in repr(session), "a key that is logged by accident"


@pytest.mark.parametrize(("key", "status", "words"), [("mr_wrong", 401, "does not know"), ("mr_of_a_shop", 403, "no")])
async def test_a_key_that_may_not_administer_is_refused_in_words(key: str, status: int, words: str) -> None:
    async with browser() as (client, _):
        answer = await client.post("/login", data={"key": key})
        assert answer.status_code == status
        assert words in answer.text
        assert COOKIE not in client.cookies


async def test_a_service_without_keys_lets_in_by_one_click_and_says_so() -> None:
    async with browser(key=None) as (client, _):
        assert "no keys configured" in (await client.get("/login")).text
        assert (await client.post("/login", data={})).status_code == 303


async def test_a_login_without_a_key_is_refused_where_the_service_has_keys() -> None:
    async with browser() as (client, _):
        assert (await client.post("/login", data={})).status_code == 401


async def test_wrong_keys_make_the_next_attempt_wait() -> None:
    async with browser() as (client, _):
        for _attempt in range(3):
            assert (await client.post("/login", data={"key": "mr_wrong"})).status_code == 401
        answer = await client.post("/login", data={"key": KEY})
        assert answer.status_code == 429, "even with the right key"
        assert int(answer.headers["retry-after"]) >= 1


async def test_a_form_that_is_too_large_is_not_read() -> None:
    async with browser() as (client, _):
        assert (await client.post("/login", data={"key": KEY, "more": "x" * 10_000})).status_code == 413


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9999"])
async def test_a_request_of_another_origin_is_refused(origin: str) -> None:
    async with browser(Origin=origin) as (client, _):
        assert (await client.post("/login", data={"key": KEY})).status_code == 403


async def test_a_change_without_an_origin_is_refused() -> None:
    async with browser() as (client, _):
        del client.headers["origin"]
        assert (await client.post("/login", data={"key": KEY})).status_code == 403


async def test_a_name_that_was_bent_to_this_machine_is_refused() -> None:
    async with browser(Host="rebound.example:8080", Origin="http://rebound.example:8080") as (client, _):
        assert (await client.get("/login")).status_code == 421


REBOUND = "rebound.example:8080"


@pytest.mark.parametrize(("host", "status"), [(REBOUND, 403), ("[::1", 403), ("localhost:8080", 303), ("[::1]", 303)])
async def test_without_a_key_a_bent_name_is_refused_on_all_addresses_too(host: str, status: int) -> None:
    everywhere = ConsoleSettings(host="0.0.0.0", allow_anonymous=True)  # noqa: S104
    async with browser(None, everywhere, Host=host, Origin=f"http://{host}") as (client, _):
        for form in ({}, {"key": "anything"}):
            answer = await client.post("/login", data=form)
            assert (answer.status_code, "set-cookie" in answer.headers) == (status, status == 303)


async def test_with_a_key_or_a_name_of_the_settings_any_name_will_do() -> None:
    everywhere = ConsoleSettings(host="0.0.0.0", allow_anonymous=True)  # noqa: S104
    async with browser(KEY, everywhere, Host=REBOUND, Origin=f"http://{REBOUND}") as (client, _):
        assert (await client.post("/login", data={"key": KEY})).status_code == 303
    named = everywhere.model_copy(update={"origins": (f"http://{REBOUND}",)})
    async with browser(None, named, Host=REBOUND, Origin=f"http://{REBOUND}") as (client, _):
        assert (await client.post("/login", data={})).status_code == 303


async def test_the_origin_of_a_proxy_is_taken_where_the_settings_name_it() -> None:
    settings = ConsoleSettings(origins=("https://console.example",))
    async with browser(settings=settings, Origin="https://console.example") as (client, _):
        assert (await client.post("/login", data={"key": KEY})).status_code == 303


async def test_every_answer_tells_the_browser_to_be_careful() -> None:
    async with browser() as (client, _):
        for answer in (await client.get("/login"), await client.get("/page")):
            assert answer.headers["x-frame-options"] == "DENY"
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
            assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_login_ends_by_itself_and_the_oldest_makes_room() -> None:
    over = Sessions(seconds=0.0, limit=10)
    assert over.find(over.open("ann", KEY)) is None
    assert over.find(over.open(NOBODY, None)) is None
    few = Sessions(seconds=60.0, limit=2)
    names = [few.open(person, KEY) for person in ("ann", "bob", "eve")]
    assert [few.find(name) is not None for name in names] == [False, True, True]
    few.close(names[1])
    assert few.find(names[1]) is None


def test_logins_without_a_key_take_no_room_and_end_nobody_elses() -> None:
    sessions = Sessions(seconds=60.0, limit=2)
    keyed, first = sessions.open("ann", KEY), sessions.open(NOBODY, None)
    others = [sessions.open(NOBODY, None) for _ in range(100)]
    assert sessions.find(keyed) is not None
    assert sessions.find(first) == sessions.find(first) is not None
    sessions.close(first)
    assert sessions.find(first) is None
    assert sessions.find(others[-1]) is not None


def test_a_name_that_nobody_signed_opens_nothing() -> None:
    sessions, another = (Sessions(seconds=60.0, limit=2) for _ in range(2))
    name = sessions.open(NOBODY, None)
    kind, ends, rest = name.split(".", 2)
    for forged in (
        another.open(NOBODY, None),
        f"{kind}.{int(ends) + 1}.{rest}",
        name[:-1],
        f"{OPEN}.",
        f"{OPEN}...",
        f"{name}\u00e9",
    ):
        assert sessions.find(forged) is None
        sessions.close(forged)
    assert sessions.find(name) is not None


@pytest.mark.parametrize("key", ["", KEY], ids=["no key", "any key"])
@pytest.mark.parametrize(
    "settings",
    [
        ConsoleSettings(host="0.0.0.0"),  # noqa: S104
        ConsoleSettings(oidc=OidcSettings(issuer="http://127.0.0.1:1", client_id="c", subjects=("ann",))),
    ],
    ids=["on all addresses", "beside a provider"],
)
async def test_a_service_without_keys_opens_no_console_that_others_reach(settings: ConsoleSettings, key: str) -> None:
    async with browser(key=None, settings=settings) as (client, _):
        assert "Continue without a key" not in (await client.get("/login")).text
        refused = await client.post("/login", data={"key": key})
        assert refused.status_code == 403
        assert "console.allow_anonymous" in refused.text
        assert COOKIE not in client.cookies


async def test_a_console_that_others_reach_is_open_where_its_settings_say_so() -> None:
    settings = ConsoleSettings(host="0.0.0.0", allow_anonymous=True)  # noqa: S104
    async with browser(key=None, settings=settings) as (client, _):
        assert (await client.post("/login", data={})).status_code == 303
        assert (await client.get("/page")).json() == "hello"


@given(st.text(alphabet="/\\:@.?#%&=abc \t\n\r", max_size=30))
def test_a_login_never_leads_to_another_site(wanted: str) -> None:
    path = login.own_path(wanted)
    split = urlsplit(path)
    assert path.startswith("/")
    assert not split.netloc
    assert not path.startswith(("//", "/\\"))


SUBJECT = {"sub": "77", "email": "Ann@shop.example", "email_verified": True}


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with serving() as started:
        yield started


def by_oidc(provider: Provider) -> ConsoleSettings:
    told = OidcSettings(issuer=provider.url, client_id=CLIENT, domains=("shop.example",))
    return ConsoleSettings.model_validate({"api_key": KEY, "oidc": told})


async def come_back(client: httpx.AsyncClient, provider: Provider, claims: dict[str, Any]) -> httpx.Response:
    """Log in at the provider, which then says `claims`; the nonce is the right one unless they name another."""
    begun = await client.get("/oidc/login?next=/page")
    asked = {name: values[0] for name, values in parse_qs(urlsplit(begun.headers["location"]).query).items()}
    assert (asked["code_challenge_method"], asked["response_type"]) == ("S256", "code")
    provider.claims = {"nonce": asked["nonce"], **claims}
    return await client.get("/oidc/callback", params={"state": asked["state"], "code": "c"})


async def test_a_person_of_a_welcome_domain_comes_in_with_the_consoles_own_key(provider: Provider) -> None:
    async with browser(settings=by_oidc(provider)) as (client, entrance):
        answer = await come_back(client, provider, SUBJECT)
        assert answer.status_code == 200
        assert re.search(r'http-equiv="refresh" content="0;url=/page"', answer.text), "no redirect: cookies are strict"
        session = entrance.sessions.find(client.cookies[COOKIE])
        assert session is not None
        assert (session.person, session.key, session.by_oidc) == ("ann@shop.example", KEY, True)
        assert len(provider.asked["code_verifier"]) >= 43, "proof that it was begun here"


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({"sub": "77", "email": "ann@shop.example", "email_verified": False}, 403),
        ({"sub": "77", "email": "ann@shop.example"}, 403),
        ({"sub": "77", "email": "eve@not-shop.example", "email_verified": True}, 403),
        ({"sub": "77", "email": "eve@shop.example.evil.example", "email_verified": True}, 403),
        ({**SUBJECT, "nonce": "another"}, 400),
        ({**SUBJECT, "aud": "another"}, 400),
        ({**SUBJECT, "iss": "https://another.example"}, 400),
        ({**SUBJECT, "exp": 1_600_000_000}, 400),
    ],
)
async def test_whoever_is_not_welcome_or_not_proven_stays_outside(
    provider: Provider, claims: dict[str, Any], status: int
) -> None:
    async with browser(settings=by_oidc(provider)) as (client, _):
        assert (await come_back(client, provider, claims)).status_code == status
        assert COOKIE not in client.cookies


async def test_a_login_that_was_begun_elsewhere_or_used_before_is_refused(provider: Provider) -> None:
    async with browser(settings=by_oidc(provider)) as (client, _):
        first = await come_back(client, provider, SUBJECT)
        again = await client.get(first.request.url)
        assert again.status_code == 400
        begun = await client.get("/oidc/login")
        client.cookies.clear()
        state = parse_qs(urlsplit(begun.headers["location"]).query)["state"][0]
        assert (await client.get("/oidc/callback", params={"state": state, "code": "c"})).status_code == 400


async def test_a_console_with_a_provider_lets_nobody_in_without_a_key(provider: Provider) -> None:
    async with browser(key=None, settings=by_oidc(provider)) as (client, _):
        assert (await client.post("/login", data={})).status_code == 403


def test_a_provider_without_saying_who_may_come_in_is_refused() -> None:
    with pytest.raises(ValidationError, match="who may come in"):
        OidcSettings(issuer="https://accounts.example", client_id="x")
