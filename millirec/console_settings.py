"""Settings of the web console."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from recsys.settings import Seconds, Section, url_of

ServiceUrl = Annotated[str, AfterValidator(url_of("http", "https"))]


class OidcSettings(Section):
    """Logging in with an account of an OpenID Connect provider, by authorization code and PKCE."""

    issuer: str | None = Field(
        None, description="the provider, as in https://accounts.example.com; none: only admin keys log in"
    )
    client_id: str = Field("", max_length=512)
    client_secret: SecretStr | None = Field(
        None, description="from the environment: MILLIREC_CONSOLE__OIDC__CLIENT_SECRET; none: a public client"
    )
    domains: tuple[str, ...] = Field((), description="e-mail domains that may come in, once the address is verified")
    subjects: tuple[str, ...] = Field((), description="single accounts that may: their `sub` or verified address")
    redirect_url: str | None = Field(
        None, description="the console's own /oidc/callback as the provider knows it; none: as the browser came"
    )

    @model_validator(mode="after")
    def _says_who_may(self) -> Self:
        if self.issuer is not None and not (self.client_id and (self.domains or self.subjects)):
            raise ValueError("with an issuer, client_id and who may come in (domains or subjects) are needed")
        return self


class ConsoleSettings(Section):
    """The web console: a process of its own that talks to the service over HTTP."""

    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    allow_anonymous: bool = Field(
        False,
        description="listening on other addresses than loopback's, let everybody in where the service asks for no keys",
    )
    api_url: ServiceUrl = Field("http://127.0.0.1:8000", description="the service it shows and changes")
    api_key: SecretStr | None = Field(
        None,
        description="admin key used for people who came by OIDC, from the environment: MILLIREC_CONSOLE__API_KEY; "
        "whoever logs in with a key of their own acts with that one",
    )
    metrics_urls: tuple[ServiceUrl, ...] = Field(
        (), description="Prometheus texts to read: of each replica and consumer; none: only the service's own /metrics"
    )
    session_minutes: float = Field(480.0, gt=0, le=10_080, description="until a person has to log in again")
    max_sessions: int = Field(1000, ge=1, le=100_000, description="logins kept at once; the oldest goes first")
    timeout: Seconds = Field(5.0, description="seconds that the service gets to answer")
    scrape_interval: Seconds = Field(2.0, description="seconds between looks at the metrics")
    origins: tuple[str, ...] = Field(
        (),
        description="web origins it is reached at where a proxy changes the Host header: https://console.example.com",
    )
    secure_cookies: bool = Field(False, description="cookies go over HTTPS only; on behind a proxy that speaks it")
    oidc: OidcSettings = OidcSettings()
