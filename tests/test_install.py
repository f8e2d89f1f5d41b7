"""deploy/install.py: each fault of a machine is a one-line error before anything is installed."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("install", ROOT / "deploy" / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", ["install.py"])
    return module


def refused(install: ModuleType, capsys: pytest.CaptureFixture[str]) -> str:
    assert install.main() == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_an_old_python_is_one_line(install, monkeypatch, capsys) -> None:
    monkeypatch.setattr(install.sys, "version_info", (3, 9, 2))
    assert "Parley needs Python 3.11" in refused(install, capsys)


def test_an_old_python_can_read_the_file_at_all() -> None:
    """Nothing newer than Python 3.6, so that an old interpreter gets as far as the error."""
    ast.parse((ROOT / "deploy" / "install.py").read_text(), feature_version=(3, 6))


def test_a_full_disk_is_one_line(install, monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setattr(install, "VENV", str(tmp_path / ".venv"))
    monkeypatch.setitem(install.NEEDED_GIB, "cpu", 10**9)
    monkeypatch.setattr(install, "has_nvidia_gpu", lambda: False)
    assert "Free some space" in refused(install, capsys)
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("ERROR: Could not install packages: [Errno 28] No space left on device", "disk is full"),
        ("ERROR: No matching distribution found for torch==2.13.0+cpu", "torch==2.13.0+cpu"),
        ("WARNING: Retrying after connection broken by NewConnectionError", "check the network"),
        ("ERROR: something odd", "something odd"),
        ("", "no reason"),
    ],
)
def test_pips_errors_become_one_line(install, output: str, expected: str) -> None:
    assert expected in install.reason(output.splitlines())


def test_a_torch_that_pip_does_not_find_is_fetched_from_its_own_index(install, monkeypatch) -> None:
    calls: list[list[str]] = []

    def pip(arguments: list[str], expected: list[str]) -> None:
        calls.append(arguments)
        if len(calls) == 1:
            raise install.Refused("There is no package torch==2.13.0+cpu in the index")

    monkeypatch.setattr(install, "pip", pip)
    install.install_torch_cpu()
    assert calls[0] == ["torch==2.13.0+cpu"]
    assert calls[1] == ["--extra-index-url", install.TORCH_CPU_INDEX, "torch==2.13.0+cpu"]


@pytest.mark.long
def test_the_environment_is_found_installed_and_left_alone() -> None:
    """It created the environment of these tests: a second call returns at once."""
    if not (ROOT / ".venv" / ".installed-cpu").exists():
        pytest.skip("this environment was not made by deploy/install.py")
    run = subprocess.run(
        [sys.executable, "deploy/install.py", "--build", "cpu"], cwd=ROOT, capture_output=True, text=True
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_every_pin_is_exact_and_nothing_that_breaks_a_cpu_torch_is_among_them(install) -> None:
    for name in ("cpu", "gpu", "dev"):
        pins = install.packages(name)
        assert pins
        assert all(pin.count("==") == 1 for pin in pins)
    assert not {"torchvision", "torchaudio", "torchcodec"} & {pin.split("==")[0] for pin in install.packages("cpu")}
