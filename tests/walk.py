"""Counts the project files that a request runs through: those with a function that ran in any process.

    python -m tests.walk [chat engine evaluation fine-tuning] [--files] [--json]

The walks, each over a fresh home on SQLite:
    chat         POST /v1/chat/completions with a key, for a hosted model; counted in the gateway
    engine       the same for a base on an engine, which a fake plays
    evaluation   a job of two samples and two models, which a fake gateway answers; counted in the worker
    fine-tuning  POST /v1/fine_tuning/jobs until `succeeded`, on a tiny base; counted in the gateway, in the worker and
                 in the process that trains. No engine runs, so nothing is asked of the new model.

The processes are the real ones (`parley gateway`, `parley worker`). Counting begins when they are ready and ends when
the answer is there and its usage is stored, or the job is over; what runs on a timer meanwhile counts too. Bodies of
modules and classes do not count, nor does what runs while a module is imported. Only commands, HTTP and SQL are used,
so that the script also measures an older version: run it by its path in that version's folder.
"""

import argparse
import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path.cwd()
sys.path.insert(0, str(ROOT))

from tests.evals.upstream import AnsweringServer  # noqa: E402 -- of the version that is measured
from tests.stack import free_ports  # noqa: E402 -- sys.path is set first
from tests.tiny_model import make_base  # noqa: E402 -- sys.path is set first
from tests.train.conftest import style_rows  # noqa: E402 -- sys.path is set first

ROOMS = ("models", "serve", "train", "evals", "ui", "migrations")
TIMEOUT_S = 180
# Runs in every process as sitecustomize. A frame's first event is enough: nothing is traced line by line.
TRACER = """
import atexit, json, os, sys, threading, time

root, folder, rooms = os.environ["WALK_ROOT"] + os.sep, os.environ["WALK_OUT"], json.loads(os.environ["WALK_ROOMS"])
window, seen, known = os.path.join(folder, "counting"), set(), {}
counting = os.path.exists(window)
FUNCTION = 0x1  # CO_OPTIMIZED: set for functions, not for the bodies of modules and classes


def name_of(code):
    path = code.co_filename
    if not path.startswith(root) or not code.co_flags & FUNCTION:
        return None
    name = path[len(root):]
    return name if name == "parley.py" or name.split(os.sep)[0] in rooms else None


def importing(frame):
    while frame is not None:
        if frame.f_code.co_name == "_call_with_frames_removed":
            return True
        frame = frame.f_back
    return False


def trace(frame, event, argument):
    if counting:
        code = frame.f_code
        if code not in known:
            known[code] = name_of(code)
        name = known[code]
        if name is not None and name not in seen and not importing(frame.f_back):
            seen.add(name)


def write():
    path = os.path.join(folder, f"{os.getpid()}.json")
    with open(path + ".part", "w") as file:
        json.dump({"process": sys.argv[:3], "files": sorted(seen)}, file)
    os.replace(path + ".part", path)


def watch():
    global counting
    sys.settrace(None)
    while True:
        now = os.path.exists(window)
        if counting and not now:
            write()
        counting = now
        time.sleep(0.01)


atexit.register(lambda: counting and write())
threading.settrace(trace)
sys.settrace(trace)
threading.Thread(target=watch, daemon=True).start()
"""


