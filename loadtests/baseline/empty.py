"""An empty FastAPI route: the ceiling for any service built on it."""

from fastapi import FastAPI

app = FastAPI()


@app.get("/recommend")
async def recommend() -> dict[str, str]:
    """An empty object."""
    return {}
