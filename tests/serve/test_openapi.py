"""The description of the server, and requests made up from it."""

import os

import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_schema_conformance,
    status_code_conformance,
)

from dyneval.serve.app import create_app
from dyneval.serve.batcher import Batcher
from dyneval.serve.settings import ServerSettings

# DYNEVAL_FUZZ_EXAMPLES=500 is the long run.
EXAMPLES = int(os.environ.get("DYNEVAL_FUZZ_EXAMPLES", "12"))
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def description():
    batcher = Batcher(lambda pairs: iter(()), batch_size=1, queue=64, wait=0, patience=1)
    return create_app(batcher, ServerSettings(token="a-long-enough-token"), {}).openapi()


def test_every_route_is_described_with_its_errors(description):
    assert set(description["paths"]) == {
        "/v1/score",
        "/v1/score/stream",
        "/v1/score/batch",
        "/v1/model",
        "/healthz",
        "/readyz",
        "/metrics",
    }
    score = description["paths"]["/v1/score"]["post"]
    assert set(score["requestBody"]["content"]) == {"application/json", "multipart/form-data"}
    assert {"200", "401", "413", "422", "429", "504"} <= set(score["responses"])
    assert "see /readyz" in description["paths"]["/healthz"]["get"]["description"]
    assert score["security"] == [{"token": []}] and "security" not in description["paths"]["/healthz"]["get"]


def test_its_schemas_are_schemas_and_say_what_scores_mean(description):
    components = description["components"]["schemas"]
    for name, schema in components.items():
        jsonschema.Draft202012Validator.check_schema(schema)
        for reference in references(schema):
            assert reference.removeprefix("#/components/schemas/") in components, (name, reference)
    assert "higher is better" in components["ScoreRecord"]["properties"]["t2ia"]["description"]


def references(value):
    if isinstance(value, dict):
        yield from [value["$ref"]] if "$ref" in value else []
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from references(inner)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=str)
def test_made_up_requests_get_described_answers_and_never_a_server_error(server, mode):
    schema = schemathesis.openapi.from_url(f"{server}/openapi.json")
    for result in schema.get_all_operations():
        operation = result.ok()
        if mode is GenerationMode.NEGATIVE and operation.method == "get":
            continue  # without parameters or body there is nothing to get wrong

        @settings(max_examples=EXAMPLES, derandomize=True, database=None, suppress_health_check=[*HealthCheck])
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case):
            case.call_and_validate(checks=CHECKS, timeout=60)

        check()
