"""The login as HTML: no script, no framework, the same look."""

from html import escape

STYLE = """
:root{color-scheme:light dark;--bg:#f5f6f8;--card:#fff;--line:#dfe3e8;--text:#1b222c;--dim:#5b6674;--accent:#0d7a70;
--on:#fff;--bad:#b42318}
@media(prefers-color-scheme:dark){:root{--bg:#0f1317;--card:#171c22;--line:#2a323c;--text:#e6eaef;--dim:#97a3b1;
--accent:#2bb3a3;--on:#06211e;--bad:#ff8a7a}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;display:grid;place-items:center;background:var(--bg);color:var(--text);
font:16px/1.5 Roboto,system-ui,sans-serif;padding:16px}
main{width:100%;max-width:400px;background:var(--card);border:1px solid var(--line);border-radius:12px;padding:32px}
h1{font-size:22px;margin:0 0 4px}
p{margin:0 0 20px;color:var(--dim)}label{display:block;font-weight:500;margin-bottom:6px}
input{width:100%;font:inherit;padding:10px 12px;border:1px solid var(--line);border-radius:8px;background:var(--bg);
color:inherit;margin-bottom:16px}
button,a.button{display:block;width:100%;font:inherit;font-weight:500;text-align:center;text-decoration:none;padding:11px;
border:1px solid var(--accent);border-radius:8px;background:var(--accent);color:var(--on);cursor:pointer}
a.button{background:none;color:var(--accent)}
.or{display:flex;align-items:center;gap:12px;color:var(--dim);margin:20px 0}.or::before,.or::after{content:"";flex:1;
border-top:1px solid var(--line)}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
.error{color:var(--bad);border-left:3px solid var(--bad);padding-left:12px}
"""

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Log in · millirec</title>
<meta name="viewport" content="width=device-width,initial-scale=1"><style>{style}</style></head><body><main>
<h1>millirec console</h1>{body}</main></body></html>"""

KEY_FORM = """<form method="post" action="/login"><input type="hidden" name="next" value="{target}">
<label for="key">Admin key</label>
<input id="key" name="key" type="password" autocomplete="current-password" required autofocus maxlength="512">
<button>Log in</button></form>"""

OPEN_FORM = """<p>This service has no keys configured: whoever reaches it may change it.
<code>millirec key</code> makes one.</p><form method="post" action="/login">
<input type="hidden" name="next" value="{target}"><button autofocus>Continue without a key</button></form>"""


def login_page(target: str, error: str, *, provider: str | None, is_open: bool) -> str:
    """Return the login page. `target`: the path to go on to; `provider`: where a login by OIDC begins."""
    parts = []
    if error:
        parts.append(f'<p class="error" role="alert">{escape(error)}</p>')
    if provider is not None:
        parts.append(
            f'<p>For operators and product people.</p><a class="button" href="{escape(provider)}">Log in with '
            'your account</a><div class="or">or</div>'
        )
    elif not is_open:
        parts.append("<p>For operators and product people. The key stays on the server.</p>")
    parts.append((OPEN_FORM if is_open else KEY_FORM).format(target=escape(target)))
    return PAGE.format(style=STYLE, body="".join(parts))


def onward_page(target: str) -> str:
    """Return a page that goes on to `target` by itself."""
    path = escape(target)
    going = f'<meta http-equiv="refresh" content="0;url={path}"><p>You are logged in.</p>'
    return PAGE.format(style=STYLE, body=f'{going}<a class="button" href="{path}">Go on</a>')


def refused_page(reason: str) -> str:
    """Return a page that says why a login failed."""
    body = f'<p class="error" role="alert">{escape(reason)}</p><a class="button" href="/login">Back to the login</a>'
    return PAGE.format(style=STYLE, body=body)
