"""The gateway's routes, access and response shapes, with the real SDK and without engines."""

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import openai
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from models.database import Database
from models.errors import Conflict
from models.keys import create_key, list_keys, revoke_key
from models.settings.settings import Settings, load_settings
from models.spec import ModelSpec, Upstream
from tests.serve.gateways import Serving, serving
from tests.serve.paced_upstream import PacedUpstream

HELLO: list = [{"role": "user", "content": "hello"}]


def ask(url: str, method: str = "GET", key: str | None = None, data: bytes | None = None) -> tuple[int, dict, dict]:
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            body = answer.read()
            return answer.status, json.loads(body) if b"{" in body[:1] else {}, dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}"), dict(error.headers)


@pytest.mark.long
def test_models_are_listed_and_retrieved(gateway: Serving, tmp_path: Path) -> None:
    gateway.engine("org/base", tmp_path / "base", None)
    upstream = Upstream(base_url="https://api.openai.com/v1", model="ft:gpt-4o-mini:acme::abc")
    gateway.registry.register(
        ModelSpec(id="ft:gpt-4o-mini:acme::abc", kind="hosted", upstream=upstream, shutdown_date=date(2027, 1, 14))
    )
    gateway.registry.register(ModelSpec(id="hidden", kind="hosted", upstream=upstream, state="candidate"))
    gateway.registry.alias("bot", "org/base")
    gateway.seen(lambda snapshot: "bot" in snapshot.routes)
    client = openai.OpenAI(base_url=gateway.base_url, api_key="any")
    models = {model.id: model for model in client.models.list()}
    assert list(models) == ["org/base", "ft:gpt-4o-mini:acme::abc", "bot"]
    assert models["ft:gpt-4o-mini:acme::abc"].shutdown_date == "2027-01-14"
    assert models["ft:gpt-4o-mini:acme::abc"].owned_by == "api.openai.com"
    model = client.models.retrieve("org/base")
    assert (model.id, model.object, model.owned_by) == ("org/base", "model", "parley")
    assert model.to_dict()["parley"] == {"kind": "base", "state": "starting", "base": None}
    assert client.models.retrieve("bot").to_dict()["parley"]["alias_of"] == "org/base"  # type: ignore[index] -- a field of ours that the SDK does not know
    assert client.models.retrieve("hidden").id == "hidden"
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve("nobody/here")
    assert missing.value.code == "model_not_found"


