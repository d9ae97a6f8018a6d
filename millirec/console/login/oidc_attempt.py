"""A login in progress at the provider: sealed into a cookie of the browser, so that it takes no memory here."""

from dataclasses import asdict, dataclass
from time import time

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

PATIENCE = 600.0
"""Seconds a person gets at the provider."""
ALGORITHM = "HS256"


@dataclass(frozen=True, slots=True)
class Attempt:
    """A login in progress: the values that browser and provider have to send back, and the page to go on to."""

    state: str
    nonce: str
    verifier: str
    redirect: str
    target: str


class Seal:
    """Signs attempts with a key of this process: after a restart, logins in progress are not accepted."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self._key = OctKey.generate_key(256)
        self._patience = patience

    def close(self, attempt: Attempt) -> str:
        """Return the signed attempt, for a cookie."""
        claims = {**asdict(attempt), "exp": int(time() + self._patience)}
        return jwt.encode({"alg": ALGORITHM}, claims, self._key)

    def open(self, sealed: str) -> Attempt | None:
        """Return the attempt of a cookie; None for a wrong signature or one that has expired."""
        try:
            claims = jwt.decode(sealed, self._key, [ALGORITHM]).claims
            jwt.JWTClaimsRegistry().validate(claims)
            return Attempt(**{name: claims[name] for name in Attempt.__slots__})
        except (JoseError, ValueError, KeyError, TypeError):
            return None
