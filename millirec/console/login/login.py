"""The login: a plain form, so that nothing of the console is sent before somebody is logged in."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from math import ceil
from time import monotonic
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import structlog
from fastapi import APIRouter, Request, Response
from starlette.responses import HTMLResponse, RedirectResponse

from app.http.origins import is_loopback
from millirec.console.login.attempts import Attempts
from millirec.console.login.login_page import login_page, refused_page
from millirec.console.login.session import COOKIE, NOBODY, Sessions
from millirec.console.service.client import ApiClient, ApiDown, ApiProblem, Reachability
from millirec.console_settings import ConsoleSettings
from recsys.observability.text import masked

log = structlog.get_logger()
MAX_FORM = 8192
"""Bytes of a login form."""
FORM_SECONDS = 5.0
"""Seconds for a whole form to arrive."""
MAX_PATH = 1000
"""Characters of a path to go on to: it has to fit into a cookie."""
FRESH = 1.0
"""Seconds for which the check whether the service requires keys is cached, so that logins cannot flood it."""
WITH_A_KEY = "admin key"
UNGUARDED = (
    "The service has no keys, so that any key would do, and this console is reached from other machines or by "
    "accounts. Configure keys for the service; without accounts it is enough that the console listens on "
    "127.0.0.1, or that console.allow_anonymous says so."
)
BENT = (
    "The service has no keys, so that this console is entered by its address or as localhost only: a name may be one "
    "that somebody bent to this address. The setting console.origins lists the names that it has."
)


class NoAccessControl(Exception):
    """The service has no keys, so that none says who comes, and it is not this machine's person alone who may."""