class Walk:
    """A home with a base `tiny`, hosted models `before` and `after`, an owner's key; and the tracer's folder."""

    def __init__(self, folder: Path, upstream: AnsweringServer) -> None:
        self.home, self.out, self.upstream = folder / "home", folder / "walked", upstream
        self.port = free_ports(1)[0]
        (folder / "tracer").mkdir()
        (folder / "tracer" / "sitecustomize.py").write_text(TRACER)
        self.out.mkdir()
        self.home.mkdir()
        (self.home / "parley.toml").write_text('device = "cpu"\n')
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("PARLEY_")}
        self.environment |= {"PARLEY_HOME": str(self.home), "OMP_WAIT_POLICY": "PASSIVE", "PARLEY_LOG_LEVEL": "warning"}
        self.traced = {
            "PYTHONPATH": str(folder / "tracer"),
            "WALK_ROOT": str(ROOT),
            "WALK_OUT": str(self.out),
            "WALK_ROOMS": json.dumps(ROOMS),
        }
        self.parley("db", "upgrade")
        self.parley("models", "add", "tiny", "--path", str(make_base(folder / "tiny")))
        for name in ("before", "after"):
            self.parley("models", "add", name, "--upstream", upstream.address)
        self.key = self.parley("keys", "create", "walker", "--role", "owner").strip()

    def parley(self, *arguments: str) -> str:
        """Runs a command to its end; returns its output."""
        command = [sys.executable, "-m", "parley", *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout

    @contextlib.contextmanager
    def process(self, *arguments: str, port: int | None = None) -> Iterator[None]:
        """A traced process of Parley, which finds the gateway at `port`."""
        extra = self.traced | {"PARLEY_PORT": str(port or self.port), "PARLEY_PAGE_KEY": self.key}
        started = subprocess.Popen([sys.executable, "-m", "parley", *arguments], env=self.environment | extra)
        try:
            yield
        finally:
            started.terminate()
            started.wait(30)

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """Counts what runs inside the block."""
        window = self.out / "counting"
        window.touch()
        time.sleep(0.1)  # the tracers check every 10 ms
        yield
        window.unlink()
        time.sleep(0.5)

    def rows(self, query: str, *values: Any) -> list[Any]:
        """Plain SQL on the home's database."""
        with contextlib.closing(sqlite3.connect(self.home / "parley.db", timeout=30)) as database, database:
            return database.execute(query, values).fetchall()

    def http(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """A request to the gateway; its JSON."""
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        given = {"authorization": f"Bearer {self.key}", "content-type": "application/json"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        address = f"http://127.0.0.1:{self.port}/v1{path}"
        with urllib.request.urlopen(urllib.request.Request(address, content, given, method=method)) as answer:
            return json.load(answer)

    def ready(self) -> bool:
        """Whether the gateway answers."""
        try:
            return bool(self.http("GET", "/models")["data"])
        except OSError:
            return False

    def walked(self) -> dict[str, list[str]]:
        """The files by process."""
        walked: dict[str, set[str]] = {}
        for path in self.out.glob("*.json"):
            record = json.loads(path.read_text())
            # A process that starts inside the window may import before it has arguments.
            name = " ".join(Path(part).name for part in record["process"] if part and part != "-m")
            walked.setdefault(name, set()).update(record["files"])
        return {name: sorted(files) for name, files in walked.items()}


def until(true: Callable[[], Any]) -> None:
    """Waits until a condition holds."""
    deadline = time.monotonic() + TIMEOUT_S
    while not true():
        if time.monotonic() > deadline:
            raise RuntimeError("waited in vain")
        time.sleep(0.05)


def chat(walk: Walk, model: str = "before") -> None:
    """One request to a hosted model, until its usage is stored."""
    with walk.process("gateway"):
        until(walk.ready)
        time.sleep(0.5)
        with walk.counting():
            body = {"model": model, "messages": [{"role": "user", "content": "say hello"}]}
            answer = walk.http("POST", "/chat/completions", body)
            assert answer["choices"][0]["message"]["content"].endswith("says: say hello")
            until(lambda: walk.rows("SELECT 1 FROM usage WHERE model_id = ?", model))


def engine(walk: Walk) -> None:
    """One request to a base on an engine."""
    now = time.strftime("%Y-%m-%d %H:%M:%S.000000", time.gmtime())
    walk.rows(
        "INSERT INTO engines (model_id, state, address, message, updated) VALUES ('tiny', 'ready', ?, '', ?)",
        walk.upstream.address.removesuffix("/v1"), now,
    )  # fmt: skip
    chat(walk, "tiny")


def evaluation(walk: Walk) -> None:
    """A job of the page's kind, from the queue to its end; the upstream acts as the gateway."""
    task = walk.home / "task.jsonl"
    task.write_text(
        "".join(json.dumps({"input": f"say {n}", "expected": f"before says: say {n}"}) + "\n" for n in "ab")
    )
    params = {"task": str(task), "models": ["before", "after"], "scorers": ["exact", "length:2-9"]}
    with walk.process("worker", port=walk.upstream.port):
        time.sleep(3)
        with walk.counting():
            _enqueue(walk, "evaluate", params)
            until(lambda: walk.rows("SELECT status FROM jobs")[0][0] not in ("queued", "running"))
    assert walk.rows("SELECT status FROM jobs") == [("succeeded",)], walk.rows("SELECT error FROM jobs")


def fine_tuning(walk: Walk) -> None:
    """A job of the API, from its request to `succeeded`."""
    lines = "".join(json.dumps(row) + "\n" for row in style_rows(12)).encode()
    part = b'--x\r\ncontent-disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    form = part % (b"purpose", b"", b"fine-tune") + part % (b"file", b'; filename="t.jsonl"', lines) + b"--x--\r\n"
    with walk.process("gateway"), walk.process("worker", port=free_ports(1)[0]):
        until(walk.ready)
        time.sleep(2)
        file = walk.http("POST", "/files", form, content_type="multipart/form-data; boundary=x")
        with walk.counting():
            numbers = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 4}}}
            wanted = {"model": "tiny", "training_file": file["id"], "method": numbers}
            job = walk.http("POST", "/fine_tuning/jobs", wanted)
            until(lambda: _status(walk, job["id"]) not in ("validating_files", "queued", "running"))
            assert _status(walk, job["id"]) == "succeeded", walk.http("GET", f"/fine_tuning/jobs/{job['id']}")


