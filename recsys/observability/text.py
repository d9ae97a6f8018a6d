"""Text that leaves the process: control characters are written out, and passwords of URLs are masked."""

import re

_INVISIBLE = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
_INVISIBLE += "\ud800-\udfff\U000e0000-\U000e007f"
"""C0, DEL and C1, which move cursors and colour text; what turns the direction of writing round; tags; lone halves of
pairs. The joiners of Persian and of emoji stay.
"""
_IN_A_LINE = re.compile(f"[{_INVISIBLE}\t\n]")
_IN_LINES = re.compile(f"[{_INVISIBLE}]")


def printable(text: str, *, lines: bool = False) -> str:
    r"""`text` with what a terminal or a browser would obey written out: `\x1b`, `\u202e`, `\n`.

    `lines`: the text may have several, so that line breaks and tabs stay.
    """
    if text.isprintable():
        return text
    return (_IN_LINES if lines else _IN_A_LINE).sub(_written_out, text)


def printable_json(json: str) -> str:
    r"""JSON that says the same with `\u009b` in place of what would be obeyed; it may have several lines."""
    return json if json.isprintable() else _IN_LINES.sub(_json_escape, json)


def _written_out(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def _json_escape(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


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
