"""train/data/endpoint.py on a real gateway: the same report as from Python, of a file sent or uploaded before."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import parley
from models.database import Database
from models.files.stored_files import Files
from models.registry.registry import Registry
from models.settings.settings import Settings
from models.spec import ModelSpec
from serve.gateway.app import create_app
from tests.train.conftest import style_rows
from train.data.checks import check

FAULTS = Path(__file__).parent / "faults"
BASE = Path(__file__).resolve().parents[3] / "models" / "demo" / "base"
ROUTE = "/v1/parley/data/check"


@pytest.fixture
def gateway(settings: Settings, database: Database) -> Any:
    with TestClient(create_app(settings, database, parley.api_routes(settings, database))) as client:
        yield client


@pytest.mark.long
def test_a_file_that_is_sent_gets_the_same_report_as_in_python(gateway: Any, settings: Settings) -> None:
    path = FAULTS / "wrong-type.jsonl"
    answer = gateway.post(ROUTE, files={"file": (path.name, path.read_bytes())})
    assert answer.status_code == 200
    report = answer.json()
    tokens = report.pop("tokens")
    assert report == check(path).to_json()
    assert (tokens["model"], tokens["estimate"]) == ("gpt-4o-mini", tokens["way"] == "estimate")
    assert tokens["tokens"] > tokens["learnt_tokens"] > 0
    assert not list(settings.files_dir.iterdir())  # nothing stays behind


@pytest.mark.long
def test_fields_say_how_to_read_it(gateway: Any) -> None:
    table = "\n".join(["asked,said", *(f"question {number},answer {number}" for number in range(12))]).encode()
    fields = {"prompt_column": "asked", "response_column": "said", "system": "Be kind.", "provider": "local"}
    report = gateway.post(ROUTE, files={"file": ("a.csv", table)}, data=fields).json()
    assert (report["source"], report["format"], report["examples"]) == ("a.csv", "columns", 12)
    windows = {"encoding": "cp1252", **fields}
    report = gateway.post(
        ROUTE, files={"file": ("a.csv", "asked,said\nGr\u00fc\u00dfe,Ja".encode("cp1252"))}, data=windows
    )
    assert (report.json()["examples"], report.json()["left_out"]) == (1, 0)
    listed = json.dumps(style_rows(12)).encode()
    for name in ("export.bin", "rows.jsonl", "rows.json"):  # a JSON list under any name
        assert gateway.post(ROUTE, files={"file": (name, listed)}).json()["examples"] == 12
    packed = gateway.post(ROUTE, files={"file": ("rows.jsonl.gz", gzip.compress(listed))})
    assert packed.status_code == 400
    message = packed.json()["error"]["message"]
    assert message == "rows.jsonl.gz is not training data: it is a gzip file. Unpack it, and give the file inside."
    wrong = gateway.post(ROUTE, files={"file": ("a.csv", table)})
    assert wrong.status_code == 400
    assert "--prompt-column" in wrong.json()["error"]["message"]


@pytest.mark.long
def test_uploaded_files_by_their_ids(gateway: Any, settings: Settings, database: Database) -> None:
    files = Files(settings, database)
    rows = [json.dumps(row) for row in style_rows(20)]
    train, held = (
        files.store("t.jsonl", "\n".join(part).encode(), "fine-tune").id for part in (rows, [rows[0], *rows[18:]])
    )
    report = gateway.post(ROUTE, json={"file": train, "validation_file": held}).json()
    assert report["examples"] == 20
    assert {problem["code"] for problem in report["validation"]["problems"]} >= {"leakage"}


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"file": "file-nobody"}, 404, None),
        ({}, 400, "file"),
        ({"file": 7}, 400, "file"),
    ],
)
def test_a_mistake_is_one_line_in_openais_shape(gateway: Any, body: dict[str, Any], status: int, param: Any) -> None:
    answer = gateway.post(ROUTE, json=body)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]
    if param:
        assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        (f"multipart/form-data; boundary={'b' * 257}", b"", 400),
        ("multipart/form-data; boundary=b", b"--b\r\nx-a: " + b"x" * 20_000 + b"\r\n\r\n", 400),
        ("multipart/form-data; boundary=b", b"--b\r\n\xff\xff: x\r\n\r\n", 400),
        ("multipart/form-data; boundary=\xe9", b"--b\r\n", 400),
        ("multipart/form-data", b"", 400),
    ],
)
def test_a_malformed_form_is_the_clients_mistake(gateway: Any, content_type: str, body: bytes, status: int) -> None:
    answer = gateway.post(ROUTE, content=body, headers={"content-type": content_type.encode("latin-1")})
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


@pytest.mark.long
def test_tokens_are_those_of_a_registered_model_and_no_path_of_the_server_is_read(
    gateway: Any, database: Database, tmp_path: Path
) -> None:
    Registry(database).register(ModelSpec(id="demo-base", kind="base", path=str(BASE)))
    sent = {"files": {"file": ("a.jsonl", "\n".join(map(json.dumps, style_rows(12))).encode())}}
    tokens = gateway.post(ROUTE, **sent, data={"model": "demo-base", "provider": "local"}).json()["tokens"]
    assert (tokens["way"], tokens["estimate"], tokens["examples"]) == ("own tokenizer", False, 12)
    refused = gateway.post(ROUTE, **sent, data={"model": str(tmp_path)})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "model")
