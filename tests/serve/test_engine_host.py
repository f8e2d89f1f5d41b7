"""Where engines run: this machine's host, the setting for a Ray cluster, and each engine's own key."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import parley
from models.database import Database
from models.errors import Invalid
from models.registry.registry import Registry
from models.settings.settings import Settings, load_settings
from models.spec import ModelSpec
from serve.cluster import ray_host
from serve.fleet import engine_lifecycle, supervisor, vllm_command
from serve.fleet.engine_host import NoPlace
from serve.fleet.engine_launch import EngineLaunch, engine_command
from serve.fleet.engine_process import StartedEngine
from serve.fleet.local_host import LocalHost
from serve.fleet.machine import Machine
from serve.fleet.memory import MemoryBudget
from serve.fleet.placement import Share
from serve.fleet.supervisor import Supervisor
from serve.fleet.vllm_command import Endpoint
from serve.gateway.engine_access import EngineAccess
from tests.serve.test_supervisor import until

SPEC = ModelSpec(id="m", kind="base", path="org/name")
MACHINE = Machine((0,), 2**33)


def launch(home: Path, module: str = vllm_command.MODULE) -> EngineLaunch:
    return EngineLaunch("m#2", SPEC, Share("cpu"), 0, 0, "secret", home, module)


def test_a_command_is_for_one_engine_at_one_address(home: Path) -> None:
    command = engine_command(launch(home, "a.server"), Endpoint("http://10.0.0.7:9000", "secret"))
    assert command.name == "engine-m#2"
    assert command.argv[1:3] == ("-m", "a.server")
    given = dict(zip(command.argv[3::2], command.argv[4::2], strict=False))
    assert (given["--host"], given["--port"], given["--served-model-name"]) == ("10.0.0.7", "9000", "m")
    assert command.environment["VLLM_API_KEY"] == "secret"
    assert command.environment["TRITON_CACHE_DIR"] == str(home / "cache" / "triton")
    assert "secret" not in repr(command)


@pytest.mark.long
async def test_this_machine_starts_a_child_process_on_loopback(settings: Settings) -> None:
    host = LocalHost(settings, MACHINE, MemoryBudget(MACHINE, settings))
    process, endpoint, place = await host.start(launch(settings.home, "tests.serve.silent_engine"))
    try:
        assert endpoint.address.startswith("http://127.0.0.1:")
        assert (endpoint.key, place) == ("secret", "")
        assert host.guardian(process) == process.pid
        assert process.exit_code() is None
        assert (settings.logs_dir / "engine-m#2.log").exists()
        assert host.measure_activity(process).at > 0
    finally:
        assert process.kill() != 0
    cancelled = asyncio.create_task(host.start(launch(settings.home, "tests.serve.silent_engine")))
    await asyncio.sleep(0)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled


class FullHost(LocalHost):
    """A host without room at first."""

    full = True

    async def start(self, launch: EngineLaunch) -> StartedEngine:
        if self.full:
            raise NoPlace("waiting for a node")
        return await super().start(launch)


@pytest.mark.long
async def test_an_engine_without_a_place_waits_and_is_no_failure(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm_command, "MODULE", "tests.serve.silent_engine")
    monkeypatch.setattr(supervisor, "_TICK_S", 0.02)
    monkeypatch.setattr(engine_lifecycle, "_MEMORY_RETRY_S", 0.05)
    host = FullHost(settings, MACHINE, MemoryBudget(MACHINE, settings))
    Registry(database).register(SPEC)
    running = Supervisor(settings, database, MACHINE, host=host)
    task = asyncio.create_task(running.run())
    try:
        await until(lambda: "m" in running.overview() and "waiting for a node" in running.overview()["m"].message)
        await until(running.settled)
        await asyncio.sleep(0.3)
        assert running.overview()["m"].state == "starting"
        host.full = False
        await until(lambda: running.overview()["m"].pid is not None)
        assert running.overview()["m"].message == "starting"
        assert not running.settled()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await running.stop()


def test_each_engine_has_a_key_of_its_own() -> None:
    access = EngineAccess("the-key-of-this-run")
    (first, redactor), (second, other) = access.of("m"), access.of("m#2")
    assert first != second
    assert first == EngineAccess("the-key-of-this-run").of("m")[0]
    assert "the-key-of-this-run" not in first
    key = first.removeprefix("Bearer ").encode()
    assert redactor.redact(b"key " + key) == b"key [redacted]"
    assert other.redact(b"key " + key) == b"key " + key


@pytest.mark.parametrize("address", ["auto", "ray://10.0.0.7:10001", "ray://head.internal:10001"])
def test_a_clusters_address_is_a_setting(home: Path, address: str) -> None:
    assert load_settings(home=home, ray_address=address).ray_address == address


@pytest.mark.parametrize("address", ["", "10.0.0.7:6379", "ray://10.0.0.7", "http://10.0.0.7:10001", "ray://a b:1"])
def test_another_address_is_refused_in_one_line(home: Path, address: str) -> None:
    done = CliRunner().invoke(parley.build(), ["up", "--home", str(home), "--on", address])
    assert isinstance(done.exception, Invalid)
    assert "Setting ray_address" in str(done.exception)
    assert not home.exists()


def test_without_ray_the_command_says_what_to_install(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(ray_host, "import_module", missing)
    with pytest.raises(Invalid) as caught:
        ray_host.connect("auto", load_settings(home=home))
    assert str(caught.value) == "Ray is not installed: run `pip install 'parley[ray]'`."
