"""A fake of vLLM's server on a real socket: it takes an engine's command line, and answers with numbered words.

It serves what the supervisor and the gateway request: completions, chat streams (paced), adapters, metrics.
Fake options come behind the real ones: `--fake-start-s 2` (seconds until it listens), `--fake-loads-s 2` (the same, but
it logs meanwhile), `--fake-child` (it abandons a process), `--fake-never-ready`, `--fake-dies` (of an illegal
instruction, a moment after two requests). A request from the user "hang" stops it for good, one from "work" keeps it
busy for 6 s.
"""

import argparse
import asyncio
import json
import os
import signal
import ssl
import subprocess
import time

from aiohttp import web

PAUSE_S = 0.05


@web.middleware
async def check_key(request: web.Request, handler) -> web.StreamResponse:
    """As in vLLM, a key protects the routes under /v1."""
    key = os.environ.get("VLLM_API_KEY")
    if key and request.path.startswith("/v1/") and request.headers.get("authorization") != f"Bearer {key}":
        return web.json_response({"error": "Unauthorized"}, status=401)
    return await handler(request)


class FakeEngine:
    """One engine's state: running requests, finished ones, and loaded adapters."""

    def __init__(self, name: str, *, dies: bool = False) -> None:
        self.names = {name}
        self.dies = dies
        self.running = self.finished = self.tokens = 0

    async def complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if body["model"] not in self.names:
            return web.json_response({"error": {"message": "no such model", "code": 404}}, status=404)
        self.running += 1
        if body.get("user") == "hang":
            time.sleep(300)  # noqa: ASYNC251 -- as an engine core that hangs: everything stands still
        if body.get("user") == "work":
            until = time.monotonic() + 6
            while time.monotonic() < until:
                pass
        try:
            if body.get("stream"):
                return await self._stream(request, body)
            choice = {
                "index": 0,
                "text": "a",
                "message": {"role": "assistant", "content": "a"},
                "finish_reason": "stop",
            }
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            return web.json_response(
                {"id": f"x-{os.getpid()}", "model": body["model"], "choices": [choice], "usage": usage}
            )
        finally:
            self.running -= 1
            self.finished += 1
            if self.dies and self.finished == 2:
                asyncio.get_running_loop().call_later(0.3, os.kill, os.getpid(), signal.SIGILL)

    async def _stream(self, request: web.Request, body: dict) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await answer.prepare(request)
        count = body.get("max_tokens", 10)
        for number in range(count):
            delta = {"content": f"{number} "}
            chunk = {
                "id": f"x-{os.getpid()}", "object": "chat.completion.chunk", "created": 1, "model": body["model"],
                "choices": [{"index": 0, "delta": delta, "finish_reason": None if number + 1 < count else "stop"}],
            }  # fmt: skip
            await answer.write(f"data: {json.dumps(chunk)}\n\n".encode())
            self.tokens += 1
            await asyncio.sleep(PAUSE_S)
        await answer.write(b"data: [DONE]\n\n")
        return answer

    async def load(self, request: web.Request) -> web.Response:
        body = await request.json()
        print(f"loads {body['lora_name']} from {body['lora_path']}", flush=True)
        self.names.add(body["lora_name"])
        return web.Response(text="loaded")

    async def unload(self, request: web.Request) -> web.Response:
        self.names.discard((await request.json())["lora_name"])
        return web.Response(text="unloaded")

    async def metrics(self, _: web.Request) -> web.Response:
        lines = (
            f'vllm:num_requests_running{{engine="0"}} {self.running}.0',
            'vllm:num_requests_waiting{engine="0"} 0.0',
            f'vllm:request_success_total{{engine="0",finished_reason="stop"}} {self.finished}.0',
            f'vllm:generation_tokens_total{{engine="0"}} {self.tokens}.0',
        )
        return web.Response(text="\n".join(lines) + "\n")


def main() -> None:
    """Serves until it is stopped."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--served-model-name", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--ssl-certfile")
    parser.add_argument("--ssl-keyfile")
    parser.add_argument("--fake-start-s", type=float, default=0.0)
    parser.add_argument("--fake-loads-s", type=float, default=0.0)
    parser.add_argument("--fake-child", action="store_true")
    parser.add_argument("--fake-dies", action="store_true")
    parser.add_argument("--fake-never-ready", action="store_true")
    options, _ = parser.parse_known_args()
    print(f"fake engine {options.served_model_name}, process {os.getpid()}", flush=True)
    if options.fake_child:
        subprocess.Popen(["sleep", "300"], start_new_session=True)
    engine = FakeEngine(options.served_model_name, dies=options.fake_dies)
    app = web.Application(middlewares=[check_key])
    app.add_routes(
        [
            web.post("/v1/completions", engine.complete),
            web.post("/v1/chat/completions", engine.complete),
            web.post("/v1/load_lora_adapter", engine.load),
            web.post("/v1/unload_lora_adapter", engine.unload),
            web.get("/metrics", engine.metrics),
        ]
    )

    async def serve() -> None:
        await asyncio.sleep(3600 if options.fake_never_ready else options.fake_start_s)
        until = time.monotonic() + options.fake_loads_s
        while time.monotonic() < until:
            print("loading", flush=True)
            await asyncio.sleep(0.05)
        runner = web.AppRunner(app)
        await runner.setup()
        tls = None
        if options.ssl_certfile:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(options.ssl_certfile, options.ssl_keyfile)
        await web.TCPSite(runner, options.host, options.port, ssl_context=tls).start()
        await asyncio.Event().wait()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
