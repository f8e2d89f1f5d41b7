"""The head of a Ray cluster: its loss and its return are reported, each once."""

import socket

import pytest

from serve.cluster import head_watch
from serve.cluster.head_watch import HeadWatch
from serve.fleet.vllm_command import LOOPBACK, free_port


def test_the_loss_and_the_return_are_one_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_watch, "_INTERVAL_S", 0.0)
    lines: list[str] = []
    port = free_port()
    watch = HeadWatch(f"{LOOPBACK}:{port}", lines.append)

    def check_twice() -> None:
        watch.check()
        watch.check()

    with socket.create_server((LOOPBACK, port)):
        check_twice()
        assert lines == []
    check_twice()
    assert len(lines) == 1
    assert lines[0].startswith(f"the head of the Ray cluster ({LOOPBACK}:{port}) does not answer: running engines")
    assert "within a minute" in lines[0]
    with socket.create_server((LOOPBACK, port)):
        check_twice()
    assert lines[1:] == ["the head of the Ray cluster answers again"]
    # Between two checks, no connection is opened.
    monkeypatch.setattr(head_watch, "_INTERVAL_S", 60.0)
    check_twice()
    assert len(lines) == 2
