"""What failed in an object store or a Delta table, as a sentence for whoever set it up.

Both libraries speak through the same Rust client, whose errors are nested, of several lines, and coloured.
"""

import re

from recsys.observability.text import masked, printable

MAX_REASON = 500
"""Characters of an error that is none of `CAUSES`."""
CAUSES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), sentence)
    for pattern, sentence in (
        (r"http://.*(builder error|scheme is not allowed)", "http:// addresses need {prefix}ALLOW_HTTP=true"),
        (r"NoSuchBucket|ContainerNotFound", "there is no such bucket or container: create it, or correct the name"),
        (
            r"169\.254\.169\.254|metadata\.google|IMDS|missing.*credential",
            "the environment has no credentials: set {prefix}... variables",
        ),
        (
            r"InvalidAccessKeyId|SignatureDoesNotMatch|AuthenticationFailed|\b401\b|Unauthorized",
            "the credentials were refused: correct those in the environment ({prefix}...)",
        ),
        (
            r"AccessDenied|AuthorizationFailure|\b403\b|Forbidden|PermissionDenied",
            "the credentials do not allow this: let them read, write, list and delete there",
        ),
        (r"certificate|UnknownIssuer", "its certificate is not trusted: add its authority to this machine's"),
        (r"timed out|timeout error", "it did not answer in time: check the address and the network"),
        (r"error sending request|connect error|dns error", "it cannot be reached: check the address and the network"),
    )
)
"""What the client says of a call, and what that means; the first that fits."""

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ADDRESS = re.compile(r"Error performing \w+ (https?://[^\s?]+)")
_RETRIES = re.compile(r" in [\d.]+[nµm]?s\b(, after \d+ retries, max_retries\W+\d+, retry_timeout\W+\w+ *)?")
_PREFIXES = {"Azure": "AZURE_", "GCS": "GOOGLE_"}


def reason_of(error: BaseException) -> str:
    """Return what failed and what to do about it, in one line, with the address that was called and without secrets."""
    text = _COLOUR.sub("", str(error)).partition("\n\nDebug source")[0]
    text = ": ".join(filter(None, (line.strip(" ↳\t\r") for line in text.splitlines())))
    if address := _ADDRESS.search(text):
        prefix = next((prefix for store, prefix in _PREFIXES.items() if store in text), "AWS_")
        for pattern, sentence in CAUSES:
            if pattern.search(text):
                return f"{masked(printable(address[1]))}: {sentence.format(prefix=prefix)}"
    return masked(printable(_RETRIES.sub("", text)[:MAX_REASON]))
