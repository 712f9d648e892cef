"""The OpenAPI description; bodies come from the models and schemas that the code itself checks with."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from dyneval.records import ScoreRecord, json_schema
from dyneval.serve.bodies import BatchRequest, ScoreRequest
from dyneval.serve.settings import ServerSettings

Json = dict[str, Any]

DESCRIPTION = """Scores images against the prompts that they were made from.

`t2ia` (text-to-image alignment), `iqa` (image quality) and `overall` run from 1 to 5, higher is better; `normalised` is
`(score - 1) / 4`. When the queue is full the answer is 429 with `Retry-After`. URLs and paths are never opened: the
image stands in the request."""
_REFUSALS = {
    400: "the body cannot be read",
    401: "the bearer token is missing or wrong",
    403: "a name of the server that it does not know, or a page of another site: see --allow-host",
    408: "the request did not arrive in time",
    413: "the request is too large",
    415: "the media type is unknown",
    422: "the pair cannot be scored: image, prompt or fields are wrong",
    429: "the queue is full; Retry-After says in how many seconds there should be room",
    500: "the student broke",
    503: "the student warms up, or no image can be decoded; Retry-After says in how many seconds to ask again",
    504: "no result in time",
}
_RETRY_AFTER = {"Retry-After": {"required": True, "schema": {"type": "string", "pattern": "^[0-9]+$"}}}
_ERROR: Json = {
    "type": "object",
    "required": ["code", "message"],
    "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
}


def describe(app: FastAPI, settings: ServerSettings) -> Json:
    """Description of `app`, made once."""
    if app.openapi_schema is None:
        whole = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        components = whole.setdefault("components", {})
        components["schemas"] = _schemas(settings)
        if settings.token is not None:
            components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        _describe_paths(whole["paths"], settings.token is not None)
        app.openapi_schema = whole
    return app.openapi_schema


def _schemas(settings: ServerSettings) -> Json:
    _, requests = msgspec.json.schema_components(
        (ScoreRequest, BatchRequest), ref_template="#/components/schemas/{name}"
    )
    requests["BatchRequest"]["properties"]["pairs"]["maxItems"] = settings.max_pairs
    result = {"type": "object", "required": ["results"], "properties": {"results": {"type": "array", "items": {}}}}
    failed = {"type": "object", "required": ["pair_id", "error"], "properties": {"error": _ref("Error")}}
    result["properties"]["results"]["items"] = {"anyOf": [_ref("ScoreRecord"), failed]}  # type: ignore[index]
    return {**requests, "BatchResult": result, "Error": _ERROR, **_score_record()}


def _score_record() -> Json:
    """The schema of score records, its definitions moved to where OpenAPI wants them."""
    record = _moved(json_schema(ScoreRecord))
    definitions = record.pop("$defs")
    record.pop("$schema")
    return {"ScoreRecord": record, **definitions}


def _moved(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: inner.replace("#/$defs/", "#/components/schemas/") if key == "$ref" else _moved(inner)
            for key, inner in value.items()
        }
    return [_moved(inner) for inner in value] if isinstance(value, list) else value


def _describe_paths(paths: Json, token: bool) -> None:
    multipart = {
        "schema": {
            "type": "object",
            "required": ["image", "prompt"],
            "properties": {
                "image": {"type": "string", "contentMediaType": "application/octet-stream"},
                "prompt": {"type": "string"},
                "pair_id": {"type": "string", "minLength": 1, "maxLength": 200},
            },
        }
    }
    one = {"application/json": {"schema": _ref("ScoreRequest")}, "multipart/form-data": multipart}
    many = {"application/json": {"schema": _ref("BatchRequest")}}
    _scoring(paths["/v1/score"]["post"], one, "application/json", _ref("ScoreRecord"))
    _scoring(paths["/v1/score/stream"]["post"], one, "text/event-stream", {"type": "string"})
    _scoring(paths["/v1/score/batch"]["post"], many, "application/json", _ref("BatchResult"))
    _answers(paths["/v1/model"]["get"], "application/json", {"type": "object"}, (401,))
    _answers(paths["/healthz"]["get"], "application/json", {"type": "object"})
    _answers(paths["/readyz"]["get"], "application/json", {"type": "object"})
    paths["/readyz"]["get"]["responses"]["503"] = _refusal(
        "the student is warming up, or broken, or the server is ending"
    )
    _answers(paths["/metrics"]["get"], "text/plain", {"type": "string"}, (401,))
    if token:
        for path in ("/v1/score", "/v1/score/stream", "/v1/score/batch", "/v1/model", "/metrics"):
            for operation in paths[path].values():
                operation["security"] = [{"token": []}]


def _scoring(operation: Json, bodies: Json, kind: str, schema: Json) -> None:
    operation["requestBody"] = {"required": True, "content": bodies}
    _answers(operation, kind, schema, tuple(_REFUSALS))
    for status in ("429", "503"):
        operation["responses"][status]["headers"] = _RETRY_AFTER


def _answers(operation: Json, kind: str, schema: Json, refusals: tuple[int, ...] = ()) -> None:
    answer = {"description": "done", "content": {kind: {"schema": schema}}}
    operation["responses"] = {"200": answer} | {str(status): _refusal(_REFUSALS[status]) for status in refusals}


def _refusal(meaning: str) -> Json:
    return {"description": meaning, "content": {"application/json": {"schema": _ref("Error")}}}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}
