"""An OpenAI-compatible server on a real socket that answers after a fixed time: for the runner's tests and its bench.

It computes nothing and is cheap: raw asyncio, one answer for each request, as many at once as come. Faults are asked
for by the question's first word: `refuse` answers 400, `busy` 429, `starting` 503 (both once for each question, then
the answer), `broken` 500, `drop` closes the connection, `odd` answers with something that is no completion. As a judge
(where a JSON schema is asked for) it gives everything a 4, and calls every two answers a tie.

    python -m tests.evals.upstream --latency-s 0.2      prints its port, and serves until it is killed
"""

import argparse
import asyncio
import json
import sys
import threading
from typing import Any

from models.chat.judge_prompt import pairwise_answer, pointwise_answer
from models.errors import Invalid

_ONCE = {"busy": (429, "the queue is full"), "starting": (503, "the model is starting")}


class AnsweringServer:
    """The server, in a thread with a loop of its own: `with AnsweringServer() as server: server.address`."""

    def __init__(self, *, latency_s: float = 0.0, port: int = 0, embeddings: bool = True) -> None:
        self.latency_s = latency_s
        self.answers_at_most: int | None = None  # requests after this many get no answer
        self.port = port
        self.embeddings = embeddings
        self.asked: list[tuple[str, str]] = []
        self.bodies: list[dict[str, Any]] = []
        self.running = self.most_at_once = 0
        self._failed: set[tuple[str, str]] = set()
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.serve, daemon=True)

    def __enter__(self) -> "AnsweringServer":
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    @property
    def address(self) -> str:
        """As an SDK's base_url."""
        return f"http://127.0.0.1:{self.port}/v1"

    def serve(self, print_port: bool = False) -> None:
        """Serves until the loop is stopped; `print_port` prints the port first."""
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            self._loop.create_server(lambda: _Connection(self), "127.0.0.1", self.port, backlog=1024)
        )
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        if print_port:
            print(self.port, flush=True)
        self._loop.run_forever()
        server.close()

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]] | None:
        """The status and the body; None drops the connection."""
        if path.endswith("/embeddings"):
            if not self.embeddings:
                return 404, {"error": {"message": "no such route", "type": "invalid_request_error", "code": None}}
            texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
            return 200, {
                "object": "list",
                "model": body["model"],
                "data": [
                    {"object": "embedding", "index": i, "embedding": [float(len(text)), float(text.count("a")), 1.0]}
                    for i, text in enumerate(texts)
                ],
                "usage": {"prompt_tokens": 1, "total_tokens": 1},
            }
        content = body["messages"][-1]["content"]
        question = content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)
        self.asked.append((body["model"], question))
        word = question.split(" ", 1)[0]
        key = (body["model"], question)
        if word == "drop":
            return None
        if word in _ONCE and key not in self._failed:
            self._failed.add(key)
            status, content = _ONCE[word]
            return status, {"error": {"message": content, "type": "server_error", "code": None}}
        if word in ("refuse", "broken"):
            content = {"error": {"message": f"cannot: {word}", "type": "invalid_request_error", "code": None}}
            return (400 if word == "refuse" else 500), content
        if word == "odd":
            return 200, {"object": "chat.completion", "choices": []}
        self.bodies.append(body)
        text = _judged(body["response_format"]) if body.get("response_format") else f"{body['model']} says: {question}"
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        if body.get("logprobs"):
            likeliest = [{"token": "model", "logprob": -0.1}, {"token": "a", "logprob": -2.5}]
            choice["logprobs"] = {"content": [{"token": "model", "logprob": -0.1, "top_logprobs": likeliest}]}
        return 200, {
            "id": "chatcmpl-fixed",
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": body["model"],
            "choices": [choice],
            "usage": {"prompt_tokens": 10, "completion_tokens": len(text.split()), "total_tokens": 10},
        }


def _judged(response_format: dict[str, Any]) -> str:
    """A verdict that fits the schema of `models.chat.judge_prompt`."""
    fields = response_format["json_schema"]["schema"]["properties"]
    if "reasoning" in fields:  # a grader of the evals API
        label = fields.get("label", {}).get("enum", [None])[0]
        return json.dumps({"reasoning": "so", "result": 0.75} if label is None else {"reasoning": "so", "label": label})
    if "verdict" in fields:
        scores = dict.fromkeys(fields["scores"]["properties"]["A"]["properties"], 4)
        return pairwise_answer("alike", scores, scores, "tie")
    return pointwise_answer("good", dict.fromkeys(fields["scores"]["properties"], 4), 4)


class _Connection(asyncio.Protocol):
    """HTTP/1.1 with a content-length, one request after the other on a connection, as the SDKs send them."""

    def __init__(self, server: AnsweringServer) -> None:
        self._server = server
        self._data = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, rest = self._data.partition(b"\r\n\r\n")
        if not end:
            return
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        length = int(headers.get("content-length", "0"))
        if len(rest) < length:
            return
        self._data = rest[length:]
        server = self._server
        server.running += 1
        server.most_at_once = max(server.most_at_once, server.running)
        reply = server.answer(lines[0].split(" ")[1], json.loads(rest[:length] or b"{}"))
        if server.answers_at_most is None or len(server.asked) <= server.answers_at_most:
            asyncio.get_running_loop().call_later(server.latency_s, self._reply, reply)

    def _reply(self, reply: tuple[int, dict[str, Any]] | None) -> None:
        self._server.running -= 1
        if reply is None:
            self._transport.abort()
            return
        status, body = reply
        content = json.dumps(body).encode()
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nretry-after: 0\r\n"
        self._transport.write(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)


def main(arguments: list[str] | None = None) -> int:
    """Serves in the foreground."""
    parser = argparse.ArgumentParser(prog="python -m tests.evals.upstream", description=__doc__.splitlines()[0])
    parser.add_argument("--latency-s", type=float, default=0.2)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args(arguments)
    if options.latency_s < 0:
        raise Invalid("A latency is 0 or more.")
    AnsweringServer(latency_s=options.latency_s, port=options.port).serve(print_port=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
