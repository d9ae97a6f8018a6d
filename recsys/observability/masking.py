"""No password of a URL is shown: not in logs, errors, tracebacks, findings or pages.

Masked is what stands before the @ of an authority, and every query parameter named like a secret. Text is masked where
it leaves the process, whoever wrote it, since libraries put URLs into their errors too.
"""

import re

MASK = "***"
_USERINFO = re.compile(r"(?<=://)(?!/)[^\s\"<>]*@")
_SECRET = re.compile(
    r"([?&;][\w.-]*(?:password|passwd|pwd|passphrase|secret|token|sig|signature|key|credential|auth)[\w.-]*=)[^&;\s\"<>#]+",
    re.IGNORECASE,
)


def masked(text: str) -> str:
    """`text` with what is secret in its URLs replaced by ***."""
    if "://" not in text:
        return text
    return _SECRET.sub(rf"\1{MASK}", _USERINFO.sub(f"{MASK}@", text))
