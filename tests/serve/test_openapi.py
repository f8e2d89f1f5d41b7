"""The OpenAPI document: every mounted route and method is in it, and nothing else; and it can be fetched."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

import parley
from models.database import Database
from models.http.operations import ATTRIBUTE
from models.keys import create_key
from models.settings.settings import Settings
from serve.openapi import document as openapi
from serve.openapi.operations import OPERATIONS
from tests.serve.gateways import Serving, serving
from tests.serve.test_gateway import ask

GATEWAY = Path(__file__).parent.parent.parent / "serve" / "gateway" / "app.py"
OURS = [operation for operation in OPERATIONS if "{" not in operation.path]


@pytest.fixture
def whole(settings: Settings, database: Database) -> Iterator[Serving]:
    """A gateway with every room's routes, as `parley gateway` has them."""
    with serving(settings, database, parley.api_routes(settings, database)) as running:
        yield running


def test_every_mounted_route_and_method_is_in_it_and_no_more(settings: Settings, database: Database) -> None:
    mounts = parley.api_routes(settings, database)
    paths = openapi.openapi_document(mounts)["paths"]
    own = {(operation.method, operation.path) for operation in OPERATIONS}
    mounted = {
        (method, route.path.replace(":path}", "}"))  # type: ignore[attr-defined]  # a Route has both
        for route in mounts
        for method in route.methods - {"HEAD"}  # type: ignore[attr-defined]
    }
    described = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert described == own | mounted
    assert not own & mounted
    for route in mounts:
        assert len(getattr(route, ATTRIBUTE)) == len(route.methods - {"HEAD"})  # type: ignore[attr-defined]


def test_every_route_of_the_gateways_own_is_in_it() -> None:
    """The gateway compares paths to find its own routes: each path in its source is described."""
    named = {
        node.value
        for node in ast.walk(ast.parse(GATEWAY.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"/[\w./]+", node.value)
    }
    assert "/v1/chat/completions" in named
    described = {operation.path.replace("{model}", "") for operation in OPERATIONS}
    assert named <= described, "describe them in serve/openapi/operations.py"


def test_the_gateways_own_routes_answer_as_described(whole: Serving, subtests: pytest.Subtests) -> None:
    for operation in OURS:
        with subtests.test(method=operation.method, path=operation.path):
            status, body, headers = ask(
                whole.root + operation.path, operation.method, data=b"{}" if operation.body else None
            )
            assert status in {200, 400}, "it is in the document, and not in the gateway"
            media_type = "text/plain" if operation.path == "/metrics" else "application/json"
            assert headers["content-type"].partition(";")[0] == media_type
            if status == 400:
                assert set(body["error"]) == {"message", "type", "param", "code"}


@pytest.mark.long
def test_it_is_fetched_with_a_key_where_keys_are_on(whole: Serving) -> None:
    status, document, headers = ask(f"{whole.root}/openapi.json")
    assert (status, document["openapi"], headers["content-type"]) == (200, "3.1.0", "application/json")
    key = create_key(whole.database, name="app", role="client")
    whole.seen(lambda snapshot: snapshot.keys_needed)
    assert ask(f"{whole.root}/openapi.json")[0] == 401
    assert ask(f"{whole.root}/openapi.json", key=key)[1] == document


@pytest.mark.long
def test_it_is_openapi_its_references_lead_somewhere_and_its_schemas_are_schemas(
    settings: Settings, database: Database
) -> None:
    import schemathesis

    document = openapi.openapi_document(parley.api_routes(settings, database))
    schemathesis.openapi.from_dict(document).validate()
    written = json.dumps(document)
    for reference in set(re.findall(r'"\$ref": "([^"]+)"', written)):
        target = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    names = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(names) == len(set(names))


def test_each_operation_says_how_it_may_fail(settings: Settings, database: Database) -> None:
    for path, methods in openapi.openapi_document(parley.api_routes(settings, database))["paths"].items():
        for method, operation in methods.items():
            assert {"400", "415", "500"} <= operation["responses"].keys(), (method, path)
            assert len({"200", "201"} & operation["responses"].keys()) == 1, (method, path)
            assert ("401" in operation["responses"]) is (path not in ("/health", "/ready"))
            if "{" in path:
                assert "404" in operation["responses"], (method, path)
                assert [place["name"] for place in operation["parameters"] if place["in"] == "path"]


@pytest.mark.long
def test_parley_openapi_prints_it() -> None:
    done = subprocess.run([sys.executable, "-m", "parley", "openapi"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["paths"].keys() >= {"/v1/chat/completions", "/v1/files", "/v1/fine_tuning/jobs"}
    assert not done.stderr
