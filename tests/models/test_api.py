"""`/v1/files` and `/v1/uploads` on a gateway, with the SDK and with forms as odd as clients send them."""

import gzip
import hashlib
import http.client
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from sqlalchemy import update

from models.api import routes
from models.database import Database, utcnow
from models.files.stored_files import Files
from models.settings.settings import Settings
from models.tables import FileRow
from tests.serve.gateways import Serving, serving

JSONL = b'{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}\n'


@pytest.fixture
def gateway(settings: Settings, database: Database) -> Iterator[Serving]:
    small = settings.model_copy(update={"max_upload_mib": 4.0, "max_body_mib": 0.5})
    with serving(small, database, routes(small, database)) as running:
        yield running


@pytest.fixture
def client(gateway: Serving) -> openai.OpenAI:
    return openai.OpenAI(base_url=gateway.base_url, api_key="any", max_retries=0)


def send(gateway: Serving, path: str, body: bytes, kind: str | None, method: str = "POST") -> tuple[int, dict, Any]:
    connection = http.client.HTTPConnection(gateway.root.removeprefix("http://"), timeout=20)
    connection.request(method, path, body, {"content-type": kind} if kind else {})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, json.loads(content), answer.headers


def form(*parts: tuple[str, str | None, bytes], end: bytes = b"--B--\r\n") -> bytes:
    whole = b""
    for name, filename, content in parts:
        named = f'; filename="{filename}"' if filename is not None else ""
        whole += f'--B\r\ncontent-disposition: form-data; name="{name}"{named}\r\n\r\n'.encode() + content + b"\r\n"
    return whole + end


def test_a_repeated_upload_is_stored_once(client: openai.OpenAI) -> None:
    def create(name: str = "train.jsonl", content: bytes = JSONL, count: str = "0") -> str:
        counted = {"x-stainless-retry-count": count}
        return client.files.create(file=(name, content), purpose="fine-tune", extra_headers=counted).id

    first = create()
    assert create(count="1") == first
    assert create() != first  # asked for twice, on purpose
    assert create("other.jsonl", count="1") != first
    assert create(content=JSONL * 2, count="1") != first
    client.files.delete(first)
    assert create(count="2") != first


def test_a_file_from_upload_to_deletion(client: openai.OpenAI, settings: Settings) -> None:
    made = client.files.create(file=("train.jsonl", JSONL), purpose="fine-tune")
    assert (made.object, made.bytes, made.filename, made.purpose, made.status) == (
        "file", len(JSONL), "train.jsonl", "fine-tune", "processed",
    )  # fmt: skip
    assert made.id.startswith("file-")
    assert made.expires_at is None
    assert client.files.retrieve(made.id) == made
    assert client.files.wait_for_processing(made.id, max_wait_seconds=5) == made
    content = client.files.content(made.id)
    assert content.read() == JSONL
    assert content.response.headers["content-type"] == "application/octet-stream"
    assert content.response.headers["x-request-id"].startswith("req_")
    assert [file.id for file in client.files.list(purpose="fine-tune")] == [made.id]
    assert client.files.list(purpose="evals").data == []
    deleted = client.files.delete(made.id)
    assert (deleted.id, deleted.deleted, deleted.object) == (made.id, True, "file")
    for gone in (client.files.retrieve, client.files.delete, client.files.content):
        with pytest.raises(openai.NotFoundError):
            gone(made.id)
    assert list(settings.files_dir.iterdir()) == []


def test_the_sdk_pages_through_every_file_once(client: openai.OpenAI, database: Database) -> None:
    made = [client.files.create(file=(f"{number}.txt", b"x"), purpose="user_data").id for number in range(7)]
    with database.write() as session:
        session.execute(update(FileRow).values(created=utcnow()))
    assert [file.id for file in client.files.list(limit=2)] == made[::-1]
    assert [file.id for file in client.files.list(limit=3, order="asc")] == made
    raw = client.files.with_raw_response.list(limit=2).http_response.json()
    assert raw["object"] == "list"
    assert (raw["has_more"], raw["first_id"], raw["last_id"]) == (True, made[-1], made[-2])
    for file in client.files.list(limit=2):
        client.files.delete(file.id)
    assert client.files.list().to_dict() == {
        "object": "list", "data": [], "has_more": False, "first_id": None, "last_id": None,
    }  # fmt: skip
    for query in ({"limit": 0}, {"limit": 10_001}, {"after": "nonsense"}, {"order": "up"}):
        with pytest.raises(openai.BadRequestError) as refused:
            client.files.list(**query)  # type: ignore[arg-type]  # wrong on purpose
        assert refused.value.param == next(iter(query))


def test_a_file_may_expire(client: openai.OpenAI) -> None:
    expires: Any = {"anchor": "created_at", "seconds": 3600}
    made = client.files.create(file=("a", b"x"), purpose="batch", expires_after=expires)
    assert made.expires_at == made.created_at + 3600
    for wrong, param in (
        ({"anchor": "created_at", "seconds": 3599}, "expires_after.seconds"),
        ({"anchor": "created_at", "seconds": "soon"}, "expires_after.seconds"),
        ({"anchor": "created_at"}, "expires_after.seconds"),
        ({"anchor": "last_used", "seconds": 3600}, "expires_after.anchor"),
        ({"seconds": 3600}, "expires_after.anchor"),
    ):
        given: Any = wrong
        with pytest.raises(openai.BadRequestError) as refused:
            client.files.create(file=("a", b"x"), purpose="batch", expires_after=given)
        assert refused.value.param == param


