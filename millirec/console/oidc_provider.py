"""The OpenID Connect provider as Authlib talks to it. Imported only where one is configured."""

import warnings
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

import httpx
from authlib.deprecate import AuthlibDeprecationWarning
from joserfc.errors import JoseError

from millirec.console_settings import OidcSettings

with warnings.catch_warnings():
    # Authlib announces that it will turn to another HTTP client.
    warnings.simplefilter("ignore", AuthlibDeprecationWarning)
    from authlib.integrations.base_client import OAuthError
    from authlib.integrations.starlette_client import OAuth

PATIENCE = 600.0
"""Seconds a person gets at the provider."""
MAX_UNDER_WAY = 1000
FAILURES = (httpx.HTTPError, OAuthError, JoseError, RuntimeError, ValueError, KeyError)
"""What Authlib raises for a provider that is away, or answers with what is none of its promises."""


class ProviderFailed(Exception):
    """The provider did not answer as it should."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One login under way: what the provider has to give back, and where the person wanted to go."""

    nonce: str
    verifier: str
    redirect: str
    wanted: str
    ends: float


class Provider:
    """The provider as Authlib talks to it, and the logins under way, by their `state`."""

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
                "scope": "openid email profile",
                "code_challenge_method": "S256",
                "token_endpoint_auth_method": "client_secret_basic" if secret else "none",
                "timeout": timeout,
            },
        )
        self._under_way: OrderedDict[str, Attempt] = OrderedDict()

    async def begin(self, redirect: str, wanted: str) -> tuple[str, str]:
        """Where to send the browser, and the `state` it has to come back with. Raises `ProviderFailed`."""
        try:
            begun: dict[str, str] = await self._client.create_authorization_url(redirect)
        except FAILURES as error:
            raise ProviderFailed(str(error)) from error
        ends = monotonic() + PATIENCE
        self._under_way[begun["state"]] = Attempt(begun["nonce"], begun["code_verifier"], redirect, wanted, ends)
        while len(self._under_way) > MAX_UNDER_WAY:
            self._under_way.popitem(last=False)
        return begun["url"], begun["state"]

    def take(self, state: str) -> Attempt | None:
        """The login under way by that `state`, once."""
        attempt = self._under_way.pop(state, None)
        return attempt if attempt is not None and monotonic() < attempt.ends else None

    async def claims(self, code: str, attempt: Attempt) -> Mapping[str, Any]:
        """What the provider says of the person, its signature, issuer, audience, nonce and time checked.

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
            found: Mapping[str, Any] | None = await self._client.parse_id_token(token, attempt.nonce, options)
        except FAILURES as error:
            raise ProviderFailed(str(error)) from error
        if found is None:
            raise ProviderFailed("it gave no ID token")
        return found
