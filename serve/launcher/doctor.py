"""`parley doctor`: checks whether this machine can run Parley and says what to fix. It changes nothing.

Every check is a function that returns a `Finding`. It works before the first start and while Parley runs.
"""

import os
import platform
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Thread
from typing import Any, Literal
from urllib.parse import urlsplit

import psutil

from models.database import Database, open_database, wal_is_safe
from models.errors import ParleyError
from models.home.instance import read_state
from models.keys import keys_configured
from models.settings.settings import Settings
from serve.fleet import engine_states, machine
from serve.fleet.memory import CPU_OVERHEAD_BYTES, available_bytes
from serve.launcher import preflight

State = Literal["ok", "warn", "fail"]
_GIB = 1024**3
_FEW_FILES = 4096
_DEADLINE_S = 4.0  # for all checks together: a locked database or a GPU's driver may hang for longer
_LOW_DISK_BYTES = 5 * _GIB
# The oldest releases without a published vulnerability that affects Parley: see docs/log.md.
_FLOORS = {"vllm": (0, 32), "gradio": (6, 20)}
_STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


@dataclass(frozen=True)
class Finding:
    """The result of a check: its name, state, what was found, and advice (empty if all is well)."""

    name: str
    state: State
    found: str
    advice: str = ""


def examine(settings: Settings) -> list[Finding]:
    """Runs all checks in parallel, and waits for a few seconds at most."""
    checks: dict[str, Callable[[], Finding | list[Finding]]] = {
        "Python": _python,
        "packages": lambda: [_package(name) for name in ("torch", "vllm", "gradio", "transformers")],
        "cores": _processor,
        "GPU": lambda: _gpu(settings),
        "memory": lambda: _memory(settings),
        "home": lambda: _home(settings.home),
        "disk": lambda: _disk(settings.home),
        "database": lambda: _stored(settings),
        "SQLite": lambda: _sqlite(settings),
        "TLS": lambda: _tls(settings),
        "ports": lambda: _ports(settings),
        "open files": _files,
        "clock": _clock,
    }
    results: dict[str, Future[Finding | list[Finding]]] = {name: Future() for name in checks}
    for name, check in checks.items():
        # Daemon threads, so that the command can end while a check hangs.
        Thread(target=_complete, args=(results[name], check), name=f"doctor {name}", daemon=True).start()
    deadline = time.monotonic() + _DEADLINE_S
    findings: list[Finding] = []
    for name, future in results.items():
        try:
            result = future.result(timeout=max(deadline - time.monotonic(), 0))
        except FutureTimeout:
            result = Finding(name, "warn", f"no result within {_DEADLINE_S:g} s", f"The check of {name} hangs.")
        findings += result if isinstance(result, list) else [result]
    return findings


def _complete(future: "Future[Finding | list[Finding]]", check: Callable[[], Finding | list[Finding]]) -> None:
    try:
        future.set_result(check())
    except BaseException as error:  # raised again where the result is read
        future.set_exception(error)


def _stored(settings: Settings) -> list[Finding]:
    """Findings from the database: whether it can be used, whether there are keys, and the engines' states."""
    database = _DatabaseProbe(settings)
    try:
        return [_database(database), _keys(settings, database), *_engines(database)]
    finally:
        database.close()


