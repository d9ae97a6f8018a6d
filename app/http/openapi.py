"""OpenAPI from the same msgspec Structs that decode and encode, so that the two cannot drift apart."""

from collections.abc import Sequence
from typing import Any

import msgspec

from app.http.response import PROBLEM
from app.http.schemas.events import Problem
from app.http.typed_routes import Struct, TypedRoute

Document = dict[str, Any]
_REF = "#/components/schemas/{name}"
_REASONS = {
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


def describe(document: Document, routes: Sequence[TypedRoute]) -> None:
    """Add to FastAPI's own document what the signatures of `routes` say, and HEAD wherever there is GET."""
    schemas = _Schemas(routes)
    components = document.setdefault("components", {})
    components["schemas"] = schemas.components
    components["securitySchemes"] = {
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "bearer": {"type": "http", "scheme": "bearer"},
    }
    for route in routes:
        operations = document["paths"][route.path]
        operation = operations[route.method.lower()]
        parameters = [*(schemas.parameters(route.query) if route.query else ()), *route.headers]
        if parameters:
            operation.setdefault("parameters", []).extend(parameters)
        if route.bodies:
            operation["requestBody"] = _request_body(route, schemas)
        operation["responses"] = _responses(route, schemas)
        # In OpenAPI 3.1 a requirement may name roles; each alternative is one of its own.
        operation["security"] = [{kind: [scope.value]} for scope in route.scopes for kind in ("key", "bearer")]
        if route.method == "GET":
            operations["head"] = _head(operation)


class _Schemas:
    """The JSON schemas of all Structs that routes take and give."""

    def __init__(self, routes: Sequence[TypedRoute]) -> None:
        queries = [route.query for route in routes if route.query is not None]
        structs: set[Struct] = {
            Problem,
            *queries,
            *(body for route in routes for body in (*route.bodies, route.answer_type)),
        }
        ordered = sorted(structs, key=lambda struct: struct.__name__)
        references, self.components = msgspec.json.schema_components(ordered, ref_template=_REF)
        self._references = dict(zip(ordered, references, strict=True))

    def reference(self, struct: Struct) -> Document:
        """The reference to the component of a Struct."""
        return self._references[struct]

    def parameters(self, struct: Struct) -> list[Document]:
        """The fields of a Struct as parameters of a query string."""
        described = self.components[struct.__name__]
        return [
            {
                "name": name,
                "in": "query",
                "required": name in described.get("required", ()),
                "schema": _present(schema),
                "description": _present(schema).get("description", name),
            }
            for name, schema in described["properties"].items()
        ]


def _present(schema: Document) -> Document:
    """The schema without null: a query string leaves a parameter out instead."""
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    return choices[0] if len(choices) == 1 else schema


def _request_body(route: TypedRoute, schemas: _Schemas) -> Document:
    references = [schemas.reference(body) for body in route.bodies]
    schema = references[0] if len(references) == 1 else {"anyOf": references}
    return {"required": True, "content": {"application/json": {"schema": schema, "example": route.example}}}


def _responses(route: TypedRoute, schemas: _Schemas) -> Document:
    content: Document = {"schema": schemas.reference(route.answer_type)}
    if route.answer_example is not None:
        content["example"] = route.answer_example
    responses: Document = {
        str(route.status): {"description": "Success", "content": {"application/json": content}},
    }
    problem = {PROBLEM: {"schema": schemas.reference(Problem)}}
    for status in sorted({*route.problems, *_of_edge(route)}):
        responses[str(status)] = {"description": _REASONS[status], "content": problem}
        if status in (429, 503):
            retry = {"description": "Seconds", "schema": {"type": "integer"}}
            responses[str(status)]["headers"] = {"Retry-After": retry}
    return responses


def _of_edge(route: TypedRoute) -> set[int]:
    """The statuses that the edge and decoding may answer with, whatever the route."""
    statuses = {400, 401, 403, 421, 429}
    if route.scopes:
        statuses.add(503)
    if route.query:
        statuses |= {414, 422}
    if route.bodies:
        statuses |= {408, 413, 415, 422}
    if route.named:
        statuses.add(422)
    return statuses


def _head(operation: Document) -> Document:
    """GET without the body of its answer."""
    responses = {
        status: {name: part for name, part in response.items() if name != "content"}
        for status, response in operation["responses"].items()
    }
    return {**operation, "operationId": f"{operation['operationId']}_head", "responses": responses}


def header(name: str, length: int, description: str) -> Document:
    """The parameter for an optional header of up to `length` characters."""
    schema = {"type": "string", "minLength": 1, "maxLength": length, "pattern": "^[ -~]+$"}
    return {"name": name, "in": "header", "required": False, "schema": schema, "description": description}
