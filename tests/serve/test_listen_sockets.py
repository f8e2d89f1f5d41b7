"""The port stays open between two gateways: no client is refused, and none waits forever."""

import json
import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

import serve
from models.database import open_database, upgrade
from models.errors import Unavailable
from models.registry.registry import Registry
from models.settings.settings import Settings, load_settings
from models.spec import ModelSpec, Upstream
from serve.processes import guardian
from serve.transport.listen_sockets import inherited_sockets, open_listen_sockets
from tests.serve.paced_upstream import PacedUpstream
from tests.stack import free_ports


def test_a_client_that_waits_too_long_gets_an_error() -> None:
    (port,) = free_ports(1)
    door = open_listen_sockets("127.0.0.1", port)
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        door.refuse_waiting()
        answer = client.recv(65536)
    assert answer.startswith(b"HTTP/1.1 503")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["type"] == "server_error"
    door.refuse_waiting()  # no gateway runs
    door.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_a_name_is_all_its_addresses_and_a_port_that_is_taken_is_reported() -> None:
    (port,) = free_ports(1)
    door = open_listen_sockets("localhost", port)
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        pass
    with pytest.raises(Unavailable, match="in use"):
        open_listen_sockets("127.0.0.1", port)
    inherited = inherited_sockets([os.dup(number) for number in door.descriptors])
    assert {listener.getsockname()[1] for listener in inherited} == {port}
    for listener in inherited:
        listener.close()
    door.close()


@pytest.fixture
def ported(home) -> Settings:
    return load_settings(home=home, port=free_ports(1)[0])


@pytest.mark.long
def test_while_a_gateway_comes_back_clients_wait_and_none_is_refused(ported: Settings, upstream: PacedUpstream) -> None:
    upgrade(ported)
    database = open_database(ported)
    hosted = Upstream(base_url=f"{upstream.address}/v1", model="whole")
    Registry(database).register(ModelSpec(id="hosted", kind="hosted", upstream=hosted))
    database.dispose()

    def say(_: int) -> str | None:
        # A separate client: a connection to a killed process is lost.
        sdk = openai.OpenAI(base_url=ported.gateway_url, api_key="any", max_retries=0, timeout=20)
        answer = sdk.chat.completions.create(model="hosted", messages=[{"role": "user", "content": "hello"}])
        return answer.choices[0].message.content

    with serve.start(ported, page=False, worker=False) as running:
        running.wait_ready(60)
        assert say(0)
        state = running.state()
        assert state is not None
        keeper = state["processes"]["gateway"]["pid"]
        os.kill(guardian.children(keeper)[0], signal.SIGKILL)
        time.sleep(0.05)
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(say, range(8)))
        state = running.state()
        assert state is not None
        assert state["processes"]["gateway"]["pid"] != keeper
        running.stop()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", ported.port), timeout=5)
