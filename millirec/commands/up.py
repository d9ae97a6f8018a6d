"""millirec up: a small real deployment on one machine."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from millirec.settings import load_settings
from millirec.terminal import console
from recsys.errors import InvalidInput

Data = Annotated[Path | None, typer.Option(help="The folder that keeps everything.")]
Port = Annotated[
    int | None, typer.Option(min=1, max=65535, help="Port of the HTTP service; 8000, or that of the last start.")
]
ConsolePort = Annotated[
    int | None, typer.Option(min=1, max=65535, help="Port of the web console; 8080, or that of the last start.")
]
NoConsole = Annotated[bool, typer.Option("--no-console", help="Leave the web console out.")]
Workers = Annotated[int, typer.Option(min=1, max=64, help="Processes of the HTTP service.")]


def register(app: typer.Typer) -> None:
    """Add the `up` command to `app`."""

    @app.command("up")
    def up(
        context: typer.Context,
        data: Data = None,
        port: Port = None,
        workers: Workers = 1,
        console_port: ConsolePort = None,
        no_console: NoConsole = False,
        no_keys: Annotated[bool, typer.Option("--no-keys", help="Answer without API keys.")] = False,
        retrain_hours: Annotated[float, typer.Option(min=0, help="Hours between trainings; 0: never.")] = 24.0,
    ) -> None:
        """Run everything on this machine: embedded store, consumers, service, scheduled retraining and tidying.

        The first start makes an API key for each scope, in DIR/keys. Import your own data with
        `millirec --data DIR import`, or post events; then train. What dies is started again.
        """
        from millirec.standalone import deployment
        from millirec.standalone.ports import choose_ports, remember_ports
        from millirec.standalone.startup import Startup, wait_for_end

        data = chosen_folder(context, data, Path("var/millirec"))
        ports = choose_ports(data, port, console_port)
        exposed_port = None if no_console else ports.console
        deployment.check_ports(ports.service, exposed_port)
        os.environ.update(deployment.environment(data))
        # A setting that is refused is named before anything runs.
        settings = load_settings()
        extra = {"tidy": ["log", "tidy", "--every", "24"]}
        if retrain_hours:
            extra["train"] = ["train", "--every", str(retrain_hours)]
        with deployment.embedded_store(data) as supervisor:
            remember_ports(data, ports)
            keys = key_environment(data, configured=bool(settings.serve.keys), left_out=no_keys)
            urls = deployment.services(
                supervisor, data, port=ports.service, workers=workers, extra=extra, keys=keys, console_port=exposed_port
            )
            startup = Startup(urls, [*_lines(data, ports.service, exposed_port, keys)])
            wait_for_end(supervisor.tend, startup.look)


def chosen_folder(context: typer.Context, data: Path | None, default: Path) -> Path:
    """Return the folder of --data on either side of the command. Raises `InvalidInput` for two different ones."""
    before: Path | None = context.obj
    if before is not None and data is not None and before.resolve() != data.resolve():
        raise InvalidInput("--data", f"names {before} before the command and {data} after it: give it once")
    return data or before or default


def key_environment(data: Path, *, configured: bool, left_out: bool) -> dict[str, str]:
    """Return the keys of this deployment as a setting, made where they are missing; empty where keys are configured."""
    from millirec.standalone import api_keys

    if left_out:
        return {api_keys.KEYS_VARIABLE: "[]"}
    if configured:
        return {}
    scopes = api_keys.make_missing_keys(data)
    if scopes:
        text = f"made API keys, readable by you alone: {', '.join(scopes)} in {data / 'keys'}"
        console.print(text, highlight=False, soft_wrap=True)
    return api_keys.key_settings(data)


def _lines(data: Path, port: int, console_port: int | None, keys: Mapping[str, str]) -> Iterator[str]:
    url = f"http://127.0.0.1:{port}"
    yield f"millirec is up on {url}/docs, keeping everything in {data}."
    own = bool(keys) and "sha256" in "".join(keys.values())
    if own:
        key = quote(str(data / "keys" / "recommend"))
        yield f"""  curl -H "X-API-Key: $(cat {key})" '{url}/recommend?user_id=ann'"""
    if not any((data / "registry").glob("models/recommender/aliases/live/*")):
        command = f"millirec --data {quote(str(data))}"
        yield f"Nothing is learned yet, so answers are 503: {command} import FILE, or post events;"
        yield f"  then {command} train"
    if console_port is not None:
        login = f" (log in with the key in {data}/keys/admin)" if own else ""
        yield f"The console: http://127.0.0.1:{console_port}{login}"
    yield "Ctrl-C stops it."