@pytest.mark.long
@pytest.mark.parametrize("purpose", ["", "fine-tuning", "fine-tune-results", "assistants_output"])
def test_unknown_purposes_are_refused(client: openai.OpenAI, settings: Settings, purpose: Any) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.files.create(file=("a", b"x"), purpose=purpose)
    assert refused.value.param == "purpose"
    assert list(settings.files_dir.iterdir()) == []


def test_large_files_are_streamed_to_disk_and_back(client: openai.OpenAI, tmp_path: Path) -> None:
    content = b"".join(hashlib.sha256(bytes([number % 251]) * 9).digest() for number in range(100_000))
    path = tmp_path / "größe “1”.jsonl"
    path.write_bytes(content + b"\r\n--B\r\n")
    with path.open("rb") as stream:
        made = client.files.create(file=stream, purpose="user_data")
    assert (made.bytes, made.filename) == (len(content) + 7, path.name)
    assert client.files.content(made.id).read() == path.read_bytes()


def test_over_the_limit_is_one_line_and_leaves_nothing(client: openai.OpenAI, settings: Settings) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        client.files.create(file=("large", b"x" * (5 * 2**20)), purpose="user_data")
    assert refused.value.status_code == 413
    assert "limit" in refused.value.message
    assert list(settings.files_dir.iterdir()) == []
    assert client.files.create(file=("small", b"x"), purpose="user_data").bytes == 1


def test_invalid_forms_are_400_and_leave_nothing(
    gateway: Serving, settings: Settings, subtests: pytest.Subtests
) -> None:
    for body, kind, param in [
        (b"{}", "application/json", "file"),
        (b"{}", None, "file"),
        (form(("file", "a", b"x")), "multipart/form-data", "file"),
        (form(("purpose", None, b"evals")), "multipart/form-data; boundary=B", "file"),
        (form(("file", "a", b"x"), ("file", "b", b"y")), "multipart/form-data; boundary=B", "file"),
        (form(("file", "a", b"x"), end=b""), "multipart/form-data; boundary=B", "file"),
        (form(("file", "a", b"")), "multipart/form-data; boundary=B", "purpose"),
        (form(("file", "a", b""), ("purpose", None, b"evals")), "multipart/form-data; boundary=B", "file"),
        (b"nonsense", "multipart/form-data; boundary=B", "file"),
        (form(*[(str(number), None, b"") for number in range(40)]), "multipart/form-data; boundary=B", None),
        (form(*[("purpose", None, b"evals")] * 40, ("file", "a", b"x")), "multipart/form-data; boundary=B", None),
    ]:
        with subtests.test(body=body, kind=kind, param=param):
            status, content, headers = send(gateway, "/v1/files", body, kind)
            assert (status, content["error"]["param"]) == (400, param)
            assert headers["x-request-id"].startswith("req_")
            assert list(settings.files_dir.iterdir()) == []


def test_the_file_may_come_before_the_purpose(gateway: Serving) -> None:
    """As the Node SDK sends it, in the order of the caller's object."""
    body = form(("file", 'a "b".jsonl'.replace('"', "%22"), JSONL), ("purpose", None, b"fine-tune"))
    status, content, _ = send(gateway, "/v1/files", body, "multipart/form-data; boundary=B")
    assert (status, content["bytes"], content["filename"]) == (200, len(JSONL), 'a "b".jsonl')


def test_training_data_that_is_packed_or_in_utf16_is_refused_at_once(gateway: Serving, settings: Settings) -> None:
    for content, words in (
        (gzip.compress(JSONL), "t.jsonl is not training data: it is a gzip file. Unpack it, and give the file inside."),
        (JSONL.decode().encode("utf-16"), "t.jsonl is not training data: it is UTF-16 text. Save it as UTF-8, or read"),
        (b"\x89PNG\r\n", "t.jsonl is not training data: it is a PNG image."),
    ):  # fmt: skip
        body = form(("file", "t.jsonl", content), ("purpose", None, b"fine-tune"))
        status, answer, _ = send(gateway, "/v1/files", body, "multipart/form-data; boundary=B")
        assert (status, answer["error"]["param"]) == (400, "file")
        assert answer["error"]["message"].startswith(words)
    assert list(settings.files_dir.iterdir()) == []
    picture = form(("file", "a.png", b"\x89PNG\r\n"), ("purpose", None, b"vision"))
    assert send(gateway, "/v1/files", picture, "multipart/form-data; boundary=B")[0] == 200


def test_a_field_that_is_no_file_is_bounded(gateway: Serving) -> None:
    body = form(("purpose", None, b"x" * 100_000), ("file", "a", b"x"))
    assert send(gateway, "/v1/files", body, "multipart/form-data; boundary=B")[0] == 413


