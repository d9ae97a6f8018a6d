"""The login as HTML: no script, no framework, the same look."""

from jinja2 import Environment, PackageLoader, StrictUndefined

_templates = Environment(
    loader=PackageLoader("millirec.console.login"), autoescape=True, trim_blocks=True, undefined=StrictUndefined
)


def login_page(target: str, error: str, *, provider: str | None, is_open: bool) -> str:
    """Return the login page. `target`: the path to go on to; `provider`: where a login by OIDC begins."""
    return _render("login.html", target=target, error=error, provider=provider, is_open=is_open)


def onward_page(target: str) -> str:
    """Return a page that goes on to `target` by itself."""
    return _render("onward.html", target=target)


def refused_page(reason: str) -> str:
    """Return a page that says why a login failed."""
    return _render("refused.html", reason=reason)


def _render(template: str, **values: object) -> str:
    return _templates.get_template(template).render(values)
