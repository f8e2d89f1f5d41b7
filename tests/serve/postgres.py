"""A PostgreSQL server of a test's own, which can be stopped, frozen and started again while others use it."""

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Self

import psutil
import psycopg
from psycopg import sql

from models.database import new_ulid
from tests.conftest import _postgres_binaries


class Postgres:
    """The server, on a socket in a temporary folder. A context manager: it runs inside the block."""

    def __init__(self) -> None:
        # Not under pytest's own folder: a socket's path may have 107 bytes, and the server's user must get there.
        self._kept = tempfile.TemporaryDirectory(prefix="parley-pg-", ignore_cleanup_errors=True)
        self._folder = Path(self._kept.name)
        self._as_owner: list[str] = []

    def __enter__(self) -> Self:
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            shutil.chown(self._folder, "postgres", "postgres")
            self._as_owner = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        self._run("initdb", "-A", "trust", "-U", "parley", "--no-sync")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on()
        self.stop()
        self._kept.cleanup()

    @property
    def folder(self) -> Path:
        """The folder of its socket."""
        return self._folder

    def new_database(self) -> str:
        """The address of a new, empty database."""
        name = f"test_{new_ulid().lower()}"
        with psycopg.connect(f"postgresql://parley@/postgres?host={self._folder}", autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return f"postgresql://parley@/{name}?host={self._folder}"

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        options = f"-c listen_addresses='' -k {self._folder} -c fsync=off"
        self._run("pg_ctl", "-w", "-l", str(self._folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        """Ends it at once, as in a crash: every connection is lost."""
        self._run("pg_ctl", "-w", "-m", "immediate", "stop")

    def freeze(self) -> None:
        """Stops all its processes; its connections stay open."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Ends a `freeze`."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        try:
            parent = psutil.Process(int((self._folder / "data" / "postmaster.pid").read_text("ascii").split()[0]))
            for process in (parent, *parent.children(recursive=True)):
                process.send_signal(number)
        except (FileNotFoundError, psutil.NoSuchProcess):
            return

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as_owner, str(_postgres_binaries() / program), "-D", str(self._folder / "data"), *arguments]
        subprocess.run(
            command, check=False, cwd=self._folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ).check_returncode()
