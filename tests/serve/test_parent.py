"""`parley up` without models: access, locks, ports, a clean stop, and nothing left after a kill."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import httpx
import openai
import pytest

import serve
from models.database import Database, open_database, upgrade
from models.errors import ParleyError
from models.keys import create_key
from models.registry.registry import Registry
from models.settings.settings import Settings, load_settings
from models.spec import ModelSpec, Upstream
from serve.launcher import parent, preflight
from serve.processes import guardian
from serve.transport.listen_sockets import ListenSockets
from tests.serve.paced_upstream import PacedUpstream
from tests.stack import free_ports

pytestmark = pytest.mark.long


@pytest.fixture
def ported(home: Path) -> Settings:
    port, page_port = free_ports(2)
    return load_settings(home=home, port=port, page_port=page_port)


def up(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`parley up` that is expected to end by itself."""
    from models.settings.environment import child_environment

    return subprocess.run(
        [sys.executable, "-m", "parley", "up", "--no-page", "--no-worker", *arguments],
        env=child_environment(settings), capture_output=True, text=True, timeout=60,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip


def gone(pids: list[int], timeout_s: float = 10) -> bool:
    deadline = time.monotonic() + timeout_s
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_its_page_and_worker_use_its_own_gateway(home: Path) -> None:
    settings = load_settings(home=home, port=9000, gateway_address="http://elsewhere:8000")
    services = parent._services(settings, [ListenSockets(())], page=True, worker=True)
    addresses = [service.command.environment["PARLEY_GATEWAY_ADDRESS"] for service in services]
    assert addresses == ["http://127.0.0.1:9000"] * 3


def test_it_starts_answers_and_stops_cleanly(ported: Settings) -> None:
    abandoned, fresh = (ported.models_dir / name for name in (".pending-old", ".pending-new"))
    for folder in (abandoned, fresh):
        folder.mkdir(parents=True)
    os.utime(abandoned, (0, 0))
    running = serve.start(ported, page=False)
    running.wait_ready(60)
    family = guardian.descendants(running.pid)
    with urllib.request.urlopen(f"{ported.gateway_url}/models") as answer:
        assert answer.status == 200
    assert not abandoned.exists()
    assert fresh.exists()
    second = up(ported)
    assert second.returncode == 1
    assert second.stderr.count("\n") == 1
    assert "already runs" in second.stderr
    began = time.monotonic()
    assert running.stop() == 0
    assert time.monotonic() - began < 10
    assert gone(family, 1)
    log = running.log.read_text()
    assert str(ported.port) in log
    assert "No key is configured: the gateway listens on 127.0.0.1 only" in log.splitlines()[0]
    assert "Traceback" not in log
    assert "stopped" in log.splitlines()[-1]
    assert not (ported.home / "up.json").exists()


def test_a_killed_parent_leaves_nothing_and_the_next_one_recovers(ported: Settings) -> None:
    running = serve.start(ported, page=False).wait_ready(60)
    family = guardian.descendants(running.pid)
    assert len(family) >= 4
    running.kill()
    assert gone(family, 10)
    with serve.start(ported, page=False) as again:
        again.wait_ready(60)
        assert again.state()


def test_a_taken_port_is_one_line(ported: Settings) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ported.port))
        taken.listen()
        done = up(ported)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.strip().splitlines() == [
        f"parley: Port {ported.port} for the gateway is in use. "
        "Stop the program that uses it, or choose another port with --port."
    ]


@pytest.mark.parametrize("host", ["a..b", "x" * 70, "no.such.host.invalid"])
def test_a_host_that_is_none_is_one_line(host: str) -> None:
    with pytest.raises(ParleyError, match="not an address of this machine"):
        preflight.check_port(host, 8000, "the gateway", "--port")


