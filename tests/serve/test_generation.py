"""`parley generate` over a real socket: order, errors as rows, kills, resuming, the Batch API's lines, wrong input."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from models.database import Database
from models.errors import Conflict, Invalid, NotFound, ParleyError, Unauthorized, Unavailable
from models.keys import create_key
from models.settings.settings import Settings
from parley import build
from tests.evals.upstream import AnsweringServer
from tests.serve.gateways import serving
from tests.stack import ROOT, free_ports

Generate = Callable[..., tuple[int, str]]


@pytest.fixture
def server() -> Iterator[AnsweringServer]:
    with AnsweringServer(latency_s=0.01) as running:
        yield running


@pytest.fixture
def generate(server: AnsweringServer, home: Path, monkeypatch: pytest.MonkeyPatch) -> Generate:
    """`parley generate FILE --base-url <the server> …`: (exit code, output); a ParleyError is raised."""
    monkeypatch.setenv("PARLEY_HOME", str(home))
    monkeypatch.setenv("COLUMNS", "100")

    def run(file: Path, *arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(build(), ["generate", str(file), "--base-url", server.address, *arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    return run


def _file(folder: Path, rows: list[Any], name: str = "prompts.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.long
def test_answers_come_in_the_files_order_and_the_server_is_kept_full(
    generate: Generate, server: AnsweringServer, tmp_path: Path
) -> None:
    server.latency_s = 0.1
    file = _file(tmp_path, [{"prompt": f"question {number}", "id": f"q-{number}"} for number in range(64)])
    code, printed = generate(file, "--model", "m", "--concurrency", "16", "--max-tokens", "7", "--temperature", "0")
    assert code == 0
    assert server.most_at_once == 16
    assert "64 answers" in printed
    assert "tokens/s" in printed
    answers = _lines(tmp_path / "prompts.answers.jsonl")
    assert [line["answer"] for line in answers] == [f"m says: question {number}" for number in range(64)]
    assert answers[3] == {
        "line": 4, "custom_id": "q-3", "model": "m", "answer": "m says: question 3", "finish_reason": "stop",
        "usage": {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 10}, "error": None,
    }  # fmt: skip
    assert {(body["max_tokens"], body["temperature"]) for body in server.bodies} == {(7, 0)}
    assert not (tmp_path / "prompts.answers.jsonl.partial").exists()


@pytest.mark.long
def test_a_failed_row_has_its_error_and_is_sent_again_by_resume(
    generate: Generate, server: AnsweringServer, tmp_path: Path
) -> None:
    words = ["tell", "refuse this", "busy now", "starting up", "broken", "drop it", "odd one", "tell more"]
    file, out = _file(tmp_path, [{"prompt": word} for word in words]), tmp_path / "out.jsonl"
    code, printed = generate(file, "--model", "m", "--out", str(out))
    assert code == 1
    assert "4 rows have an error" in printed
    answers = _lines(out)
    assert [line["answer"] is None for line in answers] == [False, True, False, False, True, True, True, False]
    assert answers[1]["error"] == {"code": "invalid_request_error", "message": "cannot: refuse"}
    before = len(server.asked)
    code, printed = generate(file, "--model", "m", "--out", str(out), "--resume")
    assert code == 1
    assert "4 answered before" in printed
    assert [question for _, question in server.asked[before:]] == ["refuse this", "broken", "drop it", "odd one"]
    assert [line["line"] for line in _lines(out)] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_lines_of_the_batch_api_are_answered_in_its_shape(
    generate: Generate, server: AnsweringServer, tmp_path: Path
) -> None:
    def line(name: str, url: str, **body: Any) -> dict[str, Any]:
        return {"custom_id": name, "method": "POST", "url": url, "body": {"model": "their-name", **body}}

    chat = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]}
    file = _file(
        tmp_path,
        [
            line("a", "/v1/chat/completions", **chat, max_tokens=3),
            line("b", "/v1/embeddings", input=["one", "two"]),
            line("c", "/v1/chat/completions", messages=[{"role": "user", "content": "refuse"}]),
        ],
    )
    code, _ = generate(file, "--model", "ours", "--max-tokens", "99")
    assert code == 1
    first, second, third = _lines(tmp_path / "prompts.answers.jsonl")
    assert (first["custom_id"], first["error"], first["response"]["status_code"]) == ("a", None, 200)
    assert first["response"]["body"]["choices"][0]["message"]["content"] == "ours says: hello"
    assert server.bodies[0]["max_tokens"] == 3  # the row's own number
    assert server.bodies[0]["messages"] == chat["messages"]
    assert len(second["response"]["body"]["data"]) == 2
    assert (third["response"], third["error"]["message"]) == (None, "cannot: refuse")


def test_a_table_is_read_by_its_column(generate: Generate, tmp_path: Path) -> None:
    file = tmp_path / "tickets.csv"
    file.write_text('id,text\n7,"where is it, please?"\n8,"two\nlines"\n')
    code, _ = generate(file, "--model", "m", "--prompt-column", "text", "--json")
    assert code == 0
    answers = _lines(tmp_path / "tickets.answers.jsonl")
    assert [(line["custom_id"], line["answer"]) for line in answers] == [
        ("7", "m says: where is it, please?"),
        ("8", "m says: two\nlines"),
    ]


@pytest.mark.long
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"prompt": "a"}\n{"prompt": ', "line 2: not valid JSON"),
        ('["a"]\n', "line 1: expected an object with `prompt`"),
        ('{"prompt": "  "}\n', "line 1: expected a non-empty `prompt`"),
        ('{"messages": []}\n', "line 1: `messages` must be a list"),
        ('{"body": {"model": "m"}, "url": "/v1/files"}\n', "line 1: `url` must be one of"),
        ('{"body": {"stream": true}}\n', "line 1: `stream` is not supported"),
        ('{"prompt": "a", "id": 1}\n\n{"prompt": "b", "id": 1}\n', "line 3: its custom_id is also that of line 1"),
        ("\n\n", "has no rows"),
    ],
)
def test_a_bad_file_is_one_line_and_no_request_is_sent(
    generate: Generate, server: AnsweringServer, tmp_path: Path, content: str, message: str
) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text(content)
    with pytest.raises(Invalid, match=message):
        generate(file, "--model", "m")
    assert not server.asked
    assert os.listdir(tmp_path) == ["bad.jsonl"]


def test_other_mistakes_are_one_line_too(generate: Generate, tmp_path: Path) -> None:
    file = _file(tmp_path, [{"prompt": "a"}])
    with pytest.raises(NotFound, match="There is no file"):
        generate(tmp_path / "nothing.jsonl", "--model", "m")
    with pytest.raises(Invalid, match="no model"):
        generate(file)
    with pytest.raises(Invalid, match="is the file of prompts itself"):
        generate(file, "--model", "m", "--out", str(file))
    with pytest.raises(Invalid, match="has id, text"):
        table = tmp_path / "t.csv"
        table.write_text("id,text\n1,a\n")
        generate(table, "--model", "m")
    with pytest.raises(Invalid, match="NOBODYS_KEY, which is not set"):
        generate(file, "--model", "m", "--credential", "NOBODYS_KEY")


@pytest.mark.long
def test_nothing_is_overwritten_and_another_file_is_not_continued(generate: Generate, tmp_path: Path) -> None:
    file, out = _file(tmp_path, [{"prompt": "refuse"}]), tmp_path / "out.jsonl"
    generate(file, "--model", "m", "--out", str(out))
    with pytest.raises(Conflict, match="Continue it with --resume, or remove it"):
        generate(file, "--model", "m", "--out", str(out))
    with pytest.raises(Invalid, match="belongs to other rows, another model or other options"):
        generate(file, "--model", "another", "--out", str(out), "--resume")
    Path(f"{out}.partial").unlink()
    with pytest.raises(Conflict, match="already exists"):
        generate(file, "--model", "m", "--out", str(out), "--resume")


@pytest.mark.long
def test_through_a_gateway_with_keys(
    database: Database, settings: Settings, server: AnsweringServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = create_key(database, name="batch", role="client")
    file = _file(tmp_path, [{"prompt": f"question {number}"} for number in range(5)])
    with serving(settings, database) as gateway:
        gateway.hosted("support", base_url=server.address, model="theirs")
        monkeypatch.setenv("PARLEY_HOME", str(settings.home))
        monkeypatch.setenv("PARLEY_PORT", gateway.root.rsplit(":", 1)[1])

        def run(model: str) -> Result:
            return CliRunner().invoke(build(), ["generate", str(file), "--model", model])

        assert isinstance(run("support").exception, Unauthorized)
        monkeypatch.setenv("PARLEY_PAGE_KEY", key)
        unknown = run("nobody/here").exception
        assert isinstance(unknown, NotFound)
        assert "nobody/here" in str(unknown)
        assert not list(tmp_path.glob("prompts.answers*"))
        assert not server.asked
        assert run("support").exit_code == 0
    answers = [line["answer"] for line in _lines(tmp_path / "prompts.answers.jsonl")]
    assert answers == [f"theirs says: question {number}" for number in range(5)]


def test_a_server_that_is_not_there_stops_the_run_and_leaves_nothing(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARLEY_HOME", str(home))
    monkeypatch.setenv("PARLEY_PORT", str(free_ports(1)[0]))
    file = _file(tmp_path, [{"prompt": "a"}])
    result = CliRunner().invoke(build(), ["generate", str(file), "--model", "m"])
    assert isinstance(result.exception, Unavailable)
    assert "Is `parley up` running?" in str(result.exception)
    assert os.listdir(tmp_path) == ["prompts.jsonl"]


def test_a_server_that_goes_away_in_the_middle_stops_the_run_and_keeps_the_answers(
    generate: Generate, server: AnsweringServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.bulk.generation.ATTEMPTS", 1)
    file = _file(tmp_path, [{"prompt": "tell"}, {"prompt": "busy"}, {"prompt": "tell more"}])
    with pytest.raises(ParleyError, match="the queue is full"):
        generate(file, "--model", "m", "--concurrency", "1")
    assert not (tmp_path / "prompts.answers.jsonl").exists()
    code, printed = generate(file, "--model", "m", "--resume")
    assert code == 0
    assert "1 answered before" in printed
    assert [question for _, question in server.asked] == ["tell", "busy", "busy", "tell more"]


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_after_a_kill_each_remaining_row_is_sent_once(
    generate: Generate, server: AnsweringServer, home: Path, tmp_path: Path, number: int
) -> None:
    server.answers_at_most = 40
    file, out = _file(tmp_path, [{"prompt": f"question {n}"} for n in range(120)]), tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "parley", "generate", str(file), "--base-url", server.address, "--model", "m"]
    command += ["--out", str(out), "--concurrency", "4", "--resume"]
    environment = os.environ | {"PARLEY_HOME": str(home), "COLUMNS": "100"}
    with subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 30
        while len(server.asked) < 44 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(number)
        try:
            _, printed = process.communicate(timeout=20)
        finally:
            process.kill()  # otherwise a failure would wait for it forever
    assert not out.exists()
    journal = Path(f"{out}.partial")
    kept = len(journal.read_bytes().splitlines()) - 1
    assert 36 <= kept <= 40  # the latest answers may not be written yet
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert "Traceback" not in printed
        assert f"Stopped with {kept} of 120 answered" in printed
    if number == signal.SIGKILL:  # a last line as a power cut may leave it
        journal.write_bytes(journal.read_bytes() + b'{"row": 119, "failed": fal')
    server.answers_at_most = None
    code, printed = generate(file, "--model", "m", "--out", str(out), "--resume")
    assert code == 0
    assert f"{kept} answered before" in printed
    assert [line["answer"] for line in _lines(out)] == [f"m says: question {n}" for n in range(120)]
    assert len(server.asked) <= 120 + 8  # only those in flight at the kill were sent twice
    assert not journal.exists()


def test_two_runs_do_not_write_one_file(generate: Generate, tmp_path: Path) -> None:
    from serve.bulk.journal import Journal

    out = tmp_path / "out.jsonl"
    with (
        Journal(out, "rows", resume=False),
        pytest.raises(Conflict, match="Another run is writing"),
        Journal(out, "rows", resume=True),
    ):
        pass
