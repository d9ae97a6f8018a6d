"""OpenAPI from the same msgspec Structs that decode and encode, so that the two cannot drift apart."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute

from app.http.dependencies import scopes_of
from app.http.problems import MEDIA_TYPE
from app.http.schemas import admin, events, operations, recommendations, rollouts
from app.settings import Scope
from recsys.recommender.placement import Placement, PlacementChange
from recsys.stores.receipts import ErasureReceipt

_REF = "#/components/schemas/{name}"
_BODIES = (
    recommendations.RecommendParams,
    recommendations.RecommendBody,
    recommendations.ListParams,
    recommendations.TrendingParams,
    recommendations.BatchBody,
    recommendations.ExplainBody,
    recommendations.PreviewBody,
    recommendations.ItemsParams,
    recommendations.Answer,
    recommendations.BatchAnswer,
    recommendations.ExplainAnswer,
    events.EventBody,
    events.EventsBody,
    events.ItemBody,
    events.ItemsBody,
    events.Receipts,
    events.UserAnswer,
    ErasureReceipt,
    admin.MergeBody,
    admin.PlacementAnswer,
    admin.PlacementsAnswer,
    admin.PlacementHistory,
    admin.ItemAnswer,
    admin.ItemsAnswer,
    Placement,
    PlacementChange,
    events.ModelsAnswer,
    events.VersionsAnswer,
    events.MoveBody,
    rollouts.PromoteBody,
    rollouts.CanaryBody,
    rollouts.ShadowBody,
    rollouts.RolloutsAnswer,
    events.MoveAnswer,
    events.MovesAnswer,
    operations.LetterParams,
    operations.LettersAnswer,
    operations.LetterContent,
    operations.ReplayBody,
    operations.DiscardBody,
    operations.LetterCountAnswer,
    operations.ImportsAnswer,
    operations.ChecksAnswer,
    operations.VersionDifference,
    events.Health,
    events.Problem,
)


@cache
def _components() -> tuple[tuple[dict[str, Any], ...], dict[str, Any]]:
    return msgspec.json.schema_components(_BODIES, ref_template=_REF)


def schema_of(body: type[msgspec.Struct]) -> dict[str, Any]:
    """The JSON schema of a body: a reference to its component."""
    return _components()[0][_BODIES.index(body)]


def takes(*bodies: type[msgspec.Struct], example: Any) -> dict[str, Any]:
    """`openapi_extra` of a route whose JSON body is one of `bodies`."""
    schemas_ = [schema_of(body) for body in bodies]
    schema = schemas_[0] if len(schemas_) == 1 else {"anyOf": schemas_}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}}


def heeds(name: str, length: int, description: str) -> dict[str, Any]:
    """`openapi_extra` of a route that reads an optional header of up to `length` characters."""
    schema = {"type": "string", "minLength": 1, "maxLength": length, "pattern": "^[ -~]+$"}
    return {
        "parameters": [{"name": name, "in": "header", "required": False, "schema": schema, "description": description}]
    }


def reads(parameters: type[msgspec.Struct]) -> dict[str, Any]:
    """`openapi_extra` of a route whose query string is `parameters`."""
    described = _components()[1][parameters.__name__]
    return {
        "parameters": [
            {
                "name": name,
                "in": "query",
                "required": name in described.get("required", ()),
                "schema": _present(schema),
                "description": _present(schema).get("description", name),
            }
            for name, schema in described["properties"].items()
        ]
    }


def _present(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without null: a query string leaves a parameter out instead."""
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    return choices[0] if len(choices) == 1 else schema


def gives(body: type[msgspec.Struct], *statuses: int, ok: int = 200, example: Any = None) -> dict[int | str, Any]:
    """`responses` of a route: `body` on success, a problem for each of `statuses`."""
    content: dict[str, Any] = {"schema": schema_of(body)}
    if example is not None:
        content["example"] = example
    problem = {MEDIA_TYPE: {"schema": schema_of(events.Problem)}}
    reasons = {
        400: "The URL is not UTF-8, or this is not HTTP",
        401: "No valid key",
        403: "The key lacks the scope",
        404: "No such thing",
        409: "The state forbids it",
        408: "The body did not arrive in time",
        413: "The body is too large",
        414: "The URL is too long: send a body instead",
        415: "Without keys: the body does not say that it is JSON",
        421: "Without keys: the Host header names another service",
        422: "Invalid input; names the field",
        429: "The key is over its rate limit, or has its share of what is being answered",
        503: "Try again after Retry-After",
    }
    answers: dict[int | str, Any] = {ok: {"description": "Success", "content": {"application/json": content}}}
    # The edge refuses these before any route is looked at: where there is a query, and where there is a body.
    edge = (414,) * (400 in statuses) + (408, 415) * (413 in statuses)
    for status in sorted({400, 401, 403, 421, 429, *statuses, *edge}):
        answers[status] = {"description": reasons[status], "content": problem}
        if status in (429, 503):
            answers[status]["headers"] = {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}}
    return answers


def required_scopes(route: APIRoute) -> tuple[Scope, ...]:
    """The scopes of which the route needs any."""
    return next(filter(None, (scopes_of(part.call) for part in route.dependant.dependencies)), ())


def install(app: FastAPI, routers: Sequence[APIRouter]) -> None:
    """Add the Structs to the components of FastAPI's own document, and to each route the scopes that open it."""
    generate = app.openapi

    def document() -> dict[str, Any]:
        """The OpenAPI document, with all components and the scopes of each operation."""
        described = generate()
        components = described.setdefault("components", {})
        components.setdefault("schemas", {}).update(_components()[1])
        components["securitySchemes"] = {
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            "bearer": {"type": "http", "scheme": "bearer"},
        }
        for route in (route for router in routers for route in router.routes):
            if isinstance(route, APIRoute) and route.include_in_schema:
                names = [scope.value for scope in required_scopes(route)]
                for method in route.methods or ():
                    operation = described["paths"][route.path_format][method.lower()]
                    # In OpenAPI 3.1 a requirement may name roles; each alternative is one of its own.
                    operation["security"] = [{kind: [name]} for name in names for kind in ("key", "bearer")]
        return described

    app.openapi = document  # type: ignore[method-assign]
