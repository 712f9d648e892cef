"""The OpenAPI description of the scoring routes, at /openapi.json.

Bodies are described by the same types that the code checks them with, so a client that is made from the description
sends what the server takes. FastAPI describes only bodies that it reads itself, and here `bodies` reads them, under a
deadline. So the paths are filled in by hand: a new route of scoring needs its lines in `describe`.
"""

from __future__ import annotations

import json
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
    429: "the queue is full; Retry-After says in how many seconds there should be places",
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
_MULTIPART: Json = {
    "type": "object",
    "required": ["image", "prompt"],
    "properties": {
        "image": {"type": "string", "contentMediaType": "application/octet-stream"},
        "prompt": {"type": "string"},
        "pair_id": {"type": "string", "minLength": 1, "maxLength": 200},
    },
}


def describe(app: FastAPI, settings: ServerSettings) -> Json:
    """Return the description of an application; it is made once.

    Args:
        app: with the routes of `dyneval.serve.scoring_routes`.
        settings: whether there is a token, and how many pairs a batch may have.
    """
    if app.openapi_schema is not None:
        return app.openapi_schema
    whole = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    components = whole.setdefault("components", {})
    components["schemas"] = _schemas(settings)
    paths = whole["paths"]
    one = {
        "application/json": {"schema": _ref("ScoreRequest")},
        "multipart/form-data": {"schema": _MULTIPART},
    }
    many = {"application/json": {"schema": _ref("BatchRequest")}}
    text, fields = {"type": "string"}, {"type": "object"}
    stranger = {401: _REFUSALS[401]}
    not_ready = {503: "the student is warming up, or broken, or the server is ending"}
    # By path: media type and schema of the answer with status 200, then the meanings of all others.
    answers: dict[str, tuple[str, Json, dict[int, str]]] = {
        "/v1/score": ("application/json", _ref("ScoreRecord"), _REFUSALS),
        "/v1/score/stream": ("text/event-stream", text, _REFUSALS),
        "/v1/score/batch": ("application/json", _ref("BatchResult"), _REFUSALS),
        "/v1/model": ("application/json", fields, stranger),
        "/healthz": ("application/json", fields, {}),
        "/readyz": ("application/json", fields, not_ready),
        "/metrics": ("text/plain", text, stranger),
    }
    for path, (kind, schema, refusals) in answers.items():
        (operation,) = paths[path].values()
        operation["responses"] = {"200": {"description": "done", "content": {kind: {"schema": schema}}}}
        for status, meaning in refusals.items():
            refusal = {"description": meaning, "content": {"application/json": {"schema": _ref("Error")}}}
            operation["responses"][str(status)] = refusal
    for path, bodies in (("/v1/score", one), ("/v1/score/stream", one), ("/v1/score/batch", many)):
        operation = paths[path]["post"]
        operation["requestBody"] = {"required": True, "content": bodies}
        for status in (429, 503):
            operation["responses"][str(status)]["headers"] = _RETRY_AFTER
    if settings.token is not None:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for path in ("/v1/score", "/v1/score/stream", "/v1/score/batch", "/v1/model", "/metrics"):
            for operation in paths[path].values():
                operation["security"] = [{"token": []}]
    app.openapi_schema = whole
    return whole


def _schemas(settings: ServerSettings) -> Json:
    """Return the schemas of all bodies and answers by name."""
    _, requests = msgspec.json.schema_components(
        (ScoreRequest, BatchRequest), ref_template="#/components/schemas/{name}"
    )
    requests["BatchRequest"]["properties"]["pairs"]["maxItems"] = settings.max_pairs
    failed = {"type": "object", "required": ["pair_id", "error"], "properties": {"error": _ref("Error")}}
    results = {"type": "array", "items": {"anyOf": [_ref("ScoreRecord"), failed]}}
    batch = {"type": "object", "required": ["results"], "properties": {"results": results}}
    # `json_schema` has rules over two fields that msgspec alone does not know. It keeps its definitions below "$defs",
    # where OpenAPI does not look for them.
    text = json.dumps(json_schema(ScoreRecord)).replace('"#/$defs/', '"#/components/schemas/')
    record = json.loads(text)
    definitions = record.pop("$defs")
    record.pop("$schema")
    return {**requests, "BatchResult": batch, "Error": _ERROR, "ScoreRecord": record, **definitions}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}
