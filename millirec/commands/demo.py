"""millirec demo: the whole loop on two years of a real shop."""

import os
import shutil
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from millirec.commands.import_ import import_into_log, seed_store
from millirec.commands.train import train_version
from millirec.commands.up import ConsolePort, Data, NoConsole, Port, Workers, chosen_folder, key_environment
from millirec.settings import Settings, load_settings
from millirec.terminal import console
from recsys.errors import NotFound
from recsys.models.alias_move import LIVE
from recsys.stores.model_registry import open_model_registry

FIRST_YEAR = "online_retail_ii_2009_2010.parquet"
SECOND_YEAR = "online_retail.parquet"
MAPPING = "online_retail.yaml"


def register(app: typer.Typer) -> None:
    """Add the `demo` command to `app`."""

    @app.command("demo")
    def demo(
        context: typer.Context,
        data: Data = None,
        port: Port = None,
        workers: Workers = 1,
        console_port: ConsolePort = None,
        no_console: NoConsole = False,
        check: Annotated[bool, typer.Option("--check", help="Try every promise over HTTP, then stop.")] = False,
        fresh: Annotated[bool, typer.Option("--fresh", help="Delete the folder first.")] = False,
    ) -> None:
        """Import two years of a real shop, train, serve, and learn from the next event. Nothing to install.

        The first start takes a minute or two, the next a few seconds. Ctrl-C stops everything and loses nothing.
        """
        from millirec.demo.check import check as check_promises
        from millirec.demo.output import show_customers, show_lines_to_copy, wait_ready
        from millirec.standalone import deployment
        from millirec.standalone.ports import choose_ports, remember_ports
        from millirec.standalone.startup import wait_for_end

        began = time.monotonic()
        data = chosen_folder(context, data, Path("var/demo"))
        ports = choose_ports(data, port, console_port)
        exposed_port = None if no_console else ports.console
        deployment.check_ports(ports.service, exposed_port)
        if fresh and data.exists():
            shutil.rmtree(data)
        url = f"http://127.0.0.1:{ports.service}"
        os.environ.update(deployment.environment(data))
        settings = load_settings()
        # What it shows is to be copied and pasted.
        keys = key_environment(data, configured=False, left_out=True)
        with deployment.embedded_store(data) as supervisor:
            remember_ports(data, ports)
            prepare(settings)
            deployment.services(
                supervisor, data, port=ports.service, workers=workers, extra={}, keys=keys, console_port=exposed_port
            )
            wait_ready(url, supervisor.tend)
            show_customers(url, settings)
            console.print(f"ready after {time.monotonic() - began:.0f} s", highlight=False)
            if check:
                check_promises(url, settings, None if exposed_port is None else f"http://127.0.0.1:{exposed_port}")
                return
            show_lines_to_copy(url)
            if exposed_port is not None:
                console.print()
                console.print(Text("Look at it:", style="bold"), f"http://127.0.0.1:{exposed_port}", highlight=False)
            console.print()
            console.print(f"Other commands see this deployment with `millirec --data {data} ...`. Ctrl-C stops it.")
            wait_for_end(supervisor.tend)


def prepare(settings: Settings) -> None:
    """Import, train and promote what is missing: a version of the first year, then one of both years.

    Two versions, so that there is something to roll back to.
    """
    registry = open_model_registry(settings.registry)
    source = shipped_data()
    if registry.alias(LIVE) is None:
        console.rule("the shop's first year")
        import_into_log([source / FIRST_YEAR], source / MAPPING, settings)
        train_version(settings, reason="demo: the first year")
    if len(registry.history(LIVE)) < 2:
        console.rule("the shop's second year")
        import_into_log([source / SECOND_YEAR], source / MAPPING, settings)
        seed_store(settings)
        train_version(settings, reason="demo: both years")


def shipped_data() -> Path:
    """Return the folder with the shop's data: beside the packages in a checkout, inside one when installed."""
    import millirec

    package = Path(millirec.__file__).parent
    for folder in (package.parent / "data", package / "data"):
        if (folder / MAPPING).is_file():
            return folder
    raise NotFound("the demo's data folder", str(package / "data"))
