"""create_app: the only place where the service is put together."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Protocol

import faiss
import msgspec
import structlog
from fastapi import FastAPI
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.types import ASGIApp, Receive, Scope, Send

from app import metrics
from app.http.admission import admissions_of
from app.http.callers import Callers
from app.http.cursor import Cursors, secret_of
from app.http.dispatch import table_of
from app.http.docs_page import docs_page
from app.http.documents import Document
from app.http.edge import Edge
from app.http.expressions import Expressions
from app.http.openapi import describe
from app.http.services import Services
from app.http.turns import Turns
from app.http.typed_routes import TypedRouter
from app.metrics import WATCHER_FAILURES
from app.routes import (
    health,
    index_versions,
    interactions,
    items,
    placements,
    recommendations,
    rollouts,
    users,
    what_if,
)
from app.serving.answerer import Answerer
from app.serving.circuit_breaker import CircuitBreaker
from app.serving.feature_reader import FeatureReader
from app.serving.micro_batcher import MicroBatcher
from app.serving.shadow import Shadow
from app.settings import AppSettings
from app.spool.producer import InteractionProducer
from app.spool.spool import Spool
from app.versions.canary_guard import CanaryGuard
from app.versions.catalogue_watcher import CatalogueWatcher
from app.versions.index_watcher import IndexWatcher
from app.versions.live_index import LiveIndex
from app.versions.loader import Openings, VersionLoader
from app.versions.placement_watcher import PlacementWatcher
from app.versions.rollouts import LiveRollouts, RolloutWatcher
from app.versions.trend_watcher import LiveTrends, TrendWatcher
from recsys.background import end
from recsys.messages.schemas import asyncapi, pretty
from recsys.observability.unreadable import unreadable_met
from recsys.stores.heartbeats import Heartbeat, Reporter, process_name
from recsys.stores.model_registry import open_model_registry
from recsys.stores.online import open_stores
from recsys.stores.receipts import open_erasure_receipts
from recsys.stores.settings_log import open_settings_log
from recsys.stores.topic import open_interaction_topic

log = structlog.get_logger()
WATCHER_PAUSE = 1.0

DESCRIPTION = """Personal recommendations in milliseconds, from a service that learns from the next event.

Errors are RFC 9457 problem+json and name the field that is wrong. When keys are configured, send one in
`X-API-Key` or as a bearer token."""

PARTS = (recommendations, interactions, users, items, placements, index_versions, rollouts, what_if, health)
ROUTERS = (*(part.router for part in PARTS), index_versions.models_router)


def create_app(settings: AppSettings, version: str = "0", more_routers: Sequence[TypedRouter] = ()) -> FastAPI:
    """The service, ready for an ASGI server; everything it needs is opened in its lifespan.

    `more_routers` are those of whoever runs it, documented and guarded like its own.
    """
    turns = Turns()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        """Open the services at the start and close them at the end."""
        async with AsyncExitStack() as stack:
            callers.warn()
            app.state.services = await _open_services(settings, turns, stack)
            yield

    callers = Callers(settings.serve)
    app = Service((*ROUTERS, *more_routers), title="millirec", version=version, lifespan=lifespan)
    admissions = admissions_of(settings.serve, shared=callers.several)
    table = table_of(app.typed, _documents(app, settings), app.default_entry, lambda: app.state.services, admissions)
    app.edge = Edge(table, callers, turns, settings.serve)
    return app


def _documents(app: FastAPI, settings: AppSettings) -> dict[str, Document]:
    """The documents to serve, by path."""
    documents = {"/metrics": Document(CONTENT_TYPE_LATEST, metrics.exposition, settings.serve.metrics_interval)}
    if settings.serve.docs:
        topic = settings.topic.name
        documents |= docs_page()
        documents["/openapi.json"] = Document("application/json", lambda: msgspec.json.encode(app.openapi()))
        documents["/asyncapi.json"] = Document("application/json", lambda: pretty(asyncapi(topic)).encode())
    return documents


class Service(FastAPI):
    """FastAPI behind the `edge`, which gets each request and may pass it on to the `default_entry`."""

    edge: ASGIApp

    def __init__(self, routers: Sequence[TypedRouter], **described: Any) -> None:
        super().__init__(
            description=DESCRIPTION,
            separate_input_output_schemas=False,
            # What the service says about itself comes from `documents`.
            openapi_url=None,
            # A redirect would name the scheme that a proxy speaks to this process, and lead from https to http.
            redirect_slashes=False,
            **described,
        )
        self.typed = [route for router in routers for route in router.typed]
        for router in routers:
            self.include_router(router)
        self.default_entry: ASGIApp = super().__call__

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self.edge if scope["type"] == "http" else self.default_entry)(scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        """Nothing but the router: errors leave it as they are, and the edge answers them."""
        return AsyncExitStackMiddleware(self.router)

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document: FastAPI's paths with the Structs of the typed routes."""
        document = super().openapi()
        describe(document, self.typed)
        return document


