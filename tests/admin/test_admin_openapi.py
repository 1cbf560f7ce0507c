"""The OpenAPI document is true: every route is in it, each answer has the shape that it says."""

from __future__ import annotations

import json
import re
from random import Random
from typing import Any
from urllib.parse import urlencode

import jsonschema
import pytest
import trio.testing
from admin_bed import Bed, open_bed

from elemta.admin.application import all_operations


async def document_of(bed: Bed) -> dict[str, Any]:
    answer = await bed.request("GET", "/api/v1/openapi.json")
    assert answer.status == 200
    document: dict[str, Any] = answer.json()
    return document


def check(document: dict[str, Any], method: str, path: str, status: int, value: object) -> None:
    """That an answer has the shape of the document."""
    answer = document["paths"][path][method]["responses"][str(status)]
    (content,) = answer["content"].values()
    jsonschema.Draft202012Validator({**content["schema"], "components": document["components"]}).validate(
        value
    )


async def test_every_operation_is_described_and_every_description_is_an_operation(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_bed() as bed:
        document = await document_of(bed)
        described = {
            (method.upper(), path) for path, methods in document["paths"].items() for method in methods
        }
        there = {(operation.method, operation.path) for operation in all_operations(bed.facts)}
        assert described == there | {("GET", "/api/v1/openapi.json")}
        # ids are unique, and each answers something else than 404 to its own path
        ids = [operation.id for operation in all_operations(bed.facts)]
        assert len(set(ids)) == len(ids)
        for method, path in described:
            answer = await bed.request(method, path.replace("{", "").replace("}", ""), body=b"")
            assert answer.status != 405, path
            if "{" not in path and method == "GET":
                assert answer.status != 404, path


async def test_the_document_follows_its_own_rules(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        document = await document_of(bed)
        assert document["openapi"].startswith("3.1")
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                for status, answer in operation["responses"].items():
                    assert answer["description"], (path, status)
                    for content in answer["content"].values():
                        jsonschema.Draft202012Validator.check_schema(content["schema"])
                needed = [each for each in operation.get("parameters", ()) if each["in"] == "path"]
                assert {each["name"] for each in needed} == {
                    part.strip("{}") for part in path.split("/") if part.startswith("{")
                }
                if operation.get("security"):
                    assert {"401", "403", "429"} <= set(operation["responses"]), (method, path)
        references = {text.split('"')[0] for text in json.dumps(document).split("#/components/schemas/")[1:]}
        assert references <= set(document["components"]["schemas"])


async def test_answers_have_their_shapes(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        message = await bed.accept("carl@far.example", "dora@other.example")
        wishes = {
            "/api/v1/queue": {"action": "hold", "selection": {"domain": "far.example"}, "limit": 5},
            "/api/v1/pauses": {"action": "pause", "kind": "domain", "value": "far.example", "seconds": 60},
        }
        document = await document_of(bed)
        for path, wish in wishes.items():
            answer = await bed.request("POST", path, body=json.dumps(wish).encode())
            assert answer.status == 200, answer.body
            check(document, "post", path, 200, answer.json())
        for path in (
            "/api/v1/status",
            "/api/v1/queue",
            "/api/v1/queue/{message}",
            "/api/v1/pauses",
            "/api/v1/trace",
            "/api/v1/trace/{message}",
            "/api/v1/audit",
            "/api/v1/tree",
            "/api/v1/sessions",
            "/api/v1/attempts",
            "/api/v1/overview",
        ):
            answer = await bed.request("GET", path.replace("{message}", message))
            assert answer.status == 200
            check(document, "get", path, 200, answer.json())


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/nowhere", 404),
        ("GET", "/api/v1/queue/0000000000000000", 404),
        ("DELETE", "/api/v1/status", 405),
        ("GET", "/api/v1/queue?stat=held", 400),
        ("GET", "/api/v1/queue?state=held&state=queued", 400),
        ("GET", "/api/v1/queue?limit=-1", 400),
        ("GET", "/api/v1/status?verbose=1", 400),
        ("GET", "/api/v1/dns/lookup", 400),
    ],
)
async def test_whatever_is_refused_is_a_problem_document(
    method: str, path: str, status: int, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_bed() as bed:
        answer = await bed.request(method, path)
        assert answer.status == status
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert (problem["type"], problem["status"]) == ("about:blank", status)
        assert problem["detail"]


async def test_a_body_of_another_media_type_is_415(autojump_clock: trio.testing.MockClock) -> None:
    async with open_bed() as bed:
        wish = b'{"action": "hold", "selection": {"all": true}}'
        for media_type, status in (
            ("text/plain", 415),
            ("application/x-www-form-urlencoded", 415),
            ("application/json; charset=utf-8", 200),
            ("application/vnd.elemta+json", 200),
        ):
            answer = await bed.request("POST", "/api/v1/queue", body=wish, **{"Content-Type": media_type})
            assert answer.status == status, media_type


def made_up(schema: dict[str, Any], document: dict[str, Any], random: Random, depth: int = 0) -> Any:
    """A value that is as the schema says, or here and there is not."""
    if random.random() < 0.08 or depth > 5:
        return random.choice(
            [None, -1, 2**70, 1.5, "", "x" * 700, "\x00\r\n", [], {}, True, "\u00fc@\u00e9.example"]
        )
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return made_up(document["components"]["schemas"][name], document, random, depth + 1)
    if "anyOf" in schema:
        return made_up(random.choice(schema["anyOf"]), document, random, depth + 1)
    if "enum" in schema:
        return random.choice(schema["enum"])
    match schema.get("type"):
        case "object":
            known = schema.get("properties", {})
            needed = schema.get("required", ())
            chosen = {
                name: made_up(each, document, random, depth + 1)
                for name, each in known.items()
                if name in needed or random.random() < 0.5
            }
            if isinstance(schema.get("additionalProperties"), dict):
                words = ["concurrency", "message_rate", "byte_rate", "nonsense"]
                inner = schema["additionalProperties"]
                chosen |= {
                    random.choice(words): made_up(inner, document, random, depth + 1) for _ in range(2)
                }
            return chosen
        case "array":
            return [
                made_up(schema.get("items", {}), document, random, depth + 1)
                for _ in range(random.choice([0, 1, 3]))
            ]
        case "integer":
            return random.choice([0, 1, 7, 1000, -5])
        case "number":
            return random.choice([0, 0.5, 9e8, -1])
        case "boolean":
            return random.random() < 0.5
        case _:
            return random.choice(
                [
                    "hold",
                    "release",
                    "resume",
                    "pause",
                    "anna@far.example",
                    "far.example",
                    "60/1m",
                    "add",
                    "domain",
                ]
            )


@pytest.mark.parametrize("seed", range(10))
async def test_whatever_is_sent_the_answer_is_one_of_the_document(
    seed: int, autojump_clock: trio.testing.MockClock
) -> None:
    random = Random(seed)
    async with open_bed() as bed:
        document = await document_of(bed)
        await bed.accept("anna@far.example")
        for operation in all_operations(bed.facts):
            path, method = operation.path, operation.method.lower()
            described = document["paths"][path][method]
            query = {
                each["name"]: str(made_up(each["schema"], document, random))
                for each in described.get("parameters", ())
                if each["in"] == "query" and (each.get("required") or random.random() < 0.3)
            }
            body = b""
            if (
                content := described.get("requestBody", {}).get("content", {}).get("application/json")
            ) is not None:
                body = json.dumps(made_up(content["schema"], document, random)).encode()
            filled = re.sub(r"{\w+(:\w+)?}", "0" * 16, path)
            answer = await bed.request(
                operation.method, f"{filled}?{urlencode(query)}" if query else filled, body=body
            )
            assert str(answer.status) in described["responses"], (operation.id, query, body, answer.body)
            assert answer.status != 500, (operation.id, query, body)
            if "json" in answer.headers.get("content-type", ""):
                check(document, method, path, answer.status, answer.json())
