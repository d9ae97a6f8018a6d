"""millirec key: make an API key."""

from hashlib import sha256
from typing import Annotated

import typer
from rich.text import Text

from app.settings import Scope
from millirec.standalone.api_keys import make_key
from millirec.terminal import console

SCOPES = (
    "What it may do; repeat for several. recommend: ask; events: send interactions; catalogue: PUT /items; "
    "users: look at, erase and merge them; admin: versions, rollouts, placements, and users too."
)


def register(app: typer.Typer) -> None:
    """Add the `key` command to `app`."""

    @app.command("key")
    def key(
        name: Annotated[str, typer.Argument(help="Who will hold the key; appears in logs and audit entries.")],
        scope: Annotated[list[Scope], typer.Option(help=SCOPES)] = [Scope.RECOMMEND],  # noqa: B006
    ) -> None:
        """Make an API key: shown once, stored only as a hash."""
        secret = make_key()
        scopes = ", ".join(f'"{entry.value}"' for entry in scope)
        console.print("The key, shown only now:", highlight=False)
        console.print(f"  {secret}", highlight=False, soft_wrap=True)
        console.print()
        console.print("For the configuration file:", highlight=False)
        digest = sha256(secret.encode()).hexdigest()
        lines = ["[[serve.keys]]", f'name = "{name}"', f'sha256 = "{digest}"', f"scopes = [{scopes}]"]
        console.print(Text("\n".join(lines)), highlight=False, soft_wrap=True)
