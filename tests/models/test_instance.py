"""Commands use the gateway of their own home, whatever its port, and never another program's."""

import json
import os
from pathlib import Path

import psutil
import pytest

from models.chat.completer import gateway_completer
from models.errors import Invalid, Unavailable
from models.home.instance import find_gateway, gateway_url, read_state
from models.settings.settings import Settings, load_settings


def write_state(settings: Settings, gateway: str, pid: int | None = None, started: float | None = None) -> None:
    settings.home.mkdir(exist_ok=True)
    started = psutil.Process().create_time() if started is None else started
    (settings.home / "up.json").write_text(
        json.dumps({"pid": pid or os.getpid(), "started": started, "gateway": gateway})
    )


def test_the_running_instances_address_wins(settings: Settings, home: Path) -> None:
    write_state(settings, "http://127.0.0.1:9123/v1")
    assert find_gateway(settings) == gateway_url(settings) == "http://127.0.0.1:9123/v1"
    assert find_gateway(load_settings(home=home, port=9000)) == "http://127.0.0.1:9123/v1"
    assert gateway_completer(settings, "m")._base_url == "http://127.0.0.1:9123/v1"


@pytest.mark.parametrize("left", ["", "{", "[]", '{"pid": 1}', '{"pid": "x", "started": 1}'])
def test_a_damaged_or_old_state_means_that_none_runs(settings: Settings, left: str) -> None:
    settings.home.mkdir()
    (settings.home / "up.json").write_text(left)
    assert read_state(settings) is None
    write_state(settings, "http://127.0.0.1:9123/v1", started=1.0)
    assert read_state(settings) is None


def test_an_explicit_address_wins_over_everything_on_this_machine(settings: Settings, home: Path) -> None:
    write_state(settings, "http://127.0.0.1:9123/v1")
    elsewhere = load_settings(home=home, gateway_address="http://gateway:8000")
    assert find_gateway(elsewhere) == gateway_url(elsewhere) == "http://gateway:8000/v1"
    assert elsewhere.gateway_url == settings.gateway_url, "where this machine's own gateway listens"
    with pytest.raises(Invalid, match="gateway_address"):
        load_settings(home=home, gateway_address="http://gateway:8000/v1")


def test_without_an_instance_only_an_explicit_port_is_used(settings: Settings, home: Path) -> None:
    with pytest.raises(Unavailable, match=rf"Parley is not running from {home}: start it with `parley up`"):
        find_gateway(settings)
    assert gateway_url(settings) == settings.gateway_url
    assert find_gateway(load_settings(home=home, port=9000)) == "http://127.0.0.1:9000/v1"
