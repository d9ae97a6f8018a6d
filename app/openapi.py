"""OpenAPI from the same msgspec Structs that decode and encode, so that the two cannot drift apart."""

from functools import cache
from typing import Any

import msgspec
from fastapi import FastAPI

from app import admin_schemas, recommend_schemas, rollout_schemas, schemas
from app.problems import MEDIA_TYPE
from recsys.index_registry.receipts import ErasureReceipt
from recsys.placement import Placement, PlacementChange

PLAIN = {"text/plain": {"schema": {"type": "string"}}}
_REF = "#/components/schemas/{name}"
_BODIES = (
    recommend_schemas.RecommendParams,
    recommend_schemas.RecommendBody,
    recommend_schemas.ListParams,
    recommend_schemas.TrendingParams,
    recommend_schemas.BatchBody,
    recommend_schemas.ExplainBody,
    recommend_schemas.PreviewBody,
    recommend_schemas.ItemsParams,
    recommend_schemas.Answer,
    recommend_schemas.BatchAnswer,
    recommend_schemas.ExplainAnswer,
    schemas.EventBody,
    schemas.EventsBody,
    schemas.ItemBody,
    schemas.ItemsBody,
    schemas.Receipts,
    schemas.UserAnswer,
    ErasureReceipt,
    admin_schemas.MergeBody,
    admin_schemas.PlacementAnswer,
    admin_schemas.PlacementsAnswer,
    admin_schemas.PlacementHistory,
    admin_schemas.ItemAnswer,
    admin_schemas.ItemsAnswer,
    Placement,
    PlacementChange,
    schemas.VersionsAnswer,
    schemas.MoveBody,
    rollout_schemas.PromoteBody,
    rollout_schemas.CanaryBody,
    rollout_schemas.ShadowBody,
    rollout_schemas.RolloutsAnswer,
    schemas.MoveAnswer,
    schemas.MovesAnswer,
    schemas.Health,
    schemas.Problem,
)


@cache
def _components() -> tuple[tuple[dict[str, Any], ...], dict[str, Any]]:
    return msgspec.json.schema_components(_BODIES, ref_template=_REF)


def schema_of(body: type[msgspec.Struct]) -> dict[str, Any]:
    return _components()[0][_BODIES.index(body)]


def takes(*bodies: type[msgspec.Struct], example: Any) -> dict[str, Any]:
    """`openapi_extra` of a route whose JSON body is one of `bodies`."""
    schemas_ = [schema_of(body) for body in bodies]
    schema = schemas_[0] if len(schemas_) == 1 else {"anyOf": schemas_}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}}


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
    """Without the null that stands for a parameter left out, which a query string cannot say."""
    choices = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
    return choices[0] if len(choices) == 1 else schema


def gives(body: type[msgspec.Struct], *statuses: int, ok: int = 200, example: Any = None) -> dict[int | str, Any]:
    """`responses` of a route: `body` on success, a problem for each of `statuses`."""
    content: dict[str, Any] = {"schema": schema_of(body)}
    if example is not None:
        content["example"] = example
    problem = {MEDIA_TYPE: {"schema": schema_of(schemas.Problem)}}
    reasons = {
        401: "No valid key",
        403: "The key lacks the scope",
        404: "No such thing",
        409: "The state forbids it",
        413: "The body is too large",
        422: "Invalid input; names the field",
        503: "Try again after Retry-After",
    }
    answers: dict[int | str, Any] = {ok: {"description": "Success", "content": {"application/json": content}}}
    for status in (401, 403, *statuses):
        if status == 400:
            # From the HTTP parser, before any of our code: a request line over 64 KiB.
            answers[status] = {"description": "Not HTTP, or a URL over 64 KiB: send a body instead", "content": PLAIN}
            continue
        answers[status] = {"description": reasons[status], "content": problem}
        if status == 503:
            answers[status]["headers"] = {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}}
    return answers


def install(app: FastAPI) -> None:
    """Add the Structs to the components of FastAPI's own document."""
    generate = app.openapi

    def document() -> dict[str, Any]:
        described = generate()
        components = described.setdefault("components", {})
        components.setdefault("schemas", {}).update(_components()[1])
        components["securitySchemes"] = {
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            "bearer": {"type": "http", "scheme": "bearer"},
        }
        for path, operations in described["paths"].items():
            for operation in operations.values():
                if not path.startswith("/health"):
                    operation["security"] = [{"key": []}, {"bearer": []}]
        return described

    app.openapi = document  # type: ignore[method-assign]