def _enqueue(walk: Walk, kind: str, params: dict[str, Any]) -> None:
    now = time.strftime("%Y-%m-%d %H:%M:%S.000000", time.gmtime())
    walk.rows(
        "INSERT INTO jobs (id, kind, params, status, progress, message, attempts, created) "
        "VALUES ('01ARZ3NDEKTSV4RRFFQ69G5FAV', ?, ?, 'queued', 0, '', 0, ?)",
        kind, json.dumps(params), now,
    )  # fmt: skip


def _status(walk: Walk, job_id: str) -> str:
    return walk.rows("SELECT status FROM fine_tuning_jobs WHERE id = ?", job_id)[0][0]


WALKS = {"chat": chat, "engine": engine, "evaluation": evaluation, "fine-tuning": fine_tuning}


def measure(name: str) -> dict[str, list[str]]:
    """The files that one walk touches, by process."""
    with tempfile.TemporaryDirectory(prefix="parley-walk-") as folder, AnsweringServer() as upstream:
        walk = Walk(Path(folder), upstream)
        WALKS[name](walk)
        return walk.walked()


def main(arguments: list[str] | None = None) -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m tests.walk", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("walks", nargs="*", choices=[*WALKS, []], help="which walks; all without any")
    parser.add_argument("--files", action="store_true", help="list the files")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.parse_args(arguments)
    walks = {name: measure(name) for name in options.walks or WALKS}
    every = {name: sorted(set().union(*by_process.values())) for name, by_process in walks.items()}
    if options.json:
        counted = {
            name: {"count": len(files), "files": files, "processes": walks[name]} for name, files in every.items()
        }
        print(json.dumps(counted, indent=1))
        return 0
    print(f"{'walk':12} {'files':>5}  " + " ".join(f"{room:>7}" for room in (*ROOMS[:5], "others")))
    for name, files in every.items():
        rooms = Counter(path.split(os.sep)[0] for path in files)
        others = len(files) - sum(rooms[room] for room in ROOMS[:5])
        print(f"{name:12} {len(files):5}  " + " ".join(f"{n:7}" for n in (*(rooms[r] for r in ROOMS[:5]), others)))
        if options.files:
            for process, walked in walks[name].items():
                print(f"  {process}: {len(walked)}")
                print("".join(f"    {path}\n" for path in walked), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
