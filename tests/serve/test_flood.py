"""A flood of requests to one model: it gets its share and its queue, and the others answer as before."""

import json
import socket

import pytest

from models.database import Database
from models.settings.settings import Settings
from tests.serve.gateways import serving
from tests.serve.paced_upstream import PacedUpstream

RUNNING, QUEUED, FLOOD = 4, 8, 60


def post(model: str) -> bytes:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}]}).encode()
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: "
    )
    return head + b"%d\r\n\r\n%b" % (len(body), body)


@pytest.mark.long
def test_a_flood_at_one_model_leaves_the_others_alone(
    settings: Settings, database: Database, upstream: PacedUpstream
) -> None:
    limited = settings.model_copy(update={"running_per_model": RUNNING, "queue_size": QUEUED})
    with serving(limited, database) as running:
        running.hosted("hangs", "whole", base_url=f"{upstream.address}/v1")
        flood = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(FLOOD)]
        try:
            for connection in flood:
                connection.sendall(post("hangs"))
            with socket.create_connection(("127.0.0.1", running.port), timeout=20) as other:
                for _ in range(20):
                    other.sendall(post("whole"))
                    assert other.recv(65536).startswith(b"HTTP/1.1 200 ")
            statuses = []
            for connection in flood:
                connection.settimeout(0.01)
                try:
                    statuses.append(connection.recv(65536)[:12])
                except TimeoutError:
                    statuses.append(b"")
        finally:
            for connection in flood:
                connection.close()
    assert statuses.count(b"") == RUNNING + QUEUED
    assert statuses.count(b"HTTP/1.1 429") == FLOOD - RUNNING - QUEUED
    assert [body["model"] for body in upstream.seen.requests].count("whole") == 20
