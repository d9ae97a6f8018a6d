"""Logging in by OpenID Connect: the request to the provider, the callback, and who may come in."""

import secrets
from collections.abc import Mapping
from typing import Any

import structlog
from fastapi import APIRouter, Request, Response
from starlette.responses import HTMLResponse, RedirectResponse

from millirec.console.login.login import Login, address_of, own_path, retry_after, too_many
from millirec.console.login.login_page import onward_page, refused_page
from millirec.console_settings import OidcSettings

log = structlog.get_logger()
COOKIE = "millirec_oidc"


def person_of(claims: Mapping[str, Any], settings: OidcSettings) -> str | None:
    """Return the name of a person who may come in, else None. An address counts only once it is verified."""
    subject = str(claims.get("sub", ""))
    address = str(claims.get("email", "")).lower() if claims.get("email_verified") is True else ""
    domain = address.rpartition("@")[2]
    welcome = {name.lower() for name in settings.subjects}
    domains = {name.lower() for name in settings.domains}
    if subject in settings.subjects or (address and (address in welcome or domain in domains)):
        return address or subject
    return None


def routes(login: Login) -> APIRouter:
    """Return `/oidc/login` and `/oidc/callback`; no routes without a provider."""
    router = APIRouter(include_in_schema=False)
    settings = login.settings.oidc
    if settings.issuer is None:
        return router
    from millirec.console.login.oidc_attempt import PATIENCE, Seal
    from millirec.console.login.oidc_provider import Provider, ProviderFailed

    provider = Provider(settings, login.settings.timeout)
    seal = Seal()

    @router.get("/oidc/login")
    async def begin(request: Request) -> Response:
        """Send the browser to the provider."""
        redirect = settings.redirect_url or str(request.url_for("callback"))
        try:
            url, attempt = await provider.begin(redirect, own_path(request.query_params.get("next")))
        except ProviderFailed:
            return HTMLResponse(refused_page("The provider of accounts does not answer."), 503)
        response = RedirectResponse(url, 302)
        secure = login.settings.secure_cookies or request.url.scheme == "https"
        # Lax, because the way back from the provider is a request from another site; it is good for this attempt only.
        response.set_cookie(
            COOKIE, seal.close(attempt), round(PATIENCE), path="/oidc/", httponly=True, samesite="lax", secure=secure
        )
        return response

    @router.get("/oidc/callback", name="callback")
    async def callback(request: Request) -> Response:
        """Verify the provider's answer and log the person in."""
        state, code = (request.query_params.get(name, "") for name in ("state", "code"))
        attempt = seal.open(request.cookies.get(COOKIE, ""))
        if attempt is None or not code or not secrets.compare_digest(state.encode(), attempt.state.encode()):
            return HTMLResponse(refused_page("This login was not begun here, took too long or was broken off."), 400)
        address = address_of(request)
        wait = login.attempts.begin(address)
        if wait > 0:
            return HTMLResponse(refused_page(too_many(wait)), 429, retry_after(wait))
        try:
            claims = await provider.claims(code, attempt)
        except ProviderFailed as error:
            log.warning("a login by OpenID Connect failed", error=str(error), address=address)
            return HTMLResponse(refused_page("The provider's answer could not be verified."), 400)
        person = person_of(claims, settings)
        if person is None:
            log.warning("somebody unknown wanted to log in", subject=str(claims.get("sub")))
            return HTMLResponse(refused_page("This account may not use this console. Ask who runs it."), 403)
        login.attempts.reset(address)
        key = login.settings.api_key
        # A page that goes on by itself: a redirect would still count as coming from the provider's site, and the
        # browser would keep the strict cookie back.
        response = HTMLResponse(onward_page(attempt.target))
        response.delete_cookie(COOKIE, path="/oidc/")
        login.enter(request, response, person, (key.get_secret_value() or None) if key else None, oidc=True)
        return response

    return router