def test_unknown_routes_and_models_get_openais_error_format(gateway: Serving, subtests: pytest.Subtests) -> None:
    for method, path, status, code in [
        ("GET", "/v1/nothing", 404, "unknown_url"),
        ("GET", "/", 404, "unknown_url"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("DELETE", "/v1/models/some", 404, "model_not_found"),
        ("POST", "/v1/models/some", 405, "method_not_allowed"),
        ("POST", "/health", 405, "method_not_allowed"),
        ("GET", "/v1/models/nobody", 404, "model_not_found"),
    ]:
        with subtests.test(method=method, path=path, status=status, code=code):
            got, body, headers = ask(gateway.root + path, method, data=b"{}" if method == "POST" else None)
            assert (got, body["error"]["code"]) == (status, code)
            assert set(body["error"]) == {"message", "type", "param", "code"}
            assert headers["x-request-id"].startswith("req_")
            assert bool(headers.get("allow")) is (status == 405)


@pytest.mark.long
def test_models_are_deleted(gateway: Serving, tmp_path: Path) -> None:
    upstream = Upstream(base_url="https://api.openai.com/v1", model="m")
    for name in ("org/one", "ft:gpt-4o-mini:acme::abc"):
        gateway.registry.register(ModelSpec(id=name, kind="hosted", upstream=upstream))
    gateway.registry.alias("bot", "org/one")
    gateway.seen(lambda snapshot: "bot" in snapshot.routes)
    client = openai.OpenAI(base_url=gateway.base_url, api_key="any")
    with pytest.raises(openai.ConflictError, match="alias"):
        client.models.delete("org/one")
    for name in ("bot", "org/one", "ft:gpt-4o-mini:acme::abc"):
        assert client.models.delete(name).to_dict() == {"id": name, "object": "model", "deleted": True}
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve(name)
        with pytest.raises(openai.NotFoundError):
            client.models.delete(name)
    assert list(client.models.list()) == []


def test_odd_bodies_are_400(gateway: Serving, subtests: pytest.Subtests) -> None:
    for data, param in [
        (b"{", None),
        (b"[]", None),
        (b"", None),
        (b"{}", "model"),
        (b'{"model": 5}', "model"),
        (b"\xff", None),
    ]:
        with subtests.test(data=data, param=param):
            status, body, _ = ask(f"{gateway.base_url}/chat/completions", "POST", data=data)
            assert (status, body["error"]["param"]) == (400, param)


@pytest.mark.long
def test_health_needs_nothing(gateway: Serving, database: Database) -> None:
    create_key(database, name="somebody", role="client")
    gateway.seen(lambda snapshot: snapshot.keys_needed)
    assert ask(f"{gateway.root}/health")[:2] == (200, {"status": "ok"})


@pytest.mark.long
def test_keys_open_doors_from_the_first_one_on(gateway: Serving, upstream: PacedUpstream) -> None:
    gateway.hosted("whole", base_url=f"{upstream.address}/v1")
    openai.OpenAI(base_url=gateway.base_url, api_key="whatever").models.list()
    client_key = create_key(gateway.database, name="app", role="client")
    owner_key = create_key(gateway.database, name="boss", role="owner")
    late = create_key(gateway.database, name="late", role="client", expires=datetime.now(UTC) - timedelta(seconds=1))
    gateway.seen(lambda snapshot: len(snapshot.keys) == 2)
    for bad in ("whatever", "pk-", late):
        with pytest.raises(openai.AuthenticationError) as refused:
            openai.OpenAI(base_url=gateway.base_url, api_key=bad).models.list()
        assert refused.value.code == "invalid_api_key"
    client = openai.OpenAI(base_url=gateway.base_url, api_key=client_key)
    assert client.chat.completions.create(model="whole", messages=HELLO).choices
    assert "authorization" not in upstream.seen.headers[0]
    assert ask(f"{gateway.root}/metrics")[0] == 401
    assert ask(f"{gateway.root}/metrics", key=client_key)[0] == 403
    assert ask(f"{gateway.root}/metrics", key=owner_key)[0] == 200
    app = next(key for key in list_keys(gateway.database) if key.name == "app")
    revoke_key(gateway.database, app.id)
    gateway.seen(lambda snapshot: len(snapshot.keys) == 1)
    with pytest.raises(openai.AuthenticationError):
        client.models.list()


def test_the_page_has_a_key_of_its_own(database: Database, home: Path) -> None:
    create_key(database, name="somebody", role="client")
    with serving(load_settings(home=home, page_key="pk-page"), database) as gateway:
        assert ask(f"{gateway.base_url}/models", key="pk-page")[0] == 200
        assert ask(f"{gateway.base_url}/models", key="pk-other")[0] == 401


async def _echo(request: Request) -> JSONResponse:
    key = request.state.key
    assert request.state.settings.home
    assert request.state.database
    return JSONResponse({"key": key.name if key else None, "id": request.path_params["id"]})


async def _taken(request: Request) -> JSONResponse:
    raise Conflict("It is taken.", param="suffix")


async def _count(request: Request) -> JSONResponse:
    return JSONResponse({"bytes": len(await request.body())})


async def _count_all(request: Request) -> JSONResponse:
    request.state.lift_limit()
    return await _count(request)


async def _broken(request: Request) -> JSONResponse:
    raise ZeroDivisionError("a secret of the house")


@pytest.fixture
def mounted(settings: Settings, database: Database) -> Iterator[Serving]:
    routes = [
        Route("/v1/files/{id}", _echo, methods=["GET"]),
        Route("/v1/fine_tuning/jobs", _taken, methods=["POST"]),
        Route("/v1/broken", _broken),
        Route("/v1/uploads/bounded", _count, methods=["POST"]),
        Route("/v1/uploads/free", _count_all, methods=["POST"]),
    ]
    with serving(settings.model_copy(update={"max_body_mib": 0.5}), database, routes) as running:
        yield running


def test_other_rooms_routes_are_mounted(mounted: Serving) -> None:
    status, body, headers = ask(f"{mounted.base_url}/files/file-1")
    assert (status, body["id"], body["key"]) == (200, "file-1", None)
    assert headers["x-request-id"].startswith("req_")
    status, body, _ = ask(f"{mounted.base_url}/fine_tuning/jobs", "POST", data=b"{}")
    assert (status, body["error"]["param"]) == (409, "suffix")
    assert ask(f"{mounted.base_url}/nothing")[1]["error"]["code"] == "unknown_url"
    assert ask(f"{mounted.base_url}/nothing")[2]["x-request-id"].startswith("req_")
    for unknown in ("files/", "files", "fine_tuning/jobs/"):
        assert ask(f"{mounted.base_url}/{unknown}")[1]["error"]["code"] == "unknown_url"
    status, body, headers = ask(f"{mounted.base_url}/files/x", "POST", data=b"")
    assert (status, body["error"]["code"]) == (405, "method_not_allowed")
    assert "GET" in headers["allow"]


@pytest.mark.long
def test_other_rooms_routes_are_the_owners(mounted: Serving) -> None:
    client = create_key(mounted.database, name="somebody", role="client")
    owner = create_key(mounted.database, name="boss", role="owner")
    mounted.seen(lambda snapshot: len(snapshot.keys) == 2)
    assert ask(f"{mounted.base_url}/files/file-1")[0] == 401
    assert ask(f"{mounted.base_url}/fine_tuning/jobs", "POST", key=client, data=b"{}")[0] == 403
    assert ask(f"{mounted.base_url}/files/file-1", key=client)[0] == 200  # of its own files
    assert ask(f"{mounted.base_url}/files/file-1", key=owner)[1]["key"] == "boss"
    assert ask(f"{mounted.base_url}/nothing", key=client)[0] == 404
    assert ask(f"{mounted.base_url}/models/some", "DELETE", key=client)[0] == 403


def test_a_body_is_bounded_unless_its_route_bounds_it_itself(mounted: Serving) -> None:
    large = b"x" * (3 * 2**20)
    status, body, _ = ask(f"{mounted.base_url}/uploads/bounded", "POST", data=large)
    assert (status, "max_body_mib" in body["error"]["message"]) == (413, True)
    assert ask(f"{mounted.base_url}/uploads/free", "POST", data=large)[1] == {"bytes": len(large)}


def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_fault(
    mounted: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_connection(("127.0.0.1", int(mounted.root.rpartition(":")[2]))) as raw:
        raw.sendall(b"POST /v1/uploads/free HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nabc")
        time.sleep(0.2)
    deadline = time.monotonic() + 5
    while 'code="499"' not in mounted.app.metrics.text().decode():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert not caplog.records


def test_a_mounted_route_that_breaks_answers_as_ours_do_and_is_logged_once(
    mounted: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    status, body, headers = ask(f"{mounted.base_url}/broken")
    assert (status, body["error"]["type"], headers["x-should-retry"]) == (500, "server_error", "false")
    assert "secret" not in str(body)
    assert [record.name for record in caplog.records] == ["parley.gateway"]


@pytest.mark.long
def test_the_gateways_process_stays_light() -> None:
    script = (
        "import sys, serve.gateway.app, serve.cli, uvicorn, uvloop, httptools\n"
        "heavy = {'torch', 'transformers', 'gradio', 'vllm', 'pandas', 'openai', 'scipy'}\n"
        "print(sorted(heavy & {name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
