"""The single file runs with any Python and nothing else, in little memory, and continues after a kill or Ctrl-C."""

import ast
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models.openai_fetch.command import main
from tests.fakes.http_server import Reply, Request
from tests.fakes.openai_account import FakeAccount
from tests.models.openai_fetch.accounts import fill, manifest
from tests.stack import ROOT

PIECE = b"x" * 2**20
# VmHWM begins anew with a program; ru_maxrss would include the memory of the tests.
PEAK = (
    "import re, runpy, sys\nsys.argv = sys.argv[1:]\n"
    "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
    "finally:\n    print(re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1], file=sys.stderr)"
)


class StreamingAccount(FakeAccount):
    """An account with a file of many pieces; its content stops after two of them until `go_on` is set."""

    pieces = 3

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.go_on = threading.Event()

    def file_content(self, request: Request, name: str) -> Reply:
        """The content, as a stream for the large file."""
        if self.files[name]["filename"] != "large.jsonl":
            return super().file_content(request, name)
        start = int(request.headers.get("range", "bytes=0-")[6:-1])
        size = self.files[name]["bytes"] - start
        headers = {"content-range": f"bytes {start}-{start + size - 1}/*"} if start else {}
        return Reply(self._stream(size), 206 if start else 200, headers)

    def _stream(self, size: int) -> Iterator[bytes]:
        sent = 0
        while sent < size:
            if sent == 2 * len(PIECE):
                self.go_on.wait(60)
            yield PIECE[: size - sent]
            sent += len(PIECE[: size - sent])


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("single") / "openai_fetch.py"
    assert main(["--pack", str(target)]) == 0
    return target


@pytest.fixture
def fake() -> Iterator[StreamingAccount]:
    with StreamingAccount(page=5, tick=0.005) as account:
        fill(account)
        yield account
        account.go_on.set()


def add_large_file(fake: StreamingAccount, pieces: int) -> None:
    name = fake.add_file("large.jsonl", b"x")
    fake.files[name]["bytes"] = pieces * len(PIECE)


def command(program: Path, fake: FakeAccount, folder: Path, *more: str, **environment: str) -> dict[str, Any]:
    """The arguments of subprocess.run: in a folder of its own, without site-packages and this checkout."""
    work = folder.parent / "work"
    work.mkdir(exist_ok=True)
    return {
        "args": [sys.executable, "-I", "-S", str(program), "--out", str(folder), *more],
        "env": {"OPENAI_API_KEY": fake.key, "OPENAI_BASE_URL": fake.base_url} | environment,
        "cwd": work, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
    }  # fmt: skip


def run(program: Path, fake: FakeAccount, folder: Path, *more: str, **environment: str) -> Any:
    return subprocess.run(**command(program, fake, folder, *more, **environment), check=False, timeout=120)


def wait_for_part(fake: StreamingAccount, path: Path, requests: int) -> None:
    """Waits until the large content was requested so many times, and a part of it is on the disk."""
    large = f"/v1/files/{list(fake.files)[-1]}/content"
    deadline = time.monotonic() + 60
    while fake.count("GET", large) < requests or not any(
        part.stat().st_size >= len(PIECE) for part in path.rglob("large.jsonl.part")
    ):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_python_3_9_can_read_all_of_it() -> None:
    for path in [*(ROOT / "models/openai_fetch").glob("*.py"), ROOT / "models/html_page.py"]:
        ast.parse(path.read_text(), feature_version=(3, 9))
        assert "from __future__ import annotations" in path.read_text() or " | None" not in path.read_text(), path


@pytest.mark.long
def test_a_kill_at_any_moment_costs_only_what_was_under_way(
    program: Path, fake: StreamingAccount, tmp_path: Path
) -> None:
    add_large_file(fake, 8)  # a second request stops in it too
    killed = tmp_path / "killed"
    for requests, number in enumerate((signal.SIGKILL, signal.SIGINT), 1):
        process = subprocess.Popen(**command(program, fake, killed))
        wait_for_part(fake, killed, requests)
        os.kill(process.pid, number)
        if number == signal.SIGINT:
            fake.go_on.set()
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors.splitlines()[-1]) == (
        130, "Interrupted. Run the same command again to continue.",
    )  # fmt: skip
    (killed / "manifest.jsonl").open("a").write('{"path": "half a li')
    done = run(program, fake, killed)
    assert (done.returncode, run(program, fake, tmp_path / "whole").returncode) == (0, 0), done.stderr
    assert manifest(killed) == manifest(tmp_path / "whole")
    large = [one.headers.get("range") for one in fake.requests if one.path.endswith(f"{list(fake.files)[-1]}/content")]
    assert (large[0], large[-1]) == (None, None), "the first request, and that of the other folder"
    assert all(one.startswith("bytes=") for one in large[1:-1]), "each continuation requests the rest"
    assert {request.method for request in fake.requests} == {"GET"}
    verified = run(program, fake, killed, "--verify", OPENAI_API_KEY="")
    assert (verified.returncode, verified.stdout) == (0, "All copies match their checksums.\n")


