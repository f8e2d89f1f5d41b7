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
from pathlib import Path
from statistics import quantiles

from models.database import open_database, upgrade
from models.settings.settings import load_settings
from tests.serve.gateways import serving
from tests.serve.paced_upstream import PacedUpstream

_SIZE = 8 * 2**20 - 200
_LIMIT_MS = 100.0
_ATTACKERS = 4
_CHAT = '{"model":"whole","messages":[{"role":"user","content":"hello"}]%s}'


def shapes() -> dict[str, bytes]:
    """Bodies by name: refused ones of the full size, and accepted ones near the limits."""
    tool = '{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{%s}}}}'
    fields = {
        "brackets": "[" * (_SIZE // 2) + "]" * (_SIZE // 2),
        "nested lists": "[" + ",".join(["[" * 120 + "]" * 120] * (_SIZE // 241)) + "]",
        "objects": "[" + ",".join(["{}"] * (_SIZE // 3)) + "]",
        "strings": "[" + ",".join(['"a"'] * (_SIZE // 4)) + "]",
        "escapes": '"' + '\\"' * (_SIZE // 2) + '"',
        "text": '"' + "x" * _SIZE + '"',
        "objects, accepted": "[" + ",".join(["{}"] * 44_000) + "]",
        "strings, accepted": "[" + ",".join([f'"a{number}"' for number in range(99_000)]) + "]",
        "tools, accepted": "["
        + ",".join([tool % ",".join([f'"p{n}":{{"type":"string"}}' for n in range(90)])] * 200)
        + "]",
    }
    named = {name: f',"{"tools" if "tools" in name else "metadata"}":{text}' for name, text in fields.items()}
    return {name: (_CHAT % text).encode() for name, text in named.items()}


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
        with serving(settings, database) as gateway:
            upstream.seen.requests = upstream.seen.raw = deque(maxlen=1)  # type: ignore[assignment] -- it keeps everything
            gateway.hosted("whole", base_url=f"{upstream.address}/v1")
            for name, body in {"nothing": b"", **shapes()}.items():
                rows[name] = _latencies(gateway.port, body, options.seconds)
                if not options.json:
                    print(
                        f"{name:20} p50 {rows[name]['p50_ms']:7.1f} ms  p99 {rows[name]['p99_ms']:7.1f} ms", flush=True
                    )
        database.dispose()
    print(json.dumps(rows))
    return int(any(row["p99_ms"] > _LIMIT_MS for row in rows.values()))


def _latencies(port: int, attack: bytes, seconds: float) -> dict[str, float]:
    stopping = threading.Event()
    attackers = [
        threading.Thread(target=_send, args=(port, attack, stopping)) for _ in range(_ATTACKERS if attack else 0)
    ]
    for attacker in attackers:
        attacker.start()
    small, taken = (_CHAT % "").encode(), []
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


def _send(port: int, body: bytes, stopping: threading.Event) -> None:
    while not stopping.is_set():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
            connection.getresponse().read()
        except OSError:
            continue
        finally:
            connection.close()


if __name__ == "__main__":
    sys.exit(main())
