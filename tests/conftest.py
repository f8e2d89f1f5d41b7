"""Fixtures that every room's tests share: a home, settings, a migrated database on SQLite and on PostgreSQL."""

import functools
import gc
import itertools
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
import typer.testing
from _pytest.mark.expression import Expression  # pytest offers no public way to evaluate -m

from models.audit import acting_as, command_line
from models.database import Database, open_database, upgrade
from models.settings.settings import Settings, load_settings
from tests.stack import Stack, stack

DATABASE = "parley.db"
POSTGRES_BINARIES = ("/usr/lib/postgresql/*/bin", "/usr/local/bin", "/opt/homebrew/bin")


SLOW = ("engine", "browser", "training", "long")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Skip a file of which `-m` selects nothing before it is imported: torch, Gradio and Playwright cost seconds."""
    expression = config.getoption("markexpr")
    if not expression or not collection_path.name.startswith("test_") or collection_path.suffix != ".py":
        return None
    text = collection_path.read_text(encoding="utf-8")
    mentioned = [name for name in SLOW if f"mark.{name}" in text]
    certain = set(re.findall(r"mark\.(\w+)", "".join(re.findall(r"^pytestmark = .*", text, re.MULTILINE))))
    selects = Expression.compile(expression).evaluate
    sets = (certain.union(some) for n in range(len(mentioned) + 1) for some in itertools.combinations(mentioned, n))
    return None if any(selects(lambda name, /, marks=marks, **_: name in marks) for marks in sets) else True


def pytest_configure() -> None:
    """Builds each command once, and lets Ctrl-C interrupt the processes that tests start."""
    # Typer builds the whole command anew for each run: 70 ms of CPU for `parley`.
    typer.testing._get_command = functools.cache(typer.main.get_command)
    # A shell's background jobs ignore Ctrl-C, and so would their children.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run files with few tests first: they hold the longest tests, which would otherwise run alone at the end."""
    for item in items:
        if not {"tiny_base", "tokenizer"}.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.long)  # importing torch and transformers costs each process five seconds
        if "postgresql" in getattr(getattr(item, "callspec", None), "params", {}).values():
            item.add_marker(pytest.mark.long)  # the same test runs on SQLite
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: tests[item.path])


def pytest_collection_finish() -> None:
    """Excludes imported objects from garbage collection, which otherwise takes a seventh of the fast tests' CPU."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)


@pytest.fixture(autouse=True, scope="session")
def _no_settings_from_outside() -> Iterator[None]:
    """A developer's own PARLEY_, OPENAI_ and TOGETHER_ variables never reach a test."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("PARLEY_", "OPENAI_", "TOGETHER_")):
                patch.delenv(name)
        yield


@pytest.fixture(autouse=True, scope="session")
def _gateways_see_changes_at_once() -> Iterator[None]:
    """A gateway in a test's process reads changes every 20 ms instead of every 250: most tests wait for some."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("serve.gateway.snapshot._POLL_INTERVAL_S", 0.02)
        yield


@pytest.fixture(autouse=True)
def _command_line_as_actor() -> Iterator[None]:
    """A page that a test builds names another actor, for its whole process."""
    with acting_as(command_line()):
        yield


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty PARLEY_HOME."""
    return tmp_path / "home"


@pytest.fixture
def settings(home: Path) -> Settings:
    """Settings with that home, everything else as it comes."""
    return load_settings(home=home)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite database to copy: migrating anew for each test was a quarter of the fast tests' time."""
    settings = load_settings(home=tmp_path_factory.mktemp("migrated"))
    upgrade(settings)
    return settings.home / DATABASE


@pytest.fixture
def database(settings: Settings, migrated: Path) -> Iterator[Database]:
    """A migrated SQLite database."""
    settings.home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(migrated, settings.home / DATABASE)
    database = open_database(settings)
    yield database
    database.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def any_database(request: pytest.FixtureRequest, home: Path) -> Iterator[Database]:
    """A migrated database of each kind, one after the other: SQLite, and a real PostgreSQL of the tests' own."""
    if request.param == "sqlite":
        yield request.getfixturevalue("database")
        return
    database = open_database(load_settings(home=home, database_url=request.getfixturevalue("migrated_postgres_url")))
    yield database
    database.dispose()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A PostgreSQL server on a socket in a temporary folder; its address, with {} for the database's name."""
    binaries = _postgres_binaries()
    # Not under pytest's own folder: a socket's path may have 107 bytes, and the server's user must get there.
    with tempfile.TemporaryDirectory(prefix="parley-pg-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        as_owner: list[str] = []
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            shutil.chown(folder, "postgres", "postgres")
            as_owner = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]

        def run(program: str, *arguments: str) -> None:
            command = [*as_owner, str(binaries / program), "-D", str(folder / "data"), *arguments]
            subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        run("initdb", "-A", "trust", "-U", "parley", "--no-sync")
        options = f"-c listen_addresses='' -k {folder} -c fsync=off"
        run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", options, "start")
        yield f"postgresql://parley@/{{}}?host={folder}"
        run("pg_ctl", "-w", "-m", "immediate", "stop")


@pytest.fixture(scope="session")
def _postgres_template(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    url = _new_postgres(postgres_server)
    upgrade(load_settings(home=tmp_path_factory.mktemp("template"), database_url=url))
    return url


@pytest.fixture
def migrated_postgres_url(postgres_server: str, _postgres_template: str) -> str:
    """The address of a new PostgreSQL database with all tables and nothing in them."""
    name = _postgres_template.removeprefix("postgresql://parley@/").partition("?")[0]
    return _new_postgres(postgres_server, f'TEMPLATE "{name}"')


@pytest.fixture(scope="session")
def demo_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """`parley demo`, ready: two vLLM engines, gateway, page, worker. Shared by all tests that only read."""
    # A program written for OpenAI's models runs against the demo unchanged.
    stand_in = {"gpt-4o-mini-2024-07-18": "demo-base", "gpt-4o": "support-judge"}
    with stack(tmp_path_factory.mktemp("demo") / "home", "demo", fine_tuning_models=stand_in) as running:
        yield running


def _new_postgres(server: str, like: str = "") -> str:
    import psycopg

    from models.database import new_ulid

    name = f"test_{new_ulid().lower()}"
    with psycopg.connect(server.format("postgres"), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" {like}')
    return server.format(name)


def _postgres_binaries() -> Path:
    for pattern in POSTGRES_BINARIES:
        for folder in sorted(Path("/").glob(pattern.lstrip("/")), reverse=True):
            if (folder / "initdb").is_file():
                return folder
    raise RuntimeError("The tests need PostgreSQL's server: install it (Debian: apt-get install postgresql).")
