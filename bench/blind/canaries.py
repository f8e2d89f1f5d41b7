"""Two models that differ only in name, speed and chunking: both draw their answers from the same texts.

A fifth of the answers names its model. Every answer's seconds are kept, to show what an observer of the models sees.
"""

import asyncio
import base64
import json
import random
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from models.spec import Upstream
from tests.stack import free_ports

_SENTENCES = (
    "Your order left our warehouse this morning.",
    "It usually takes **two working days**.",
    "- Track it under *Orders*\n- Write to us if it is late",
    "I am sorry that you had to wait!",
    "Please send us the number on the bill, and we will look into it at once.",
    "## What you can do\n\n1. Open the account page.\n2. Choose *Returns*.",
    "We refund the money to the card that you used.",
)
_OWN_NAME = "I am {name}, the model {upstream}."
_NAMED_SHARE = 0.2
_MOST_SENTENCES = 9


@dataclass(frozen=True)
class Canary:
    """A model's id and its name upstream, the seconds of an answer, and the pieces in which it is sent."""

    name: str
    upstream: str
    seconds: float
    pieces: int


# The names have different lengths and rare digits, so that neither they nor their lengths occur by chance.
CANARIES = (
    Canary("canary-kea-7f3a91d0", "upstream/kea-7f3a91d0", 0.05, 1),
    Canary("canary-cassowary-5b2e08c4", "upstream/cassowary-5b2e08c4", 0.4, 12),
)


def encodings(names: tuple[str, ...]) -> tuple[bytes, ...]:
    """The names in lower case, as hexadecimal digits and in base64 at each of its three alignments."""
    forms: set[bytes] = set()
    for name in names:
        plain = name.encode()
        forms |= {plain.lower(), plain.hex().encode()}
        for shift in range(3):
            # The characters at both ends depend on the neighbouring bytes.
            whole = base64.b64encode(b"\0" * shift + plain).rstrip(b"=")
            forms |= {whole[4:-2], whole[4:-2].replace(b"+", b"-").replace(b"/", b"_")}
    return tuple(sorted(forms))


def count_names(raw: bytes, forms: tuple[bytes, ...]) -> int:
    """How many of these forms occur in the bytes, whatever the case."""
    lower = raw.lower()
    return sum(form in raw or form in lower for form in forms)


@dataclass
class CanaryServer:
    """The models' OpenAI-compatible server. `seconds`: of each answer, by the model's id and the prompt."""

    port: int
    seed: int
    seconds: dict[tuple[str, str], float] = field(default_factory=dict)

    def upstreams(self) -> dict[str, Upstream]:
        """How to reach each model, by its id."""
        address = f"http://127.0.0.1:{self.port}/v1"
        return {canary.name: Upstream(base_url=address, model=canary.upstream) for canary in CANARIES}

    async def answer(self, request: Request) -> Response:
        """POST /v1/chat/completions, without streaming: the page asks for whole answers."""
        body = await request.json()
        canary = next(each for each in CANARIES if each.upstream == body["model"])
        prompt = body["messages"][-1]["content"]
        return StreamingResponse(self._send(canary, prompt), media_type="application/json")

    def text(self, canary: Canary, prompt: str) -> str:
        """The answer: drawn from the same texts for every model."""
        chance = random.Random(f"{self.seed}/{canary.name}/{prompt}")
        sentences = [chance.choice(_SENTENCES) for _ in range(chance.randint(1, _MOST_SENTENCES))]
        if chance.random() < _NAMED_SHARE:
            own = _OWN_NAME.format(name=canary.name, upstream=canary.upstream)
            sentences.insert(chance.randint(0, len(sentences)), own)
        return "\n\n".join(sentences)

    async def _send(self, canary: Canary, prompt: str) -> AsyncIterator[bytes]:
        began = time.perf_counter()
        whole = json.dumps(_completion(canary.upstream, self.text(canary, prompt))).encode()
        size = -(-len(whole) // canary.pieces)
        for start in range(0, len(whole), size):
            await asyncio.sleep(canary.seconds / canary.pieces)
            yield whole[start : start + size]
        self.seconds[canary.name, prompt] = time.perf_counter() - began


@contextmanager
def canary_server(seed: int) -> Iterator[CanaryServer]:
    """The server, in a thread of this process, on a free port."""
    (port,) = free_ports(1)
    canaries = CanaryServer(port, seed)
    app = Starlette(routes=[Route("/v1/chat/completions", canaries.answer, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", lifespan="off"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        yield canaries
    finally:
        server.should_exit = True
        thread.join(10)


def _completion(model: str, text: str) -> Mapping[str, Any]:
    return {
        "id": "chatcmpl-0",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 8, "completion_tokens": 64, "total_tokens": 72},
    }
