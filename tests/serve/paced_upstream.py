"""A paced OpenAI-compatible server on a real socket: what the gateway forwards to, in tests and in bench/gateway.

It computes nothing. The model's name selects what it does with a request, see `PLANS`; it keeps the requests.
"""

import asyncio
import json
import threading
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

USAGE = {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11}
ROUTES = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")
PLANS = (
    *("whole", "breaks", "stops", "reports", "hangs", "drips", "busy", "refuses", "crashes", "crlf", "split"),
    *("stutters", "moved", "miscounts", "floods", "fails", "counts"),
)


@dataclass
class Seen:
    """The requests, and whether a client disconnected before the end of one."""

    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    left: int = 0
    written: int = 0  # frames of streams
    somebody_left: threading.Event = field(default_factory=threading.Event)


class PacedUpstream:
    """The server, in a thread with a loop of its own. `chunks` pieces, `pace_s` apart."""

    def __init__(self, *, chunks: int = 4, pace_s: float = 0.0, port: int = 0) -> None:
        self.seen = Seen()
        self.chunks = chunks
        self.pace_s = pace_s
        self.routes: tuple[str, ...] = ROUTES
        self.heals: set[str] = set()  # plans that answer from now on
        self._port = port
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "PacedUpstream":
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    @property
    def address(self) -> str:
        """Without `/v1`."""
        return f"http://127.0.0.1:{self._port}"

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application(client_max_size=2**26)
        for path in self.routes:
            app.router.add_post(path, self._answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        self._loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", self._port)
        self._loop.run_until_complete(site.start())
        self._port = runner.addresses[0][1]
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        body = json.loads(raw)
        self.seen.raw.append(raw)
        self.seen.requests.append(body)
        self.seen.headers.append({name.lower(): value for name, value in request.headers.items()})
        plan = body["model"]
        if plan == "busy":
            return web.json_response(
                {"error": {"message": "slow down", "type": "x", "code": 429}},
                status=429,
                headers={"retry-after": "7", "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "7s"},
            )
        if plan == "refuses":
            return web.json_response({"error": {"message": "Incorrect API key: sk-...abc"}}, status=401)
        if plan == "stutters":
            return await _refuse_in_pieces(request)
        if plan == "fails" and plan not in self.heals:
            return web.json_response({"error": {"message": "overloaded"}}, status=503, headers={"retry-after": "9"})
        if plan == "moved":
            return web.Response(status=307, headers={"location": "http://elsewhere.example/v1"})
        if plan == "crashes":
            return web.Response(status=500, text="<html>oops</html>")
        try:
            if plan == "hangs":
                await asyncio.sleep(60)
            if request.path == "/v1/embeddings":
                vector = {"object": "embedding", "index": 0, "embedding": [0.5, -0.5]}
                usage = {"prompt_tokens": 3, "total_tokens": 3}
                return web.json_response({"object": "list", "model": plan, "data": [vector], "usage": usage})
            if request.path == "/v1/responses":
                return await self._response(request, body, plan)
            return await (self._stream if body.get("stream") else self._whole)(request, body, plan)
        except (asyncio.CancelledError, ConnectionResetError):
            self.seen.left += 1
            self.seen.somebody_left.set()
            raise

    async def _whole(self, request: web.Request, body: dict[str, Any], plan: str) -> web.StreamResponse:
        if plan == "breaks":
            assert request.transport is not None
            request.transport.abort()
        await asyncio.sleep(self.pace_s * self.chunks)
        message = {"role": "assistant", "content": "word " * self.chunks}
        choice = {"index": 0, "message": message, "text": "word", "finish_reason": "stop"}
        limits = {"x-ratelimit-remaining-requests": "41", "x-ratelimit-remaining-tokens": "4100"}
        content = _chunk(body, [choice]) | {"object": "chat.completion", "usage": _usage(plan)}
        return web.json_response(content, headers=limits if plan == "counts" else None)

    async def _response(self, request: web.Request, body: dict[str, Any], plan: str) -> web.StreamResponse:
        """`/v1/responses`: whole, or as named events."""
        text = {"type": "output_text", "text": "word " * self.chunks, "annotations": []}
        message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
        whole = _RESPONSE | {"model": body["model"], "status": "completed", "output": [message]} | {"usage": {
            "input_tokens": 7, "output_tokens": 4, "total_tokens": 11,
            "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0},
        }}  # fmt: skip
        if not body.get("stream"):
            return web.json_response(whole)
        begun = _RESPONSE | {"model": body["model"], "status": "in_progress", "output": [], "usage": None}
        events: list[dict[str, Any]] = [{"type": "response.created", "response": begun}]
        events += [
            {"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "content_index": 0,
             "delta": f"w{number} response.completed ", "logprobs": []}
            for number in range(self.chunks)
        ]  # fmt: skip
        last = {"breaks": None, "stops": None, "reports": {"type": "error", "message": "engine died", "code": "x"}}
        if ending := last.get(plan, {"type": "response.completed", "response": whole}):
            events.append(ending)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for number, event in enumerate(events):
            data = json.dumps(event | {"sequence_number": number}, separators=(",", ":"))
            await response.write(f"event: {event['type']}\ndata: {data}\n\n".encode())
            await asyncio.sleep(self.pace_s)
        if plan == "breaks":
            assert request.transport is not None
            request.transport.abort()
        return response

    async def _stream(self, request: web.Request, body: dict[str, Any], plan: str) -> web.StreamResponse:
        end = b"\r\n\r\n" if plan == "crlf" else b"\n\n"
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for number in range(self.chunks):
            if plan == "breaks" and number == 2:
                assert request.transport is not None
                request.transport.abort()
                return response
            if plan == "stops" and number == 2:
                return response
            if plan == "reports" and number == 2:
                error = {"error": {"message": "engine core died", "type": "InternalServerError", "code": 500}}
                await response.write(b"data: " + json.dumps(error).encode() + end + b"data: [DONE]" + end)
                return response
            word = "x" * 100_000 if plan == "floods" else f"w{number} "
            choice = {"index": 0, "delta": {"content": word}, "text": word, "finish_reason": None}
            frame = b"data: " + json.dumps(_chunk(body, [choice]), separators=(",", ":")).encode() + end
            if plan == "split":
                await response.write(frame[:30])
                await asyncio.sleep(0.005)
                await response.write(frame[30:-1])
                await asyncio.sleep(0.005)
                await response.write(frame[-1:])
            else:
                await response.write(frame)
            self.seen.written += 1
            if self.pace_s or plan == "drips":
                await asyncio.sleep(self.pace_s or 0.2)
        if (body.get("stream_options") or {}).get("include_usage"):
            frame = json.dumps(_chunk(body, []) | {"usage": _usage(plan)}, separators=(",", ":")).encode()
            if plan == "split":
                await response.write(b"data: " + frame[:-20])
                await asyncio.sleep(0.005)
                await response.write(frame[-20:] + end)
            else:
                await response.write(b"data: " + frame + end)
        await response.write(b"data: [DONE]" + end)
        return response


_RESPONSE: dict[str, Any] = {
    "id": "resp_1", "object": "response", "created_at": 1, "error": None, "incomplete_details": None,
    "instructions": None, "metadata": {}, "parallel_tool_calls": True, "temperature": 1.0, "tool_choice": "auto",
    "tools": [], "top_p": 1.0,
}  # fmt: skip


async def _refuse_in_pieces(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(status=400, headers={"content-type": "application/json"})
    await response.prepare(request)
    await response.write(b'{"error": {"message": "half')
    await asyncio.sleep(0.05)
    await response.write(b' and half"}}')
    return response


def _usage(plan: str) -> dict[str, Any]:
    return {"prompt_tokens": "many", "completion_tokens": -4, "total_tokens": None} if plan == "miscounts" else USAGE


def _chunk(body: dict[str, Any], choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": body["model"],
        "choices": choices,
    }