def test_one_port_for_gateway_and_page_is_one_line(home: Path) -> None:
    (port,) = free_ports(1)
    for host, page_host in (("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "0.0.0.0")):
        settings = load_settings(home=home, host=host, page_host=page_host, port=port, page_port=port)
        with pytest.raises(ParleyError, match="cannot both use port"):
            preflight.check(settings, page=True)
        preflight.check(settings, page=False)


def test_an_owners_key_is_shown_even_where_the_start_fails_later(
    ported: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(settings: Settings, say: object) -> None:
        raise ParleyError("no content")

    with pytest.raises(ParleyError, match="no content"):
        serve.up(ported, prepare=fails, make_owner_key=True)
    assert "pk-" in capsys.readouterr().out


def test_a_home_that_cannot_be_is_one_line(ported: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = up(ported.model_copy(update={"home": tmp_path / "file" / "home"}))
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1
    assert "cannot be" in done.stderr


def test_a_full_disk_is_one_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not os.access("/dev/full", os.W_OK):
        pytest.skip("needs /dev/full")
    (home / "logs").mkdir(parents=True)
    (home / f".probe-{os.getpid()}").symlink_to("/dev/full")
    with pytest.raises(ParleyError, match="is full"):
        preflight.check_home(home)


def test_wider_than_loopback_needs_a_key(home: Path) -> None:
    port, page_port = free_ports(2)
    settings = load_settings(home=home, host="0.0.0.0", port=port, page_port=page_port)
    done = up(settings)
    assert done.returncode != 0
    assert "needs a key" in done.stderr
    running = serve.start(settings, page=False, worker=False, arguments=["--make-owner-key"])
    with running:
        running.wait_ready(60)
        key = next(word for word in running.log.read_text().split() if word.startswith("pk-"))
        request = urllib.request.Request(f"{settings.gateway_url}/models", headers={"authorization": f"Bearer {key}"})
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 200
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{settings.gateway_url}/models")


def test_doors(settings: Settings, database: Database) -> None:
    preflight.check_keys(settings, page=True, keys=False)
    wide = settings.model_copy(update={"page_host": "192.0.2.1"})
    with pytest.raises(ParleyError, match="needs a key"):
        preflight.check_keys(wide, page=True, keys=False)
    preflight.check_keys(wide, page=False, keys=False)
    create_key(database, name="boss", role="owner")
    preflight.check_keys(wide, page=True, keys=True)
    hosts = {"127.0.0.1": True, "::1": True, "localhost": True, "127.8.8.8": True, "0.0.0.0": False, "::": False}
    assert {host: preflight.is_loopback(host) for host in hosts} == hosts


def test_the_gateway_alone_refuses_an_open_door(home: Path) -> None:
    settings = load_settings(home=home)
    upgrade(settings)
    open_database(settings).dispose()
    done = subprocess.run(
        [sys.executable, "-m", "parley", "gateway"], capture_output=True, text=True, timeout=60,
        env=os.environ | {"PARLEY_HOME": str(home), "PARLEY_HOST": "0.0.0.0"}, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode != 0
    assert "needs a key" in done.stderr


@pytest.mark.parametrize("again", [False, True])
def test_a_stop_lets_answers_end_and_a_second_one_does_not_wait(
    ported: Settings, upstream: PacedUpstream, again: bool
) -> None:
    upgrade(ported)
    database = open_database(ported)
    there = Upstream(base_url=f"{upstream.address}/v1", model="whole")
    Registry(database).register(ModelSpec(id="far", kind="hosted", upstream=there))
    database.dispose()
    upstream.chunks, pace = 40, upstream.pace_s
    upstream.pace_s = 0.1
    try:
        with serve.start(ported, page=False, worker=False) as running:
            running.wait_ready(60)
            client = openai.OpenAI(base_url=ported.gateway_url, api_key="any", max_retries=0)
            stream = client.chat.completions.create(
                model="far", messages=[{"role": "user", "content": "hi"}], stream=True
            )
            chunks = [next(stream)]
            running.process.send_signal(signal.SIGINT)
            began = time.monotonic()
            if again:
                time.sleep(0.5)
                running.process.send_signal(signal.SIGINT)
                with pytest.raises((openai.APIError, httpx.HTTPError)):
                    chunks += list(stream)
            else:
                chunks += list(stream)
                assert [chunk.choices[0].delta.content for chunk in chunks if chunk.choices][-1] == "w39 "
            assert running.process.wait(20) == 0
            assert (time.monotonic() - began < 2.5) is again
    finally:
        upstream.pace_s = pace


def test_what_a_stopped_guardian_kept_alive_is_ended_by_the_next_start(ported: Settings) -> None:
    running = serve.start(ported, page=False, worker=False).wait_ready(60)
    (keeper,) = guardian.children(running.pid)
    family = [keeper, *guardian.descendants(keeper)]
    os.kill(keeper, signal.SIGSTOP)
    running.kill()
    time.sleep(0.5)
    assert not gone(family, 0)
    with serve.start(ported, page=False, worker=False) as again:
        again.wait_ready(60)
        assert gone(family, 1)
        assert f"ended {len(family)} processes" in again.log.read_text()
