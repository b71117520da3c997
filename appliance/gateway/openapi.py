"""What the gateway takes and answers, as an OpenAPI 3.1 document; made from the same types that check requests."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from appliance.gateway.config import Config
from appliance.gateway.proxy import Answer
from appliance.gateway.service import ROUTES, Route

_REF = "#/components/schemas/{model}"
_REFUSALS = {
    "400": "the request is not as expected", "401": "no valid key", "403": "a policy forbids it",
    "404": "no such route or model", "405": "another method", "408": "the body was too slow",
    "413": "the body is too large", "415": "not JSON", "429": "too much at once", "500": "the gateway failed",
    "502": "the engine failed", "503": "not now", "504": "it took too long",
}  # fmt: skip
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
            },
        }
    },
}
_EVENT = {"type": "object", "required": ["data"], "properties": {"data": {"type": "string"}}}
_ID = {"x-request-id": {"required": True, "schema": {"type": "string", "pattern": "^req-[0-9a-f]{24}$"}}}
_PURPOSE = {
    "name": "X-Airgap-Purpose", "in": "header", "required": False, "description": "for policies",
    "schema": {"type": "string", "pattern": "^([a-z0-9][a-z0-9._-]{0,63})?$"},
}  # fmt: skip


def document(settings: Config) -> dict[str, Any]:
    """The document of a gateway with these settings."""
    kinds = [(route.kind, "validation") for route in ROUTES.values()]
    _map, made = models_json_schema(kinds, ref_template=_REF)  # type: ignore[arg-type]
    schemas = dict(made["$defs"])
    for route in ROUTES.values():
        fields = schemas[route.kind.__name__]["properties"]
        is_embed = route.action == "embed"
        fields["model"] = {"enum": [model.name for model in settings.models if model.embeddings == is_embed]}
        if "n" in fields:
            fields["n"] = {"type": ["integer", "null"], "minimum": 1, "maximum": settings.bounds.choices}
    paths: dict[str, Any] = {
        route.path: {"post": _operation(route)} for route in ROUTES.values()
    }  # fmt: skip
    models = _answer("models", {"application/json": {"schema": _listed("id", "object", "created", "owned_by")}})
    paths["/v1/models"] = {
        "get": {"operationId": "models", "parameters": [_PURPOSE], "responses": {"200": models, **_refusals()}}
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "airgap gateway", "version": "1"},
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": {**schemas, "Error": _ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": _listed("embedding", "index", "object")}}
    if route.limit:
        created, listed = ("created", "choices") if route.answer is Answer else ("created_at", "output")
        answer = {
            "type": "object",
            "required": ["id", "object", created, "model", listed],
            "properties": {listed: {"type": "array", "items": {"type": "object"}}},
        }
        content = {"application/json": {"schema": answer}, "text/event-stream": {"schema": _EVENT}}
    return {
        "operationId": route.name,
        "parameters": [_PURPOSE],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": _REF.format(model=route.kind.__name__)}}},
        },
        "responses": {"200": _answer(route.name, content), **_refusals()},
    }


def _listed(*required: str) -> dict[str, Any]:
    items = {"type": "object", "required": list(required)}
    return {
        "type": "object",
        "required": ["object", "data"],
        "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": items}},
    }


def _answer(what: str, content: dict[str, Any]) -> dict[str, Any]:
    return {"description": what, "headers": _ID, "content": content}


def _refusals() -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": _REF.format(model="Error")}}}
    return {status: _answer(what, content) for status, what in _REFUSALS.items()}
