"""The API description."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from taskflow.flow.admit import FIELDS
from taskflow.roles.api import schemas
from tests.api.house import House
from tests.api.test_submit import BAD_FIELDS


@pytest.fixture
async def description(house: House) -> dict[str, Any]:
    """The document."""
    return dict((await house.http.get("http://here/openapi.json")).json())


async def test_the_description_is_good_openapi(house: House, description: dict[str, Any]) -> None:
    """3.1, accepted by the validator; 304 for who has it."""
    OpenAPIV31SpecValidator(description).validate()
    assert description["openapi"].startswith("3.1")
    answer = await house.http.get("http://here/openapi.json")
    again = await house.http.get("http://here/openapi.json", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304


async def test_every_operation_has_an_id_and_words(description: dict[str, Any]) -> None:
    """An id of its own, a summary, a description, and problem documents for its errors."""
    operations = [operation for methods in description["paths"].values() for operation in methods.values()]
    assert len(operations) == 22
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    for operation in operations:
        assert operation["summary"]
        assert operation["description"].endswith(".")
        for status, answer in operation["responses"].items():
            if status >= "400" and status != "503":
                assert list(answer["content"]) == ["application/problem+json"]


def test_the_described_submit_has_the_fields_that_are_taken() -> None:
    """No more, no less."""
    assert set(schemas.Submit.model_fields) == set(FIELDS)


UNDESCRIBED = {
    "unknown task", "unknown queue", "payload misfit", "payload lacks", "payload too large", "metadata too large",
    "run_at beyond", "expiry before start", "run_at local", "run_at no instant", "run_at year 1", "delay endless", "timeout 25 h", "priority 5.0",
}  # fmt: skip
"""What depends on the catalogue, on the clock or on a size, or what JSON Schema cannot say (5.0 is an integer there)."""


@pytest.mark.parametrize("name", sorted(set(BAD_FIELDS) - UNDESCRIBED))
async def test_what_is_refused_is_described_as_wrong(description: dict[str, Any], name: str) -> None:
    """Clients that check against the description find the same mistakes."""
    wrong, _ = BAD_FIELDS[name]
    body = {field: value for field, value in ({"task": "t.any"} | wrong).items() if value is not None}
    schema = {"$ref": "#/components/schemas/Submit", "components": description["components"]}
    assert not jsonschema_rs.validator_for(json.dumps(schema)).is_valid(body)


async def test_documents_are_as_described(house: House, description: dict[str, Any]) -> None:
    """A job of each kind."""
    schema = {"$ref": "#/components/schemas/Job", "components": description["components"]}
    validator = jsonschema_rs.validator_for(json.dumps(schema))
    for job_id in (await house.finished(), await house.failed(), (await house.submit(delay=9))["id"]):
        validator.validate(await house.get(job_id))
