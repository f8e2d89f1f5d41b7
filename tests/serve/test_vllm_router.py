"""vLLM's router as an upstream, as in docs/scaling.md: streams arrive whole, also after one of its engines is lost."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import openai
import pytest

from bench.gateway.mock_upstream import CHUNKS, MODEL
from bench.gateway.targets import PEERS
from models.keys import create_key
from tests.serve.gateways import Serving
from tests.stack import ROOT, free_ports

ROUTER = PEERS / "vllm-router" / "bin" / "vllm-router"
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not ROUTER.exists(), reason="vllm-router is not installed: `make bench-peers` installs it"),
]


@contextmanager
def program(*argv: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs until the end of the block."""
    process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def ask(client: openai.OpenAI) -> int:
    """The number of words in a streamed answer."""
    chunks = client.chat.completions.create(
        model="routed", messages=[{"role": "user", "content": "Hello"}], stream=True
    )
    return sum("word" in (chunk.choices[0].delta.content or "") for chunk in chunks if chunk.choices)


def test_streams_pass_whole_and_go_on_when_an_engine_is_lost(gateway: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUTED_KEY", "sk-engines")
    port, metrics_port, *engine_ports = free_ports(4)
    key = create_key(gateway.database, name="shop", role="client")
    gateway.seen(lambda snapshot: snapshot.keys_needed)
    client = openai.OpenAI(base_url=gateway.base_url, api_key=key, max_retries=0)
    with ExitStack() as stack:
        engines = [
            stack.enter_context(program(sys.executable, "-m", "bench.gateway.mock_upstream", str(number)))
            for number in engine_ports
        ]
        urls = [f"http://127.0.0.1:{number}" for number in engine_ports]
        options = ("--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(metrics_port))
        stack.enter_context(program(str(ROUTER), "--worker-urls", *urls, "--policy", "round_robin", *options))
        gateway.hosted("routed", base_url=f"http://127.0.0.1:{port}/v1", model=MODEL, credential="ROUTED_KEY")
        deadline = time.monotonic() + 30
        while True:
            try:
                assert ask(client) == CHUNKS
                break
            except openai.APIStatusError:
                assert time.monotonic() < deadline, "the router did not start"
                time.sleep(0.2)
        assert [ask(client) for _ in range(4)] == [CHUNKS] * 4
        engines[0].kill()
        engines[0].wait()
        retrying = client.with_options(max_retries=5)
        assert [ask(retrying) for _ in range(4)] == [CHUNKS] * 4
    with pytest.raises(openai.APIStatusError) as ended:
        ask(client)
    assert ended.value.status_code in (502, 503)
