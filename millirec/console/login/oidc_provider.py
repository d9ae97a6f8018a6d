"""The OpenID Connect provider as Authlib talks to it. Imported only where one is configured."""

import asyncio
import warnings
from collections.abc import Mapping
from secrets import token_urlsafe
from time import monotonic
from typing import Any

import httpx
import structlog
from authlib.deprecate import AuthlibDeprecationWarning
from joserfc.errors import JoseError

from millirec.console.login.oidc_attempt import Attempt
from millirec.console_settings import OidcSettings

with warnings.catch_warnings():
    # Authlib announces that it will turn to another HTTP client.
    warnings.simplefilter("ignore", AuthlibDeprecationWarning)
    from authlib.integrations.base_client import OAuthError
    from authlib.integrations.starlette_client import OAuth
    from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
    from authlib.oauth2.rfc7636 import create_s256_code_challenge

log = structlog.get_logger()
SCOPE = "openid email profile"
PAUSE = 1.0
"""Seconds without requests to a provider that failed, so that logins cannot flood it."""
FAILURES = (httpx.HTTPError, OAuthError, JoseError, RuntimeError, ValueError, KeyError)
"""Authlib's errors for a provider that does not answer, or answers wrongly."""


class ProviderFailed(Exception):
    """The provider did not answer as it should."""


class Provider:
    """The provider as Authlib talks to it."""

    def __init__(self, settings: OidcSettings, timeout: float) -> None:
        self._settings = settings
        secret = settings.client_secret.get_secret_value() if settings.client_secret else None
        issuer = (settings.issuer or "").rstrip("/")
        self._client = OAuth().register(
            "oidc",
            client_id=settings.client_id,
            client_secret=secret,
            server_metadata_url=f"{issuer}/.well-known/openid-configuration",
            client_kwargs={
                "scope": SCOPE,
                "token_endpoint_auth_method": "client_secret_basic" if secret else "none",
                "timeout": timeout,
            },
        )
        self._loading = asyncio.Lock()
        self._endpoint: str | None = None
        self._silent_until = 0.0

    async def begin(self, redirect: str, target: str) -> tuple[str, Attempt]:
        """Return the URL to send the browser to and what has to come back. Raises `ProviderFailed`."""
        endpoint = await self._authorization_endpoint()
        attempt = Attempt(token_urlsafe(32), token_urlsafe(32), token_urlsafe(48), redirect, target)
        url = prepare_grant_uri(
            endpoint,
            client_id=self._settings.client_id,
            response_type="code",
            redirect_uri=redirect,
            scope=SCOPE,
            state=attempt.state,
            nonce=attempt.nonce,
            code_challenge=create_s256_code_challenge(attempt.verifier),
            code_challenge_method="S256",
        )
        return url, attempt

    async def claims(self, code: str, attempt: Attempt) -> Mapping[str, Any]:
        """Return the claims about the person, with signature, issuer, audience, nonce and time checked.

        Raises `ProviderFailed`.
        """
        options = {
            "iss": {"essential": True, "values": [self._settings.issuer]},
            "aud": {"essential": True, "values": [self._settings.client_id]},
        }
        try:
            token = await self._client.fetch_access_token(
                code=code, code_verifier=attempt.verifier, redirect_uri=attempt.redirect
            )
            claims: Mapping[str, Any] | None = await self._client.parse_id_token(token, attempt.nonce, options)
        except FAILURES as error:
            raise ProviderFailed(str(error)) from error
        if claims is None:
            raise ProviderFailed("it gave no ID token")
        return claims

    async def _authorization_endpoint(self) -> str:
        """Return the endpoint from the provider's metadata, read once; concurrent callers wait for the same answer."""
        async with self._loading:
            if self._endpoint is None:
                if monotonic() < self._silent_until:
                    raise ProviderFailed("it did not answer a moment ago")
                try:
                    self._endpoint = str((await self._client.load_server_metadata())["authorization_endpoint"])
                except FAILURES as error:
                    self._silent_until = monotonic() + PAUSE
                    log.error("the OpenID Connect provider does not answer as it should", error=str(error))
                    raise ProviderFailed(str(error)) from error
            return self._endpoint
