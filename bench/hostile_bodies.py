"""How long another client waits while bodies of 8 MiB in the most costly shapes arrive at the gateway.

    python -m bench.hostile_bodies [--seconds 5] [--json]

Four clients send one shape without a pause; another client sends small requests and its latency is taken. Gateway,
upstream and clients share one process, so the figures are upper bounds. Exit status 1 if a 99th percentile is over
100 ms.
"""

import argparse
import gc
import http.client
import json
import sys
import tempfile
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

import parley
from models.database import open_database, upgrade
from models.settings.settings import load_settings
from tests.serve.gateways import serving
from tests.serve.paced_upstream import PacedUpstream

_SIZE = 8 * 2**20 - 200
_LIMIT_MS = 100.0
_ATTACKERS = 4
_FORM = "multipart/form-data; boundary=b"


@dataclass(frozen=True)
class Attack:
    """A request that is sent again and again."""

    body: bytes
    path: str = "/v1/chat/completions"
    content_type: str = "application/json"


def attacks() -> dict[str, Attack]:
    """Requests by name: refused ones of the full size, and accepted ones near the limits."""
    bodies = {name: _chat("whole", "metadata", value) for name, value in _values().items()}
    bodies |= {name: _chat("engine", field, value) for name, (field, value) in _schemas().items()}
    messages = ",".join(['{"role":"user","content":"a"}'] * 16_000)
    bodies["messages, accepted"] = f'{{"model":"engine","messages":[{messages}]}}'
    chats = {name: Attack(body.encode()) for name, body in bodies.items()}
    return chats | {name: Attack(body, "/v1/files", _FORM) for name, body in _forms().items()}


def _chat(model: str, field: str = "user", value: str = "null") -> str:
    return f'{{"model":"{model}","messages":[{{"role":"user","content":"hello"}}],"{field}":{value}}}'


def _values() -> dict[str, str]:
    return {
        "brackets": "[" * (_SIZE // 2) + "]" * (_SIZE // 2),
        "nested lists": "[" + ",".join(["[" * 120 + "]" * 120] * (_SIZE // 241)) + "]",
        "objects": "[" + ",".join(["{}"] * (_SIZE // 3)) + "]",
        "strings": "[" + ",".join(['"a"'] * (_SIZE // 4)) + "]",
        "escapes": '"' + '\\"' * (_SIZE // 2) + '"',
        "text": '"' + "x" * _SIZE + '"',
        "objects, accepted": "[" + ",".join(["{}"] * 44_000) + "]",
        "strings, accepted": "[" + ",".join([f'"a{number}"' for number in range(99_000)]) + "]",
    }


def _schemas() -> dict[str, tuple[str, str]]:
    """Fields with JSON schemas, for an engine: before it compiles them, their counts are added up."""
    schema = '{"type":"object","properties":{%s}}'
    tool = '{"type":"function","function":{"name":"f","parameters":%s}}'
    few = schema % ",".join([f'"p{number}":{{"type":"string"}}' for number in range(90)])
    many = schema % ",".join([f'"p{number}":{{"type":"string","maxLength":9}}' for number in range(15_000)])
    shape = '{"type":"json_schema","json_schema":{"name":"n","schema":%s}}'
    return {
        "tools, accepted": ("tools", "[" + ",".join([tool % few] * 200) + "]"),
        "schema, accepted": ("response_format", shape % many),
    }


def _forms() -> dict[str, bytes]:
    """Forms for an upload. They are read as they arrive, and may be larger than other bodies."""
    field = b'--b\r\ncontent-disposition: form-data; name="x"\r\n\r\n\r\n'
    file = b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
    return {
        "form: fields": field * (_SIZE // len(field)) + b"--b--",
        "form: headers": b"--b\r\n" + b"x:\r\n" * (_SIZE // 4) + b"\r\n",
        "form: boundaries": file + b"\r\n--" * (_SIZE // 4) + b"\r\n--b--",
        "form: file": file + b"x" * (_SIZE - 80) + b"\r\n--b--",
    }


def main() -> int:
    """Runs the bench; returns the exit status."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(prog="python -m bench.hostile_bodies", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each shape")
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    options = parser.parse_args()
    gc.set_threshold(50_000, 20, 50)  # as in the gateway's process
    rows = {}
    with tempfile.TemporaryDirectory() as home, PacedUpstream() as upstream:
        settings = load_settings(home=Path(home))
        upgrade(settings)
        database = open_database(settings)
        with serving(settings, database, parley.api_routes(settings, database)) as gateway:
            upstream.seen.requests = upstream.seen.raw = deque(maxlen=1)  # type: ignore[assignment] -- it keeps everything
            gateway.hosted("whole", base_url=f"{upstream.address}/v1")
            gateway.engine("engine", Path(home) / "weights", upstream.address)
            for name, attack in {"nothing": None, **attacks()}.items():
                rows[name] = row = _latencies(gateway.port, attack, options.seconds)
                if not options.json:
                    print(f"{name:24} p50 {row['p50_ms']:7.1f} ms  p99 {row['p99_ms']:7.1f} ms", flush=True)
        database.dispose()
    print(json.dumps(rows))
    return int(any(row["p99_ms"] > _LIMIT_MS for row in rows.values()))


def _latencies(port: int, attack: Attack | None, seconds: float) -> dict[str, float]:
    stopping = threading.Event()
    attackers = [
        threading.Thread(target=_send, args=(port, attack, stopping)) for _ in range(_ATTACKERS if attack else 0)
    ]
    for attacker in attackers:
        attacker.start()
    small, taken = _chat("whole").encode(), []
    deadline = time.monotonic() + seconds
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    while time.monotonic() < deadline:
        began = time.monotonic()
        connection.request("POST", "/v1/chat/completions", small, {"content-type": "application/json"})
        connection.getresponse().read()
        taken.append((time.monotonic() - began) * 1000)
        time.sleep(0.005)
    connection.close()
    stopping.set()
    for attacker in attackers:
        attacker.join()
    cuts = quantiles(taken, n=100)
    return {"requests": len(taken), "p50_ms": round(cuts[49], 1), "p99_ms": round(cuts[98], 1)}


def _send(port: int, attack: Attack, stopping: threading.Event) -> None:
    while not stopping.is_set():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("POST", attack.path, attack.body, {"content-type": attack.content_type})
            connection.getresponse().read()
        except OSError:
            continue
        finally:
            connection.close()


if __name__ == "__main__":
    sys.exit(main())