class FormRefused(Exception):
    """A form that is too large or too slow: `status` says which."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(slots=True)
class Login:
    """State of the login, shared with OIDC. `http` has connections of its own, so that logins take none from pages."""

    settings: ConsoleSettings
    sessions: Sessions
    attempts: Attempts
    http: httpx.AsyncClient
    reachability: Reachability
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)
    _open: bool = False
    _looked_at: float = -FRESH

    def enter(self, request: Request, response: Response, person: str, key: str | None, *, oidc: bool = False) -> None:
        """Log `person` in with a new session id: one from before the login is not valid after it."""
        self.sessions.close(request.cookies.get(COOKIE))
        name = self.sessions.open(person, key, by_oidc=oidc)
        seconds = round(self.settings.session_minutes * 60)
        secure = self.settings.secure_cookies or request.url.scheme == "https"
        response.set_cookie(COOKIE, name, max_age=seconds, httponly=True, samesite="strict", secure=secure)
        log.info("logged in", person=person, address=address_of(request))

    async def accepts(self, key: str | None) -> bool:
        """Whether the service lets this key administer. Raises `ApiDown`, or `ApiProblem` for anything but 401."""
        try:
            await ApiClient(self.http, self.reachability, key).get("/placements")
        except ApiProblem as problem:
            if problem.status == 401:
                return False
            raise
        return True

    @property
    def may_be_open(self) -> bool:
        """Whether a service without keys makes a console without logins: where only this machine reaches it, or where
        the settings say so, and no provider was told to look after who comes in.
        """
        settings = self.settings
        return settings.oidc.issuer is None and (settings.allow_anonymous or is_loopback(settings.host))

    async def admits(self, key: str | None, host: str) -> bool:
        """Return whether `key`, or nobody's, opens this console, which the browser calls `host`.

        Raises `NoAccessControl`, and what `accepts` does.
        """
        if await self.service_is_open():
            # It lets any key administer, so that none says who comes.
            if not self.may_be_open:
                raise NoAccessControl(UNGUARDED)
            if not _has_name(self.settings, host):
                raise NoAccessControl(BENT)
            return True
        return key is not None and key.isascii() and key.isprintable() and await self.accepts(key)

    async def open_to_all(self) -> bool:
        """Return whether everybody may come in without a key."""
        return self.may_be_open and await self.service_is_open()

    async def service_is_open(self) -> bool:
        """Return whether the service asks nobody for a key."""
        async with self._looking:
            if monotonic() - self._looked_at >= FRESH:
                try:
                    self._open = await self.accepts(None)
                except (ApiDown, ApiProblem):
                    self._open = False
                self._looked_at = monotonic()
            return self._open


def routes(login: Login) -> APIRouter:
    """Return the routes of the login form."""
    router = APIRouter(include_in_schema=False)

    @router.get("/login")
    async def ask(request: Request) -> Response:
        """Show the form."""
        target = own_path(request.query_params.get("next"))
        return await _form(login, target, "")

    @router.post("/login")
    async def answer(request: Request) -> Response:
        """Log in with the key of the form."""
        try:
            form = await _fields(request)
        except FormRefused as refused:
            return HTMLResponse(refused_page(str(refused)), refused.status)
        target = own_path(form.get("next"))
        key = form.get("key", "").strip() or None
        address = address_of(request)
        wait = login.attempts.begin(address)
        if wait > 0:
            return HTMLResponse(refused_page(too_many(wait)), 429, retry_after(wait))
        try:
            accepted = await login.admits(key, request.headers.get("host", ""))
        except ApiDown as down:
            login.attempts.withdraw(address)
            return await _form(login, target, f"The service does not answer ({down}).", 503)
        except (ApiProblem, NoAccessControl) as refused:
            return await _form(login, target, str(refused), 403)
        if not accepted:
            log.warning("a login with a wrong key", address=address)
            words = "Type an admin key." if key is None else "The service does not know this key."
            return await _form(login, target, words, 401)
        login.attempts.reset(address)
        onward = RedirectResponse(target, 303)
        login.enter(request, onward, NOBODY if key is None else WITH_A_KEY, key)
        return onward

    return router


def too_many(wait: float) -> str:
    """Return the message after too many attempts; `wait` in seconds."""
    return f"Too many attempts. Wait {ceil(wait)} s and try again."


def retry_after(wait: float) -> dict[str, str]:
    """Return the header that says when to try again; `wait` in seconds."""
    return {"Retry-After": str(ceil(wait))}


def own_path(target: str | None) -> str:
    """Return `target` if it is a path of this console, else `/`, so that a link cannot lead to another site."""
    if not target or len(target) > MAX_PATH or not target.startswith("/") or target.startswith(("//", "/\\", "/login")):
        return "/"
    split = urlsplit(target)
    return "/" if split.netloc or split.scheme or any(ord(character) < 32 for character in target) else target


def address_of(request: Request) -> str:
    """Return the address of the client."""
    return request.client.host if request.client else "unknown"


def _has_name(settings: ConsoleSettings, host: str) -> bool:
    """Return whether a Host header is an address, which nobody can bend, or a name that the settings know.

    Where keys are asked for any will do: a page that was bent to this console has none to log in with.
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    with suppress(ValueError):
        return bool(ip_address(name))
    own_names = {"localhost", settings.host.lower()}
    return name in own_names or any(urlsplit(origin).netloc == host for origin in settings.origins)


async def _form(login: Login, target: str, error: str, status: int = 200) -> HTMLResponse:
    provider = f"/oidc/login?next={quote(target, safe='')}" if login.settings.oidc.issuer else None
    is_open = await login.open_to_all()
    if login.reachability.down and not error:
        error = f"The service at {masked(login.settings.api_url)} does not answer ({login.reachability.reason})."
    return HTMLResponse(login_page(target, error, provider=provider, is_open=is_open), status)


async def _fields(request: Request) -> dict[str, str]:
    """Return the fields of a form. Raises `FormRefused`."""
    body = b""
    try:
        async with asyncio.timeout(FORM_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_FORM:
                    raise FormRefused(413, "This form is too large.")
    except TimeoutError:
        raise FormRefused(408, "This form took too long to arrive.") from None
    return {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
