"""A FAKE OpenAI-compatible server on a real socket, for work on the layout: two models that stream fixed words.

It shows a page without an engine; the tests that count use the real stack.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

_ANSWERS = {
    "support-concise": (
        "Your order is on its way. It left our warehouse this morning and usually takes **two working days**.\n\n"
        "- Track it under *Orders*\n- Write to us if it has not come by Friday"
    ),
    "support-friendly": (
        "Oh, I’m sorry you had to wait, thank you so much for your patience! I have just looked it up for you: your "
        "parcel left our warehouse this morning and should be with you within two working days.\n\nIf anything at all "
        "is unclear, just say so. I’m happy to help!"
    ),
}
_ELSE = "The order was sent. Delivery takes two working days. You can follow it on the orders page."


async def _words(model: str, text: str) -> AsyncIterator[bytes]:
    pieces = [piece + " " for piece in text.split(" ")]
    await asyncio.sleep(0.25)
    for piece in pieces:
        chunk = {
            "id": "chatcmpl-fake",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
            "choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}],
        }
        yield b"data: " + json.dumps(chunk).encode() + b"\n\n"
        await asyncio.sleep(0.03)
    last = {
        "id": "chatcmpl-fake",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": model,
        "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 20, "completion_tokens": len(pieces), "total_tokens": 20 + len(pieces)},
    }
    yield b"data: " + json.dumps(last).encode() + b"\n\ndata: [DONE]\n\n"


async def chat(request: Request) -> Response:
    """POST /v1/chat/completions"""
    body = await request.json()
    model = body["model"]
    question = body["messages"][-1]["content"]
    if "fail" in question:
        error = {"message": f"{model} is out of order", "type": "server_error", "param": None, "code": None}
        return JSONResponse({"error": error}, status_code=500)
    text = _ANSWERS.get(model, _ELSE) * (40 if "long" in question else 1)
    if body.get("stream"):
        return StreamingResponse(_words(model, text), media_type="text/event-stream")
    await asyncio.sleep(0.5)
    answer = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 20, "completion_tokens": 40, "total_tokens": 60}
    return JSONResponse(
        {
            "id": "chatcmpl-fake",
            "object": "chat.completion",
            "created": 0,
            "model": model,
            "choices": [answer],
            "usage": usage,
        }
    )


app = Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])])

if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
