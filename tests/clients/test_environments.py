"""deploy/clients.py: what an installer says becomes one line, and a missing environment is a failure."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tests.clients import programs

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def clients() -> ModuleType:
    spec = importlib.util.spec_from_file_location("clients", ROOT / "deploy" / "clients.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("ERROR: Could not install packages: [Errno 28] No space left on device", "disk is full"),
        ("ERROR: No matching distribution found for openai==2.54.0", "openai==2.54.0 in the index"),
        ("npm error notarget No matching version found for openai@99.0.0.", "openai@99.0.0 in the index"),
        ("npm error network request to the registry failed, reason: ENOTFOUND", "check the network"),
        ("npm error something odd", "something odd"),
        ("", "no reason"),
    ],
)
def test_what_an_installer_says_becomes_one_line(clients: ModuleType, output: str, says: str) -> None:
    assert says in clients.reason(output)


def test_without_npm_it_is_one_line(clients, monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.setattr(clients, "CLIENTS", tmp_path)
    monkeypatch.setattr(clients, "PYTHON_CLIENTS", ())
    monkeypatch.setattr(clients.shutil, "which", lambda _: None)
    assert clients.main() == 1
    assert capsys.readouterr().err.startswith("parley: npm is missing")


def test_an_environment_that_is_half_installed_is_made_again(clients, monkeypatch, tmp_path) -> None:
    (tmp_path / "bin").mkdir()
    assert not clients.is_there(tmp_path, b"pins")
    clients.stamp(tmp_path, b"pins")
    assert clients.is_there(tmp_path, b"pins")
    assert not clients.is_there(tmp_path, b"newer pins")


def test_an_absent_environment_is_a_failure_and_no_skip(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(programs, "CLIENTS", tmp_path)
    with pytest.raises(pytest.fail.Exception, match="make clients"):
        programs.command_of("openai-3", "chat")


def test_no_file_names_a_host_of_packages() -> None:
    for path in [*(ROOT / "requirements").glob("clients-*.txt"), *Path(__file__).parent.glob("package*.json")]:
        assert "://" not in path.read_text(), path