async def _open_services(settings: AppSettings, turns: Turns, stack: AsyncExitStack) -> Services:
    serve = settings.serve
    # Requests share the cores among themselves; a search that takes them all would make others wait.
    faiss.omp_set_num_threads(1)
    stores = open_stores(settings.store)
    stack.push_async_callback(stores.aclose)
    live_index, live_trends, live_rollouts = LiveIndex(), LiveTrends(), LiveRollouts()
    openings = Openings(live_index, settings.registry.cache)
    registry = open_model_registry(settings.registry, proof=openings.prove)
    settings_log = open_settings_log(settings.registry)
    spool = None if serve.spool is None else Spool(serve.spool, serve.spool_limit, serve.spool_reserve)
    topic = open_interaction_topic(settings.topic, settings.store)
    producer = InteractionProducer(topic, serve.max_unacknowledged_bytes, spool)
    stack.push_async_callback(producer.aclose)
    expressions = Expressions()
    stack.callback(expressions.close)
    features = FeatureReader(stores.users, CircuitBreaker())
    guard = CanaryGuard(
        registry, stores.outcomes, stores.notifications, live_index, live_rollouts, 2 * serve.poll_interval
    )
    answerer = Answerer(live_index, features, live_trends, live_rollouts)
    shadow = Shadow(live_rollouts, live_index, answerer, stores.counters)
    batcher = MicroBatcher(answerer, live_rollouts, guard, shadow, serve.deadline)
    stack.push_async_callback(batcher.aclose)
    watcher = IndexWatcher(
        registry,
        settings.registry,
        live_index,
        stores.items,
        stores.notifications,
        alias=serve.alias,
        poll_interval=serve.poll_interval,
        openings=openings,
    )
    placement_watcher = PlacementWatcher(
        settings_log,
        settings.registry.cache,
        stores.notifications,
        configured=serve.placements,
        poll_interval=serve.poll_interval,
    )
    loader = VersionLoader(registry, settings.registry, stores.items, serve.poll_interval, openings)
    rollout_watcher = RolloutWatcher(registry, loader, live_index, live_rollouts, watcher.looked)
    await asyncio.gather(watcher.check(), placement_watcher.check())
    watchers: list[Watcher] = [watcher, rollout_watcher, placement_watcher, guard, shadow]
    watchers.append(CatalogueWatcher(live_index, stores.items, stores.notifications, serve.poll_interval))
    watchers.append(TrendWatcher(live_trends, live_index, stores.trends, serve.trends_interval))
    watchers.append(Reporter(stores.heartbeats, partial(_heartbeat, serve.alias, live_index)))
    if spool is not None:
        watchers.append(producer)
    for watch in watchers:
        stack.push_async_callback(end, asyncio.create_task(_keep_running(watch)))
    receipts = open_erasure_receipts(settings.registry)
    return Services(
        settings=serve,
        bounds=settings.bounds,
        turns=turns,
        expressions=expressions,
        cursors=Cursors(secret_of(serve)),
        answerer=answerer,
        batcher=batcher,
        live_index=live_index,
        watcher=watcher,
        producer=producer,
        stores=stores,
        registry=registry,
        settings_log=settings_log,
        placement_watcher=placement_watcher,
        receipts=receipts,
    )


def _heartbeat(alias: str, live_index: LiveIndex) -> Heartbeat:
    versions = [loaded.index.version for loaded in live_index.in_memory()]
    answering = live_index.current.index.version if live_index.current else None
    fallback = "" if live_index.fallback is None else str(live_index.fallback)
    return Heartbeat(
        process_name(),
        "serve",
        alias,
        answering,
        tuple(versions),
        fallback=fallback,
        unreadable=unreadable_met(),
    )


class Watcher(Protocol):
    """Something that follows changes in the background."""

    async def run(self) -> None:
        """Follow until cancelled."""


async def _keep_running(watcher: Watcher) -> None:
    """Run a watcher, and start it again after an error, which is logged and counted; serving goes on."""
    WATCHER_FAILURES.labels(type(watcher).__name__)
    while True:
        try:
            await watcher.run()
        except Exception:
            WATCHER_FAILURES.labels(type(watcher).__name__).inc()
            log.exception("a watcher failed, starting it again", watcher=type(watcher).__name__)
            await asyncio.sleep(WATCHER_PAUSE)