def test_a_disconnected_upload_leaves_no_file(gateway: Serving, settings: Settings) -> None:
    connection = http.client.HTTPConnection(gateway.root.removeprefix("http://"), timeout=20)
    connection.putrequest("POST", "/v1/files")
    connection.putheader("content-type", "multipart/form-data; boundary=B")
    connection.putheader("content-length", str(3 * 2**20))
    connection.endheaders(form(("file", "a", b"x" * 2**21), end=b""))
    gateway_saw(settings, 1)
    connection.close()
    gateway_saw(settings, 0)


def gateway_saw(settings: Settings, files: int) -> None:
    deadline = time.monotonic() + 10
    while not settings.files_dir.exists() or len(list(settings.files_dir.iterdir())) != files:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_file_with_missing_content_is_404(client: openai.OpenAI, settings: Settings, database: Database) -> None:
    made = client.files.create(file=("a", b"x"), purpose="batch")
    Files(settings, database).get(made.id).path.unlink()
    with pytest.raises(openai.NotFoundError, match="missing"):
        client.files.content(made.id)


def test_an_upload_in_parts(client: openai.OpenAI, settings: Settings) -> None:
    upload = client.uploads.create(bytes=6, filename="big.jsonl", mime_type="text/jsonl", purpose="fine-tune")
    assert (upload.object, upload.status, upload.bytes, upload.file) == ("upload", "pending", 6, None)
    assert upload.expires_at == upload.created_at + 3600
    second = client.uploads.parts.create(upload.id, data=b"def")
    first = client.uploads.parts.create(upload.id, data=io.BytesIO(b"abc"))
    assert (first.object, first.upload_id) == ("upload.part", upload.id)
    with pytest.raises(openai.BadRequestError) as refused:
        client.uploads.complete(upload.id, part_ids=[first.id, second.id], md5="0" * 32)
    assert refused.value.param == "md5"
    done = client.uploads.complete(upload.id, part_ids=[first.id, second.id], md5=hashlib.md5(b"abcdef").hexdigest())
    assert done.status == "completed"
    assert done.file
    assert client.files.content(done.file.id).read() == b"abcdef"
    assert client.files.retrieve(done.file.id) == done.file
    other = client.uploads.create(bytes=6, filename="b", mime_type="text/jsonl", purpose="fine-tune")
    client.uploads.parts.create(other.id, data=b"def")
    assert client.uploads.cancel(other.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError):
        client.uploads.parts.create(other.id, data=b"def")
    with pytest.raises(openai.NotFoundError):
        client.uploads.cancel("upload_nobody")
    assert sorted(path.name for path in settings.files_dir.rglob("*")) == sorted([done.file.id, "uploads"])


def test_the_sdks_chunked_upload(client: openai.OpenAI, tmp_path: Path) -> None:
    path = tmp_path / "large.jsonl"
    path.write_bytes(JSONL * 10_000)
    done = client.uploads.upload_file_chunked(file=path, mime_type="text/jsonl", purpose="fine-tune", part_size=200_000)
    assert done.file
    assert done.file.bytes == path.stat().st_size
    assert client.files.content(done.file.id).read() == path.read_bytes()


def test_invalid_uploads_are_400(gateway: Serving, client: openai.OpenAI) -> None:
    good = {"bytes": 3, "filename": "a", "mime_type": "text/jsonl", "purpose": "evals"}
    for field, value in (
        ("bytes", 0),
        ("bytes", "3"),
        ("bytes", True),
        ("filename", " "),
        ("purpose", "x"),
        ("bytes", 2**60),
    ):
        status, content, _ = send(
            gateway, "/v1/uploads", json.dumps(good | {field: value}).encode(), "application/json"
        )
        assert (status, content["error"]["param"]) == (400, field)
    upload = client.uploads.create(**good)  # type: ignore[arg-type]  # a dict of mixed values
    path = f"/v1/uploads/{upload.id}/complete"
    for body in (
        b"",
        b"[]",
        b"{",
        b'{"part_ids": []}',
        b'{"part_ids": "x"}',
        b'{"part_ids": [1]}',
        gzip.compress(b"{}"),
    ):
        assert send(gateway, path, body, "application/json")[0] == 400
    assert send(gateway, path, b" " * 600_000, "application/json")[0] == 413


def test_other_paths_and_methods_read_as_openais(gateway: Serving, subtests: pytest.Subtests) -> None:
    for method, path, status in [
        ("PUT", "/v1/files", 405),
        ("GET", "/v1/files/", 404),
        ("GET", "/v1/files/%2e%2e%2fparley.db", 400),
        ("GET", "/v1/files/file-%00/content", 400),
        ("GET", "/v1/uploads", 405),
        ("GET", "/v1/uploads/upload_1", 404),
    ]:
        with subtests.test(method=method, path=path, status=status):
            got, content, headers = send(gateway, path, b"", None, method)
            assert (got, set(content["error"])) == (status, {"message", "type", "param", "code"})
            if status == 405:
                assert "POST" in headers["allow"]
