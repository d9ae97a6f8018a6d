"""Logging in: a plain form, so that nothing of the console is sent to anybody who is not."""

from dataclasses import dataclass
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import structlog
from fastapi import APIRouter, Request, Response
from starlette.responses import HTMLResponse, RedirectResponse

from millirec.console.client import ApiClient, ApiDown, ApiProblem, Reachability
from millirec.console.login_page import login_page
from millirec.console.session import COOKIE, Attempts, Sessions
from millirec.console_settings import ConsoleSettings

log = structlog.get_logger()
MAX_FORM = 8192
"""Bytes of a login form."""
WITH_A_KEY = "admin key"
NOBODY = "without a key"


@dataclass(frozen=True, slots=True)
class Login:
    """What a login needs; shared with OIDC."""

    settings: ConsoleSettings
    sessions: Sessions
    attempts: Attempts
    http: httpx.AsyncClient
    reachability: Reachability

    def enter(self, request: Request, response: Response, person: str, key: str | None, *, oidc: bool = False) -> None:
        """Log `person` in, under a new name: one that was there before the login is worth nothing after it."""
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

    async def open_to_all(self) -> bool:
        """Whether the service asks nobody for a key, and no provider was told to look after who comes in."""
        try:
            return self.settings.oidc.issuer is None and await self.accepts(None)
        except (ApiDown, ApiProblem):
            return False


def routes(login: Login) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/login")
    async def ask(request: Request) -> Response:
        wanted = own_path(request.query_params.get("next"))
        return await _form(login, wanted, "")

    @router.post("/login")
    async def answer(request: Request) -> Response:
        address = address_of(request)
        form = await _fields(request)
        wanted = own_path(form.get("next"))
        wait = login.attempts.wait(address)
        if wait > 0:
            response = await _form(login, wanted, f"Too many attempts. Wait {wait:.0f} s and try again.", 429)
            response.headers["Retry-After"] = str(round(wait) + 1)
            return response
        key = form.get("key", "").strip() or None
        if key is None and not await login.open_to_all():
            return await _form(login, wanted, "Type an admin key.", 401)
        try:
            accepted = key is None or (key.isascii() and await login.accepts(key))
        except ApiDown as down:
            return await _form(login, wanted, f"The service does not answer ({down}).", 503)
        except ApiProblem as problem:
            login.attempts.failed(address)
            return await _form(login, wanted, str(problem), 403)
        if not accepted:
            login.attempts.failed(address)
            log.warning("a login with a wrong key", address=address)
            return await _form(login, wanted, "The service does not know this key.", 401)
        login.attempts.succeeded(address)
        onward = RedirectResponse(wanted, 303)
        login.enter(request, onward, NOBODY if key is None else WITH_A_KEY, key)
        return onward

    return router


def own_path(wanted: str | None) -> str:
    """A path of this console: whoever sends a link must not choose where the login leads."""
    if not wanted or not wanted.startswith("/") or wanted.startswith(("//", "/\\", "/login")):
        return "/"
    split = urlsplit(wanted)
    return "/" if split.netloc or split.scheme or any(ord(one) < 32 for one in wanted) else wanted


def address_of(request: Request) -> str:
    return request.client.host if request.client else "unknown"


async def _form(login: Login, wanted: str, error: str, status: int = 200) -> HTMLResponse:
    provider = f"/oidc/login?next={quote(wanted, safe='')}" if login.settings.oidc.issuer else None
    is_open = await login.open_to_all()
    if login.reachability.down and not error:
        error = f"The service at {login.settings.api_url} does not answer ({login.reachability.reason})."
    return HTMLResponse(login_page(wanted, error, provider=provider, is_open=is_open), status)


async def _fields(request: Request) -> dict[str, str]:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM:
            return {}
    return {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
