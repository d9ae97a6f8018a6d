"""millirec consume: the consumer groups."""

import asyncio
import gc
import signal
from enum import StrEnum
from typing import Annotated

import typer

from millirec.settings import Settings, load_settings


class Group(StrEnum):
    """The consumer groups."""

    FEATURES = "features"
    LOG = "log"


def register(app: typer.Typer) -> None:
    """Add the `consume` command to `app`."""

    @app.command("consume")
    def consume(
        groups: Annotated[list[Group] | None, typer.Argument(help="features, log; both when none is named.")] = None,
        metrics_port: Annotated[int | None, typer.Option(help="Serve Prometheus metrics on this port.")] = None,
    ) -> None:
        """Read the interaction topic: `features` keeps users fresh, `log` writes the interaction log.

        Start as many as you like; they share the work. SIGTERM finishes what is in hand.
        """
        settings = load_settings()
        if metrics_port is not None:
            ingest = settings.ingest.model_copy(update={"metrics_port": metrics_port})
            settings = settings.model_copy(update={"ingest": ingest})
        asyncio.run(_consume(settings, [group.value for group in groups or list(Group)]))


async def _consume(settings: Settings, groups: list[str]) -> None:
    from ingest.stream.consumer import consume

    # All that was imported stays: full collections, of which busy consumers cause many, need not look at it again.
    gc.collect()
    gc.freeze()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop.set)
    await consume(
        groups,
        topic=settings.topic,
        store=settings.store,
        log=settings.log,
        registry=settings.registry,
        ingest=settings.ingest,
        stop=stop,
    )
