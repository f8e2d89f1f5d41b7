"""A released home unpacked for one test, on SQLite and on PostgreSQL, and this version's commands over it."""

import json
import lzma
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from openai import OpenAI, OpenAIError
from sqlalchemy import bindparam, text

import parley
from tests.conftest import _new_postgres
from tests.evals.upstream import AnsweringServer
from tests.stack import ROOT, free_ports

RELEASE = Path(__file__).parent / "0a467a6"


class ReleasedHome:
    """A home as the release left it. `facts` and `outputs` are what make_home.py wrote down about it."""

    def __init__(self, folder: Path, database_url: str | None, port: int, said: dict[str, Any]) -> None:
        self.folder, self.port, self.database = folder, port, "postgresql" if database_url else "sqlite"
        self.facts: dict[str, Any] = said["facts"]
        self.outputs: dict[str, Any] = said["outputs"]
        self.variables = {
            "PARLEY_HOME": str(folder),
            "PARLEY_PORT": str(port),
            "PARLEY_PAGE_KEY": self.facts["owner_key"],
            "OMP_WAIT_POLICY": "PASSIVE",
        }
        if database_url:
            self.variables["PARLEY_DATABASE_URL"] = database_url
        address = (database_url or f"sqlite:///{folder / 'parley.db'}").replace("postgresql:", "postgresql+psycopg:")
        self.engine = sqlalchemy.create_engine(address)

    def rows(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        """What a plain SQL query finds."""
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query), values)]

    def tables(self) -> dict[str, list[str]]:
        """Every row of every table as text, sorted."""
        metadata = sqlalchemy.MetaData()
        metadata.reflect(self.engine)
        with self.engine.connect() as connection:
            return {
                name: sorted(json.dumps(dict(row._mapping), default=str) for row in connection.execute(table.select()))
                for name, table in metadata.tables.items()
            }

    def keep_only(self, *kinds: str) -> None:
        """Sets jobs of other kinds aside, so that a worker takes only these."""
        others = text("UPDATE jobs SET status = 'set aside' WHERE kind NOT IN :kinds")
        with self.engine.begin() as connection:
            connection.execute(others.bindparams(bindparam("kinds", kinds, expanding=True)))

    def statuses(self, *job_ids: str) -> set[str]:
        """The statuses of these jobs of the worker."""
        return {status for job_id, status in self.rows("SELECT id, status FROM jobs") if job_id in job_ids}

    @contextmanager
    def process(self, *command: str, gateway: bool = True) -> Iterator["subprocess.Popen[bytes]"]:
        """`parley …` in the background; without `gateway` it looks for one where none is."""
        port = {} if gateway else {"PARLEY_PORT": str(free_ports(1)[0])}
        started = subprocess.Popen(
            [sys.executable, "-m", "parley", *command], env=dict(os.environ) | self.variables | port, cwd=ROOT
        )
        try:
            yield started
        finally:
            started.terminate()
            started.wait(30)

    @contextmanager
    def gateway(self) -> Iterator[OpenAI]:
        """The gateway, and an owner's client of it."""
        address = f"http://127.0.0.1:{self.port}/v1"
        with (
            self.process("gateway"),
            OpenAI(base_url=address, api_key=self.facts["owner_key"], max_retries=0) as client,
        ):
            until(lambda: _answers(client))
            yield client


def until(true: Callable[[], Any], timeout_s: float = 240) -> None:
    """Waits until something is true."""
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "it did not become true in time"
        time.sleep(0.05)


@pytest.fixture
def upstream() -> Iterator[AnsweringServer]:
    """The upstream of the hosted models: answers at once, and remembers what it was asked."""
    with AnsweringServer() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def released(request: pytest.FixtureRequest, tmp_path: Path, upstream: AnsweringServer) -> Iterator[ReleasedHome]:
    """The home of the release, unpacked, with this test's folder and upstream in it."""
    kind, home = request.param, tmp_path / "home"
    marks = {"@HOME@": str(home), "@UPSTREAM@": upstream.address.removesuffix("/v1")}

    def filled(content: str) -> str:
        for mark, value in marks.items():
            content = content.replace(mark, value)
        return content

    with tarfile.open(RELEASE / f"{kind}.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    for path in [path for path in home.rglob("*") if path.is_file() and path.name != "parley.db"]:
        content = path.read_bytes()
        if any(mark.encode() in content for mark in marks):
            path.write_text(filled(content.decode()), "utf-8")
    url = None
    if kind == "postgresql":
        url = _new_postgres(request.getfixturevalue("postgres_server"))
    said = json.loads(filled((RELEASE / f"{kind}.json").read_text("utf-8")))
    made = ReleasedHome(home, url, free_ports(1)[0], said)
    if kind == "postgresql":
        _load_dump(made, filled(lzma.decompress((RELEASE / f"{kind}.sql.xz").read_bytes()).decode()))
    else:
        _fill_sqlite(made, marks)
    yield made
    made.engine.dispose()


@pytest.fixture
def command(
    released: ReleasedHome, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Runs `parley …` in this process over the released home; returns what it prints."""
    for name, value in released.variables.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> str:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["parley", *arguments])
        with pytest.raises(SystemExit) as ended:
            parley.main()
        printed = capsys.readouterr()
        assert not ended.value.code, printed.err
        return printed.out

    return run


def _answers(client: OpenAI) -> bool:
    try:
        return bool(client.models.list().data)
    except OpenAIError:
        return False


def _load_dump(home: ReleasedHome, dump: str) -> None:
    """Loads pg_dump's plain SQL, without what only psql or a newer server understands."""
    lines = [line for line in dump.splitlines() if not line.startswith(("\\", "SET transaction_timeout"))]
    with home.engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.execute("\n".join(lines))
        driver.execute("RESET ALL")
        driver.commit()


def _fill_sqlite(home: ReleasedHome, marks: dict[str, str]) -> None:
    inspector = sqlalchemy.inspect(home.engine)
    with home.engine.begin() as connection:
        for table in inspector.get_table_names():
            for column in inspector.get_columns(table):
                for mark, value in marks.items():
                    connection.exec_driver_sql(
                        f'UPDATE "{table}" SET "{column["name"]}" = replace("{column["name"]}", ?, ?) '
                        f'WHERE instr("{column["name"]}", ?)',
                        (mark, value, mark),
                    )
