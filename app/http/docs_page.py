"""/docs: Swagger UI, whose files come from a package and not from a CDN, under a strict content policy."""

from functools import partial
from importlib.resources import files

from app.http.documents import Document

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>millirec</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
START = 'SwaggerUIBundle({url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null});\n'
# Relative, so that the page works below a path of a proxy's too.
CONTENT_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
SCRIPT, STYLE = "text/javascript; charset=utf-8", "text/css; charset=utf-8"


def docs_page() -> dict[str, Document]:
    """The page and what it loads, by path."""
    return {
        "/docs": Document("text/html; charset=utf-8", PAGE.encode, headers=HEADERS),
        "/docs/start.js": Document(SCRIPT, START.encode, headers=HEADERS),
        "/docs/swagger-ui-bundle.js": _shipped("swagger-ui-bundle.js", SCRIPT),
        "/docs/swagger-ui.css": _shipped("swagger-ui.css", STYLE),
    }


def _shipped(name: str, media_type: str) -> Document:
    return Document(media_type, partial(_read, name), headers=HEADERS)


def _read(name: str) -> bytes:
    return (files("fastapi_offline") / "static" / name).read_bytes()
