"""millirec probe: measure a running deployment from outside, end to end."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import uniform
from secrets import token_hex
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import numpy as np
import typer
from rich.table import Table

from app.settings import Scope
from millirec.standalone.api_keys import read_key
from millirec.standalone.process_record import DATA_VARIABLE, running_url
from millirec.terminal import console, progress_bar
from recsys.errors import InvalidInput, RecsysError, Unavailable

if TYPE_CHECKING:
    import httpx

ITEMS = 50
"""Different items that the probes view in turn: a hundred views of one alone would make it trend."""
DEFAULT_URL = "http://127.0.0.1:8000"
POLL_PAUSE = 0.001
LONGEST_PAUSE = 0.05
REQUEST_TIMEOUT = 10.0

app = typer.Typer(no_args_is_help=True, help="Measure a running deployment from outside, end to end.")


class TooSlow(RecsysError):
    """Events take effect later than allowed."""


@app.callback()
def probe() -> None:
    """Measure a running deployment from outside, end to end."""


@app.command("freshness")
def freshness(
    url: Annotated[
        str | None,
        typer.Option(help=f"Where the service answers; by default {DEFAULT_URL}, with --data where that one runs."),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="MILLIREC_API_KEY",
            help="A key with the scopes recommend, events and users; with --data, that of `millirec up`.",
        ),
    ] = None,
    probes: Annotated[int, typer.Option(min=1, help="Events to post, one after the other.")] = 100,
    answer: Annotated[
        bool, typer.Option("--answer", help="Wait until GET /recommend answers something else, not for the record.")
    ] = False,
    max_p99: Annotated[float | None, typer.Option(min=0, help="Milliseconds; exit code 1 when p99 is above.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds until a probe counts as lost; exit code 1.")] = 10.0,
) -> None:
    """Measure how long an event takes from its acknowledgement (202) to its effect.

    Posts views for a user of its own, one by one, and polls GET /users/ID until the record has a new revision and
    an embedding of the live version; or, with --answer, GET /recommend until the answer is another one. Each look
    takes a request, so a millisecond or two of what is shown is the looking. The user is deleted at the end.

    Examples:

      millirec probe freshness

      millirec --data var/up probe freshness

      millirec probe freshness --url https://shop.example --probes 500 --max-p99 200
    """
    import httpx  # a quarter of a second, and few commands ask a service

    data = os.environ.get(DATA_VARIABLE)
    if api_key is None and data is not None:
        api_key = read_key(Path(data), Scope.ADMIN)
    if url is None:
        url = DEFAULT_URL if data is None else _url_of(Path(data))
    headers = {"X-API-Key": api_key} if api_key else {}
    try:
        with httpx.Client(base_url=url, headers=headers, timeout=REQUEST_TIMEOUT) as client, _user(client) as user_id:
            look = _answer if answer else _record
            times = list(_probe_all(client, user_id, look, probes, timeout))
    except httpx.InvalidURL as error:
        raise InvalidInput("--url", f"{url!r} is no URL: {error}") from error
    except httpx.HTTPError as error:
        raise Unavailable(f"{url} does not answer: {error}") from error
    table = Table("probes", *("p50 ms", "p95 ms", "p99 ms", "max ms"))
    quantiles = 1000 * np.quantile(times, (0.5, 0.95, 0.99, 1.0), method="inverted_cdf")
    table.add_row(str(probes), *(f"{value:.1f}" for value in quantiles))
    console.print(table)
    p99 = quantiles[2]
    if max_p99 is not None and p99 > max_p99:
        raise TooSlow(f"p99 is {p99:.1f} ms, above {max_p99:g}")


def _url_of(data: Path) -> str:
    url = running_url(data, "serve")
    if url is None:
        raise Unavailable(f"no service runs on {data}: start `millirec up --data {data}`, or name another --url")
    return url


@contextmanager
def _user(client: "httpx.Client") -> Iterator[str]:
    """A user nobody has heard of, who is forgotten again."""
    user_id = f"probe-{token_hex(8)}"
    try:
        yield user_id
    finally:
        _checked(client.delete(_path(user_id)))


def _probe_all(
    client: "httpx.Client", user_id: str, look: "Callable[[httpx.Client, str], Any]", probes: int, timeout: float
) -> Iterator[float]:
    params: dict[str, str | int] = {"user_id": user_id, "k": ITEMS}
    items = [item["item_id"] for item in _checked(client.get("/recommend", params=params))["items"]]
    if not items:
        raise Unavailable("the service recommends nothing, so that there is no item to view: is a version live?")
    with progress_bar() as bar:
        task = bar.add_task("probing", total=probes)
        for number in range(probes):
            event = {"event_id": f"{user_id}-{number}", "user_id": user_id, "item_id": items[number % len(items)]}
            previous = look(client, user_id)
            _checked(client.post("/events", json={**event, "type": "view"}))
            yield _until_changed(client, user_id, look, previous, timeout)
            bar.advance(task)
            # Out of step with whatever the consumer does in turns.
            time.sleep(uniform(0, LONGEST_PAUSE))  # noqa: S311


def _until_changed(
    client: "httpx.Client", user_id: str, look: "Callable[[httpx.Client, str], Any]", previous: object, timeout: float
) -> float:
    acknowledged = time.perf_counter()
    while (current := look(client, user_id)) is None or current == previous:
        if time.perf_counter() - acknowledged > timeout:
            raise TooSlow(f"an event had no effect within {timeout:g} s: does `millirec consume features` run?")
        time.sleep(POLL_PAUSE)
    return time.perf_counter() - acknowledged


def _record(client: "httpx.Client", user_id: str) -> int | None:
    """The revision of the user's record, once it has an embedding."""
    # A store that is late for a moment is no reason to give up: it is looked at again.
    deadline = time.perf_counter() + REQUEST_TIMEOUT
    while (response := client.get(_path(user_id))).status_code == 503 and time.perf_counter() < deadline:
        time.sleep(LONGEST_PAUSE)
    record = _checked(response)
    return record["revision"] if record["embedding_stored"] else None


def _answer(client: "httpx.Client", user_id: str) -> Any:
    return _checked(client.get("/recommend", params={"user_id": user_id}))["items"]


def _path(user_id: str) -> str:
    return f"/users/{quote(user_id, safe='')}"


def _checked(response: "httpx.Response") -> Any:
    """The body. Raises `InvalidInput` for a key that may not, `Unavailable` for any other refusal."""
    if response.status_code in {401, 403}:
        raise InvalidInput("--api-key", f"{response.request.url.path}: {response.text}")
    if not response.is_success:
        raise Unavailable(f"{response.request.url.path} answered {response.status_code}: {response.text[:200]}")
    return response.json()
