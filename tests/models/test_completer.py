"""The completer over the OpenAI SDK: whatever a server answers, the caller gets a completion or a ParleyError."""

import asyncio
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from models.chat.completer import GatewayCompleter, StartPatience
from models.chat.messages import Message
from models.errors import ParleyError, Unavailable
from tests.evals.upstream import AnsweringServer
from tests.stack import free_ports

HELLO = [Message(role="user", content="hello")]
BODIES = {
    "no-choices": b'{"choices": []}',
    "nothing": b"{}",
    "null": b"null",
    "cut": b'{"choices": [',
    "page": b"<html>not an API</html>",
}


class _Handler(BaseHTTPRequestHandler):
    """Answers every request with the body that the first part of the path names."""

    def do_POST(self) -> None:
        name = self.path.split("/")[1]
        self.send_response(200)
        self.send_header("content-type", "text/html" if name == "page" else "application/json")
        self.send_header("content-length", str(len(BODIES[name])))
        self.end_headers()
        self.wfile.write(BODIES[name])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class calls it so
        return


@pytest.fixture(scope="module")
def odd_server() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("name", BODIES)
async def test_an_invalid_answer_is_a_parley_error(odd_server: str, name: str, many: bool) -> None:
    completer = GatewayCompleter(f"{odd_server}/{name}/v1", "model", retries=0, many=many)
    try:
        with pytest.raises(ParleyError):
            await completer(HELLO)
    finally:
        await completer.close()


async def failing(address: str, question: str, many: bool, timeout_s: float = 20.0) -> tuple[object, ...]:
    """What a caller sees of a failure."""
    completer = GatewayCompleter(address, "model", "a-key", timeout_s, retries=0, many=many)
    try:
        with pytest.raises(ParleyError) as caught:
            await completer([Message(role="user", content=question)])
        error = caught.value
        return type(error), error.message, error.code, error.param, error.retry_after
    finally:
        await completer.close()


@pytest.mark.parametrize("word", ["refuse", "broken", "busy", "starting", "drop", "odd"])
async def test_the_transport_for_many_requests_raises_the_same_errors(word: str) -> None:
    with AnsweringServer() as server:
        assert await failing(server.address, f"{word} one", False) == await failing(server.address, f"{word} 2", True)


@pytest.mark.long
async def test_an_unreachable_and_a_slow_server_are_distinguished() -> None:
    with AnsweringServer(latency_s=2.0) as server:
        slow = [await failing(server.address, "hello", many, 0.2) for many in (False, True)]
        assert slow[0] == slow[1]
        assert slow[0][2] == "timeout"
    gone = [await failing(server.address, "hello", many) for many in (False, True)]
    assert gone[0] == gone[1]
    assert gone[0][2] == "not_connected"


@pytest.mark.long
@pytest.mark.parametrize("many", [False, True])
async def test_an_answer_comes_with_its_counts_and_log_probabilities(many: bool) -> None:
    with AnsweringServer() as server:
        completer = GatewayCompleter(server.address, "model", retries=0, many=many)
        try:
            completion = await completer(HELLO, logprobs=True, extra_body={"ignore_eos": True})
        finally:
            await completer.close()
    assert completion.text == "model says: hello"
    assert (completion.prompt_tokens, completion.completion_tokens, completion.finish_reason) == (10, 3, "stop")
    assert completion.tokens[0].likeliest == (("model", -0.1), ("a", -2.5))
    assert server.bodies[-1]["ignore_eos"] is True
    assert "extra_body" not in server.bodies[-1]


@pytest.mark.long
async def test_requests_wait_for_a_server_that_is_started_again_but_not_for_ever() -> None:
    (port,) = free_ports(1)
    lines, waiting = set(), asyncio.Event()

    def report(line: str) -> None:
        lines.add(line)
        waiting.set()

    patience = StartPatience(5, report, reconnect_s=20.0)
    completer = GatewayCompleter(f"http://127.0.0.1:{port}/v1", "model", retries=0, many=True, patience=patience)
    try:
        requests = [asyncio.ensure_future(completer([Message(role="user", content=f"say {n}")])) for n in range(40)]
        await waiting.wait()
        with AnsweringServer(port=port):
            answers = await asyncio.gather(*requests)
        assert all(answer.text for answer in answers)
        assert lines == {"waiting for model: its server cannot be reached"}
    finally:
        await completer.close()
    (nobody,) = free_ports(1)
    waiting.clear()
    late = GatewayCompleter(f"http://127.0.0.1:{nobody}/v1", "model", retries=0, many=True, patience=patience)
    late._unreachable_since = time.monotonic() - 20.0
    with pytest.raises(Unavailable, match="cannot be reached"):
        await late(HELLO)
    assert not waiting.is_set()
    await late.close()
