"""The pages of the login: every text from a request is escaped, and nothing on them runs or is loaded."""

from html.parser import HTMLParser

import pytest

from millirec.console.login.login_page import login_page, onward_page, refused_page

HOSTILE = """/a"><script>alert(1)</script><img src=x onerror='alert(2)'>{{ 7 * 7 }}"""


class Page(HTMLParser):
    """The elements of a page, with their attributes, and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, name: str) -> list[dict[str, str | None]]:
        """Return the attributes of each element of that name."""
        return [attributes for tag, attributes in self.elements if tag == name]


@pytest.mark.parametrize(
    "html",
    [
        login_page(HOSTILE, HOSTILE, provider=HOSTILE, is_open=False),
        login_page(HOSTILE, HOSTILE, provider=None, is_open=True),
        onward_page(HOSTILE),
        refused_page(HOSTILE),
    ],
)
def test_hostile_text_stays_text(html: str) -> None:
    page = Page(html)
    assert not page.of("script") + page.of("img")
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    values = [value or "" for _, attributes in page.elements for value in attributes.values()]
    assert HOSTILE in page.text or HOSTILE in values


def test_a_login_by_key_posts_the_key_and_the_page_to_go_on_to() -> None:
    page = Page(login_page("/rollouts?a=1&b=2", "", provider=None, is_open=False))
    (form,) = page.of("form")
    assert (form["method"], form["action"]) == ("post", "/login")
    target, key = page.of("input")
    assert (target["name"], target["value"]) == ("next", "/rollouts?a=1&b=2")
    assert (key["name"], key["type"]) == ("key", "password")
    assert not page.of("a"), "no other way in"


def test_a_provider_comes_beside_the_key_and_an_open_console_asks_for_none() -> None:
    both = Page(login_page("/", "", provider="/oidc/login", is_open=False))
    assert [link["href"] for link in both.of("a")] == ["/oidc/login"]
    assert [field["name"] for field in both.of("input")] == ["next", "key"]
    without_keys = Page(login_page("/", "", provider=None, is_open=True))
    assert [field["name"] for field in without_keys.of("input")] == ["next"]


def test_the_page_after_a_login_goes_on_by_itself_and_by_a_link() -> None:
    page = Page(onward_page("/versions"))
    assert {"http-equiv": "refresh", "content": "0;url=/versions"} in page.of("meta")
    assert [link["href"] for link in page.of("a")] == ["/versions"]
