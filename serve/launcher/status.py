"""`parley status`: the processes and models of this home as two tables. It changes nothing."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from models.database import Database, utcnow
from models.home.instance import read_state
from models.registry.registry import Registry
from models.registry.shutdowns import print_shutdowns
from models.settings.settings import Settings
from serve.fleet import engine_states
from serve.fleet.replica_names import replica_name, replica_number
from serve.processes.logs import engine_log, last_lines

_STYLES = {"ready": "green", "starting": "yellow", "failed": "red", "stopped": "dim"}
_LINES = 8


EMPTY: dict[str, Any] = {"running": False, "gateway": None, "processes": {}, "models": []}


def not_running(settings: Settings) -> str:
    """The line for a home from which Parley is not running."""
    return f"Parley is not running from {settings.home}. Start it with `parley up`."


def report(settings: Settings, database: Database) -> dict[str, Any]:
    """The status as plain data for JSON: `running`, `gateway`, `processes` and `models`.

    Each model has id, kind, base, state, message, pinned, since, memory_bytes, replicas and, if it failed, log_lines.
    """
    running = read_state(settings)
    registry = Registry(database)
    specs = registry.list(include_candidates=True)
    rows = engine_states.read_statuses(database) if running else {}
    known, pinned = engine_states.combine_states(specs, rows), registry.pinned()
    replicas = engine_states.replicas_of(rows)
    models = []
    for spec in specs:
        engines = replicas.get(spec.id, ())
        first = next((row for row in engines if row.state == known[spec.id].state), None)
        memory = sum(row.memory_bytes or 0 for row in engines)
        model: dict[str, Any] = {
            "id": spec.id, "kind": spec.kind, "base": spec.base, "state": known[spec.id].state,
            "message": known[spec.id].message, "pinned": spec.id in pinned,
            "since": first.since.isoformat() if first and first.since else None,
            "memory_bytes": memory or None,
            "replicas": {
                row.name: {"state": row.state, "address": row.address, "pid": row.pid, "message": row.message}
                for row in engines
            },
        }  # fmt: skip
        if known[spec.id].state == "failed":
            model["log_lines"] = last_lines(_log(settings, model), _LINES)
        models.append(model)
    return {
        "running": running is not None,
        "home": str(settings.home),
        "gateway": running["gateway"] if running else None,
        "processes": {"parent": {"pid": running["pid"], "ready": running["ready"]}, **running["processes"]}
        if running
        else {},
        "models": models,
    }


def show(settings: Settings, database: Database, console: Any) -> None:
    """Prints the tables, and the last log lines of each failed engine."""
    from rich.markup import escape
    from rich.table import Table

    status = report(settings, database)
    if not status["running"]:
        console.print(not_running(settings), markup=False)
    else:
        processes = Table("process", "pid", "state", title=f"Parley, {status['gateway']}", title_justify="left")
        for name, entry in status["processes"].items():
            processes.add_row(name, str(entry["pid"] or ""), "[green]ready[/]" if entry["ready"] else "starting")
        console.print(processes)
    models = Table("model", "kind", "state", "since", "memory", title="Models", title_justify="left")
    for entry in status["models"]:
        style = _STYLES[entry["state"]]
        state = f"[{style}]{entry['state']}[/]" + (", pinned" if entry["pinned"] else "")
        state += f", {len(entry['replicas'])} replicas" if len(entry["replicas"]) > 1 else ""
        kind = f"{entry['kind']} on {entry['base']}" if entry["base"] else entry["kind"]
        models.add_row(entry["id"], kind, state, _since(entry["since"]), gib(entry["memory_bytes"]))
    console.print(models if status["models"] else "No model is registered: run `parley models add` or `parley demo`.")
    for entry in status["models"]:
        if entry["message"] and status["running"]:
            # Below the table, because a sentence does not fit into a narrow column.
            console.print(f"[{_STYLES[entry['state']]}]{escape(entry['id'])}[/]: {escape(entry['message'])}")
    print_shutdowns(Registry(database).list(include_candidates=True), console)
    for entry in status["models"]:
        if entry.get("log_lines"):
            console.print(f"\nThe last lines of {_log(settings, entry)}:", style="red", markup=False)
            console.print("\n".join(entry["log_lines"]), markup=False, style="dim")


def _log(settings: Settings, model: Mapping[str, Any]) -> Path:
    """The log of the engine that failed."""
    failed = next((name for name, replica in model["replicas"].items() if replica["state"] == "failed"), "")
    engine = model["base"] if model["kind"] == "adapter" else model["id"]
    return engine_log(settings.logs_dir, replica_name(engine, replica_number(failed)))


def gib(size: int | None) -> str:
    """Bytes in GiB; empty for None."""
    return f"{size / 2**30:.1f} GiB" if size else ""


def duration(since: datetime | None) -> str:
    """The time since then in the largest unit that fits; empty for None."""
    if since is None:
        return ""
    seconds = max((utcnow() - since).total_seconds(), 0)
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} s"


def _since(text: str | None) -> str:
    return duration(datetime.fromisoformat(text)) if text else ""