@pytest.mark.long
def test_a_large_file_is_streamed(program: Path, fake: StreamingAccount, tmp_path: Path) -> None:
    fake.go_on.set()
    add_large_file(fake, 100)
    arguments = command(program, fake, tmp_path / "a", "--only", "files")
    peak = subprocess.run(
        **arguments | {"args": [sys.executable, "-I", "-S", "-c", PEAK, *arguments["args"][3:]]},
        check=True,
        timeout=120,
    )
    assert int(peak.stderr.splitlines()[-1]) < 70 * 1024, "KiB, of which Python itself takes 30"
    (copy,) = (tmp_path / "a").rglob("large.jsonl")
    assert copy.stat().st_size == 100 * len(PIECE)


@pytest.mark.long
def test_the_command_line(program: Path, fake: FakeAccount, tmp_path: Path) -> None:
    folder = tmp_path / "account"
    dry = run(program, fake, folder, "--dry-run", "--only", "jobs, files")
    assert dry.returncode == 0
    assert dry.stdout.splitlines()[0] == "fine-tuning jobs: 2"
    assert not folder.exists()
    fake.denied["/v1/batches"] = 403
    inventory = run(program, fake, folder, "--inventory")
    assert inventory.returncode == 3
    assert f"next         python3 {program} --out {folder}" in inventory.stdout
    key = tmp_path / "key"
    key.write_text(f"{fake.key}\n")
    fake.denied.clear()
    whole = run(program, fake, folder, "--key-file", str(key), OPENAI_API_KEY="")
    assert whole.returncode == 0, whole.stderr
    assert "next         parley rescue ft:gpt-4o-mini-2024-07-18:acme:support:0001Fake --base BASE" in whole.stdout
    assert "details of stored completions: 12" in whole.stderr.splitlines()
    assert not fake.requests[-1].headers.get("openai-organization")
    fake.requests.clear()
    shown = run(program, fake, folder, "--offline", "--html", str(tmp_path / "page.html"))
    assert (shown.returncode, fake.requests) == (0, [])
    assert "<title>What the OpenAI account holds</title>" in (tmp_path / "page.html").read_text()
    run(program, fake, folder, "--only", "models", OPENAI_ORG_ID="org-acme", OPENAI_PROJECT_ID="proj_1")
    headers = fake.requests[-1].headers
    assert (headers["openai-organization"], headers["openai-project"]) == ("org-acme", "proj_1")


@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "environment", "status", "words"),
    [
        (["--only", "jobs,weights"], {}, 2, "use one or more of evals, jobs"),
        ([], {"OPENAI_API_KEY": ""}, 1, "There is no key: set OPENAI_API_KEY"),
        ([], {"OPENAI_API_KEY": "sk-wrong"}, 1, "OpenAI refuses the key: Incorrect API key provided"),
        (["--key-file", "/nothing"], {}, 1, "The key cannot be read from /nothing: No such file"),
        (["--verify"], {}, 1, "Nothing is fetched in"),
        (["--verify", "--dry-run"], {}, 2, "not allowed with argument"),
        ([], {"REQUESTS_CA_BUNDLE": "/nothing.pem"}, 1, "The certificates in /nothing.pem cannot be read"),
        (["--pack", "/nothing/openai_fetch.py"], {}, 1, "This is already the single file"),
    ],
)
def test_errors_are_one_line(
    program: Path, fake: FakeAccount, tmp_path: Path, arguments: list[str], environment: dict[str, str], status: int,
    words: str,
) -> None:  # fmt: skip
    done = run(program, fake, tmp_path / "a", *arguments, **environment)
    assert (done.returncode, words in done.stderr) == (status, True), done.stderr
    assert "Traceback" not in done.stderr
    assert status == 2 or len(done.stderr.splitlines()) == 1


@pytest.mark.long
def test_requests_go_through_the_proxy_of_the_environment(program: Path, fake: FakeAccount, tmp_path: Path) -> None:
    """The fake is the proxy: a request to a proxy has the whole address as its path."""
    done = run(
        program, fake, tmp_path / "a", "--dry-run", OPENAI_BASE_URL="http://openai.invalid/v1", http_proxy=fake.address
    )
    assert "fine-tuning jobs: 2" in done.stdout, done.stderr
    assert {one.headers["host"] for one in fake.requests} == {"openai.invalid"}
