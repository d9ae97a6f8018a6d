"""millirec seed: bring the feature store up to what the interaction log knows."""

import typer

from millirec.commands.import_ import seed_store
from millirec.settings import load_settings
from millirec.terminal import console


def register(app: typer.Typer) -> None:
    """Add the `seed` command to `app`."""

    @app.command("seed")
    def seed() -> None:
        """Bring the feature store up to what the interaction log knows: users' recent interactions, all items.

        Safe at any time, also while consumers run: what the store knows already is joined, never lost.
        """
        seed_store(load_settings())
        console.print("the feature store knows what the log knows")
