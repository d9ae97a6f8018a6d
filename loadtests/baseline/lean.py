"""The lean service most teams would write: FastAPI, redis-py and Faiss, one GET per request, pydantic answers.

No authentication, metrics, filters, availability, fallback, versions or attribution.
"""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import faiss
import numpy as np
from fastapi import FastAPI, Query, Request
from pydantic import BaseModel
from redis.asyncio import Redis

DIRECTORY = Path(os.environ["LEAN_DIRECTORY"])


class RecommendedItem(BaseModel):
    """One item and its score."""

    item_id: str
    score: float


class RecommendationBody(BaseModel):
    """The answer: items, best first."""

    user_id: str
    items: list[RecommendedItem]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the index and the store, and close the store at the end."""
    faiss.omp_set_num_threads(1)
    app.state.index = faiss.read_index(str(DIRECTORY / "items.faiss"))
    app.state.item_ids = json.loads((DIRECTORY / "item_ids.json").read_text())
    app.state.redis = Redis.from_url(os.environ["LEAN_REDIS"])
    yield
    await app.state.redis.aclose()


app = FastAPI(lifespan=lifespan)


@app.get("/recommend")
async def recommend(request: Request, user_id: str, k: int = Query(10, ge=1, le=500)) -> RecommendationBody:
    """The `k` items nearest to the user's vector; none for an unknown user."""
    state = request.app.state
    stored = await state.redis.get(f"lean:{user_id}")
    if stored is None:
        return RecommendationBody(user_id=user_id, items=[])
    scores, rows = state.index.search(np.frombuffer(stored, dtype=np.float32)[None, :], k)
    return RecommendationBody(
        user_id=user_id,
        items=[
            RecommendedItem(item_id=state.item_ids[row], score=float(score))
            for row, score in zip(rows[0], scores[0], strict=True)
        ],
    )
