"""millirec schemas: the schemas of messages on the topic, for code generators and validators."""

from pathlib import Path
from typing import Annotated

import typer

from millirec.terminal import console
from recsys.messages.schemas import documents


def register(app: typer.Typer) -> None:
    """Add the `schemas` command to `app`."""

    @app.command("schemas")
    def schemas(folder: Annotated[Path, typer.Argument(help="Where to write them; made if it is missing.")]) -> None:
        """Write the schemas of what the interaction topic takes: JSON Schema, Avro, Protobuf and AsyncAPI.

        Producers in other languages are built from them. A service tells the AsyncAPI document at /asyncapi.json.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in documents().items():
            (folder / name).write_text(text, encoding="utf-8")
            console.print(str(folder / name), highlight=False, soft_wrap=True)