def show(findings: list[Finding], console: Any) -> None:
    """Prints a table, and the advice below it."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("", "what", "found", box=None, header_style="bold")
    for item in findings:
        table.add_row(f"[{_STYLES[item.state]}]{item.state}[/]", item.name, escape(item.found))
    console.print(table)
    for item in findings:
        if item.advice:
            console.print(f"\n[{_STYLES[item.state]}]{escape(item.name)}[/]: {escape(item.advice)}")
    failed = sum(item.state == "fail" for item in findings)
    verdict = f"{failed} of {len(findings)} checks failed." if failed else "Parley can run here."
    console.print(f"\n[bold]{verdict}[/bold]")


def to_json(findings: list[Finding]) -> list[dict[str, str]]:
    """The findings as plain data for JSON."""
    return [asdict(item) for item in findings]


class _DatabaseProbe:
    """The database, opened if there is one; `fault` says why it cannot be used."""

    def __init__(self, settings: Settings) -> None:
        self.database: Database | None = None
        self.fault = ""
        self.where = "PostgreSQL" if settings.database_url else str(settings.home / "parley.db")
        if settings.database_url is None and not (settings.home / "parley.db").exists():
            return
        try:
            self.database = open_database(settings)
            self.database.check_current()
        except ParleyError as error:
            self.fault = str(error)

    def close(self) -> None:
        if self.database is not None:
            self.database.dispose()


def _python() -> Finding:
    system = f"{platform.python_version()} on {platform.system()} {platform.release()}"
    if sys.platform != "linux":
        return Finding(
            "Python", "warn", system, "Cleaning up after a crash needs Linux: elsewhere engines may keep running."
        )
    return Finding("Python", "ok", system)


def _package(name: str) -> Finding:
    package = next((candidate for candidate in (name, f"{name}-cpu") if _version(candidate)), None)
    if package is None:
        return Finding(name, "fail", "not installed", "Install Parley's environment: `make setup`.")
    release = _version(package) or ""
    floor = _FLOORS.get(name)
    if floor and _numbers(release) < floor:
        least = ".".join(map(str, floor))
        advice = f"Releases before {least} have published security faults: run `make setup`."
        return Finding(name, "fail", release, advice)
    return Finding(name, "ok", f"{release} ({package})" if package != name else release)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _numbers(release: str) -> tuple[int, ...]:
    parts = [part for part in release.split("+")[0].split(".") if part.isdigit()]
    return tuple(map(int, parts))


def _processor() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores < 2:
        return Finding("cores", "warn", "1", "Engine, gateway and page share one core: answers will be slow.")
    return Finding("cores", "ok", str(cores))


def _gpu(settings: Settings) -> Finding:
    if settings.device == "cpu":
        return Finding("GPU", "ok", "not checked: device is cpu")
    try:
        machine_info = machine.detect_machine(settings)
    except ParleyError as error:
        return Finding("GPU", "fail", "none that engines may use", str(error))
    if not machine_info.gpus:
        return Finding("GPU", "ok", "none: engines run on the CPU")
    cards = ", ".join(f"{gpu.name} ({gpu.memory_mib // 1024} GiB)" for gpu in machine_info.gpus)
    if _version("vllm") is None:
        return Finding("GPU", "warn", cards, "vLLM's CPU build is installed: run `make setup` for the GPU build.")
    return Finding("GPU", "ok", f"{cards}, driver {_driver()}")


def _driver() -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return "unknown"
    query = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return (done.stdout.split() or ["unknown"])[0]


def _memory(settings: Settings) -> Finding:
    free, total = available_bytes(), psutil.virtual_memory().total
    least = CPU_OVERHEAD_BYTES + int(settings.cpu_kv_cache_gib * _GIB)
    amount = f"{free / _GIB:.1f} of {total / _GIB:.1f} GiB are free"
    if free < CPU_OVERHEAD_BYTES:
        return Finding("memory", "fail", amount, f"One engine needs {least / _GIB:.1f} GiB beside its weights.")
    if free < least + _GIB:
        advice = (
            f"One engine needs {least / _GIB:.1f} GiB beside its weights: lower cpu_kv_cache_gib, or free some memory."
        )
        return Finding("memory", "warn", amount, advice)
    return Finding("memory", "ok", amount)


def _home(home: Path) -> Finding:
    if not home.exists():
        parent = next(item for item in home.parents if item.exists())
        if not os.access(parent, os.W_OK | os.X_OK):
            advice = "Choose another with --home or PARLEY_HOME."
            return Finding("home", "fail", f"{home} cannot be created: {parent} is not writable", advice)
        return Finding("home", "ok", f"{home}, created at the first start")
    if not home.is_dir() or not os.access(home, os.R_OK | os.W_OK | os.X_OK):
        return Finding("home", "fail", f"{home} is not writable", "Choose another with --home or PARLEY_HOME.")
    mode = home.stat().st_mode & 0o777
    if mode & 0o022:
        advice = f"Others could change what Parley runs: run `chmod go-w {home}`."
        return Finding("home", "warn", f"{home}, writable by others ({mode:o})", advice)
    return Finding("home", "ok", f"{home} ({mode:o})")


def _disk(home: Path) -> Finding:
    where = next(item for item in (home, *home.parents) if item.exists())
    free = shutil.disk_usage(where).free
    amount = f"{free / _GIB:.1f} GiB are free on the disk of {where}"
    if free < preflight.LEAST_FREE_BYTES:
        return Finding("disk", "fail", amount, "Parley needs more to start: free some space.")
    if free < _LOW_DISK_BYTES:
        return Finding("disk", "warn", amount, "Checkpoints need space, and a merged model is as large as its base.")
    return Finding("disk", "ok", amount)


def _database(opened: _DatabaseProbe) -> Finding:
    if opened.fault:
        return Finding("database", "fail", opened.where, opened.fault)
    if opened.database is None:
        return Finding("database", "ok", f"{opened.where}, created at the first start")
    return Finding("database", "ok", f"{opened.where}, schema up to date")


def _sqlite(settings: Settings) -> Finding:
    if settings.database_url is not None:
        return Finding("SQLite", "ok", "not used: the database is PostgreSQL")
    mode = "WAL" if wal_is_safe(sqlite3.sqlite_version_info) else "rollback journal"
    why = "" if mode == "WAL" else ": WAL can corrupt a database in this release (fixed in 3.51.3, 3.50.7, 3.44.6)"
    return Finding("SQLite", "ok", f"{sqlite3.sqlite_version}, {mode}{why}")


def _ports(settings: Settings) -> list[Finding]:
    running = read_state(settings)
    findings = []
    addresses = (
        ("gateway", settings.host, settings.port, "the gateway", "--port"),
        ("page", settings.page_host, settings.page_port, "the page", "--page-port"),
    )
    for name, host, port, who, flag in addresses:
        if running is not None and running["processes"].get(name, {}).get("pid"):
            # It may have been started with other flags than this command has.
            used = urlsplit(running.get(name) or "").port or port
            findings.append(Finding(f"port {used}", "ok", f"used by {who} of this home, which is running"))
            continue
        try:
            preflight.check_port(host, port, who, flag)
        except ParleyError as error:
            findings.append(Finding(f"port {port}", "fail", f"not available for {who}", str(error)))
        else:
            findings.append(Finding(f"port {port}", "ok", f"free for {who}"))
    return findings


def _tls(settings: Settings) -> Finding:
    served = {"gateway": settings.tls_certificate, "page": settings.page_tls_certificate}
    names = [name for name, certificate in served.items() if certificate is not None]
    try:
        preflight.check_tls(settings, page=True)
    except ParleyError as error:
        return Finding("TLS", "fail", "the certificate cannot be used", str(error))
    return Finding("TLS", "ok", f"HTTPS on the {' and the '.join(names)}" if names else "off: HTTP only")


def _keys(settings: Settings, opened: _DatabaseProbe) -> Finding:
    keys = opened.database is not None and not opened.fault and keys_configured(opened.database)
    where = f"{settings.host} and {settings.page_host}" if settings.host != settings.page_host else settings.host
    try:
        preflight.check_keys(settings, page=True, keys=keys)
    except ParleyError as error:
        return Finding("keys", "fail", f"none, and it would listen on {where}", str(error))
    return Finding("keys", "ok", f"required on {where}" if keys else f"none: only this machine can reach {where}")


def _engines(opened: _DatabaseProbe) -> list[Finding]:
    """A finding for each engine of a running Parley: why it failed or restarts."""
    if opened.database is None or opened.fault:
        return []
    findings = []
    for engine in engine_states.read_statuses(opened.database).values():
        state = "fail" if engine.state == "failed" else "ok"
        if engine.state == "starting" and engine.message != engine_states.STARTING:
            state = "warn"
        findings.append(Finding(f"engine {engine.name}", state, engine.state, engine.message))
    return findings


def _files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _FEW_FILES:
        advice = (
            f"Each stream needs two: run `ulimit -n {min(hard, 65536)}` before the start, or set LimitNOFILE in the "
            "unit."
        )
        return Finding("open files", "warn", f"at most {soft}", advice)
    return Finding("open files", "ok", f"at most {soft}")


def _clock() -> Finding:
    now, written = time.time(), Path(__file__).stat().st_mtime
    shown = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now))
    if now < written - 86_400:
        advice = "The clock is behind: keys, leases and shutdown dates depend on it. Set it, or start a time service."
        return Finding("clock", "fail", shown, advice)
    return Finding("clock", "ok", shown)
