"""millirec config: the effective settings."""

from typing import Annotated

import msgspec
import typer

from millirec.settings import load_settings
from millirec.terminal import print_json
from recsys.observability.text import masked


def register(app: typer.Typer) -> None:
    """Add the `config` command to `app`."""

    @app.command("config")
    def config(
        section: Annotated[str | None, typer.Argument(help="Only this section, such as `topic`.")] = None,
        schema: Annotated[bool, typer.Option(help="Every setting with its description, as JSON Schema.")] = False,
    ) -> None:
        """Print the effective settings as JSON, secrets masked."""
        settings = load_settings()
        values = settings.model_json_schema() if schema else settings.model_dump(mode="json")
        if section is not None and not schema:
            if section not in values:
                raise typer.BadParameter(f"{section!r} is not one of {', '.join(values)}")
            values = values[section]
        print_json(msgspec.json.decode(masked(msgspec.json.encode(values).decode())))
