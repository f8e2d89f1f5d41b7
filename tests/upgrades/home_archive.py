"""What make_home.py writes of a home: what the release says about it, its files, its database.

The home's folder becomes @HOME@ and the upstream's address @UPSTREAM@ wherever they are written.
"""

import contextlib
import json
import lzma
import shutil
import sqlite3
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.upgrades.make_home import Maker

JUDGE = "our-judge"
# Read-only commands whose JSON the next version must print too.
COMMANDS = (
    ("models", "list", "--all", "--json"),
    ("models", "show", "production", "--json"),
    ("keys", "list", "--json"),
    ("prompts", "list", "--json"),
    ("rubrics", "list", "--json"),
    ("leaderboard", "--by-category", "--json"),
    ("verdict", "after", "before", "--json"),
    ("judge", "calibrate", JUDGE, "--stored", "--json"),
    ("eval", "list", "--json"),
    ("eval", "show", "last", "--json"),
)
ADDRESSES = ("/models", "/files", "/fine_tuning/jobs?limit=100")


def outputs(maker: "Maker") -> dict[str, Any]:
    """What the release says about this home: JSON of commands and of the API."""
    commands = []
    for command in COMMANDS:
        done = maker.command(*command)
        assert done.returncode == 0, done.stderr
        commands.append({"command": command, "said": json.loads(done.stdout)})
    with maker.gateway() as client:
        addresses = [*ADDRESSES]
        for job_id in maker.facts["fine_tuning"].values():
            addresses += [f"/fine_tuning/jobs/{job_id}/{of}?limit=100" for of in ("events", "checkpoints")]
        api = {address: client.get(address, cast_to=object) for address in addresses}
    return {"commands": commands, "api": api}


def pack(maker: "Maker", out: Path, kind: str) -> None:
    """Writes the fixture: the home with placeholders for its folder and its upstream, and the database."""
    said = {"facts": maker.facts, "outputs": outputs(maker)}
    shutil.rmtree(maker.home / "logs", ignore_errors=True)
    marks = {str(maker.home): "@HOME@", maker.upstream: "@UPSTREAM@"}

    def marked(text: str) -> str:
        for found, mark in marks.items():
            text = text.replace(found, mark)
        return text

    maker.database.dispose()
    if kind == "sqlite":
        _mark_sqlite(maker.home / "parley.db", marks)
    else:
        url = maker.settings.database_url.get_secret_value()
        dump = shutil.which("pg_dump") or next(map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_dump"))[-1:]))
        command = [dump, "--no-owner", "--no-acl", "--inserts", "--dbname", url]
        sql = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        with lzma.open(out / f"{kind}.sql.xz", "wt", encoding="utf-8", preset=9) as file:
            file.write(marked(sql))
    for path in [path for path in sorted(maker.home.rglob("*")) if path.is_file() and path.name != "parley.db"]:
        content = path.read_bytes()
        if any(found.encode() in content for found in marks):
            mode = path.stat().st_mode
            path.write_text(marked(content.decode()))  # in place: a hard link stays one
            path.chmod(mode)
    with tarfile.open(out / f"{kind}.tar.xz", "w:xz", preset=9) as archive:
        archive.add(maker.home, "home")
    (out / f"{kind}.json").write_text(marked(json.dumps(said, indent=1, ensure_ascii=False)) + "\n")


def _mark_sqlite(path: Path, marks: dict[str, str]) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = DELETE")
        tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for column in [row[1] for row in database.execute(f'PRAGMA table_info("{table}")')]:
                for found, mark in marks.items():
                    database.execute(
                        f'UPDATE "{table}" SET "{column}" = replace("{column}", ?, ?) '
                        f'WHERE typeof("{column}") = \'text\' AND instr("{column}", ?)',
                        (found, mark, found),
                    )
        database.execute("VACUUM")
