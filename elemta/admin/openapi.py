"""The OpenAPI 3.1 document of the admin port, made from the operations themselves."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterable
from typing import Any

import msgspec

from .operations import Operation, Parameter, Raw
from .problems import MEDIA_TYPE
from .shapes import ProblemShape

PATH = "/api/v1/openapi.json"
_TEMPLATE = "#/components/schemas/{name}"
_ALWAYS = (400, 401, 403, 421, 429)
"""The guard looks at a token also where none is needed."""
_TEXTS = {
    400: "The request cannot be: the detail says why",
    401: "A token is needed, or this one is not known",
    403: "The token is for something else, or the request comes from another site",
    404: "There is none",
    408: "The body did not come in time",
    409: "It does not go with what is there",
    413: "The body is too large",
    415: "The body is of another media type",
    421: "The server has another name",
    422: "It was understood, and refused",
    429: "Too many requests; Retry-After says when to come again",
    500: "It failed; the log says why",
    503: "Not now: storage is not available, or the server stops",
}
_DESCRIPTION = """
Look at a mail server and steer it. Errors are problem documents (RFC 9457). Each operation names the scope
that its token needs; the scope `operate` includes `read`, and `admin` everything. What happens is told as it
happens by the WebSocket at `/events`, which OpenAPI cannot describe: see docs/api.md.
"""


def make_document(operations: Iterable[Operation], version: str) -> dict[str, Any]:  # Any: JSON
    """The document of these operations."""
    operations = list(operations)
    types = [
        each for operation in operations for each in (operation.answer, operation.body) if _is_shape(each)
    ]
    unique = list(dict.fromkeys([*types, ProblemShape]))
    references, components = msgspec.json.schema_components(unique, ref_template=_TEMPLATE)
    refer = dict(zip(unique, references, strict=True))
    _describe_fields(components, unique)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, refer)
    return {
        "openapi": "3.1.0",
        "info": {"title": "elemta", "version": version, "description": " ".join(_DESCRIPTION.split())},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Made by `elemta token add`, or the one in the token file.",
                }
            },
        },
    }


def _is_shape(kind: object) -> bool:
    return kind is not None and not isinstance(kind, Raw)


def _operation(operation: Operation, refer: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [operation.tag],
        "responses": {str(operation.status): _answer(operation, refer)},
    }
    if operation.description:
        described["description"] = operation.description
    if operation.scope is not None:
        described["security"] = [{"token": []}]
        described["x-scope"] = operation.scope.value
    parameters = [
        *(_parameter(each, "path") for each in _path_parameters(operation)),
        *(_parameter(each, "query") for each in operation.query),
        *(_parameter(each, "header") for each in operation.headers),
    ]
    if parameters:
        described["parameters"] = parameters
    statuses = {*_ALWAYS, 500, *operation.problems}
    if operation.scope is not None:
        statuses.add(503)
    if operation.body is not None:
        statuses |= {408, 413, 415}
        media_type, schema = _content(operation.body, refer)
        described["requestBody"] = {"required": True, "content": {media_type: {"schema": schema}}}
    for status in sorted(statuses):
        described["responses"][str(status)] = {
            "description": _TEXTS[status],
            "content": {MEDIA_TYPE: {"schema": refer[ProblemShape]}},
        }
    for status, raw in operation.other_answers.items():
        described["responses"][str(status)] = {
            "description": raw.description or operation.summary,
            "content": {raw.media_type: {"schema": {"type": "string"}}},
        }
    return described


def _answer(operation: Operation, refer: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    media_type, schema = _content(operation.answer, refer)
    text = operation.answer.description if isinstance(operation.answer, Raw) else ""
    return {"description": text or operation.summary, "content": {media_type: {"schema": schema}}}


def _content(kind: Any, refer: dict[Any, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    if isinstance(kind, Raw):
        return kind.media_type, {"type": "string"}
    return "application/json", refer[kind]


def _path_parameters(operation: Operation) -> list[Parameter]:
    """Those of the path in its order, also where nothing is said of them."""
    known = {parameter.name: parameter for parameter in operation.parameters}
    names = re.findall(r"{(\w+)(?::\w+)?}", operation.path)
    return [known.get(name) or Parameter(name, f"The {name}", required=True) for name in names]


def _parameter(parameter: Parameter, place: str) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": parameter.name,
        "in": place,
        "description": parameter.description,
        "schema": parameter.schema,
    }
    if parameter.required or place == "path":
        described["required"] = True
    return described


def _describe_fields(components: dict[str, Any], types: Iterable[Any]) -> None:
    """Put the sentences under the fields of our shapes into the schema."""
    modules = {sys.modules[kind.__module__] for kind in types if kind.__module__ != "builtins"}
    for module in modules:
        for node in ast.parse(inspect.getsource(module)).body:
            if not isinstance(node, ast.ClassDef) or node.name not in components:
                continue
            properties = components[node.name].get("properties", {})
            for field, after in zip(node.body, node.body[1:], strict=False):
                if (
                    isinstance(field, ast.AnnAssign)
                    and isinstance(field.target, ast.Name)
                    and isinstance(after, ast.Expr)
                    and isinstance(after.value, ast.Constant)
                    and field.target.id in properties
                ):
                    text = " ".join(str(after.value.value).split())
                    properties[field.target.id] = {**properties[field.target.id], "description": text}
