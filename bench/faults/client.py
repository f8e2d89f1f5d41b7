"""The clients of the path part: the OpenAI SDK and raw bytes, and what each saw of an answer."""

import asyncio
import json
import time
from dataclasses import dataclass, replace
from typing import Any, Literal

import httptools
import openai

from bench.faults.proxy import Outcome

Client = Literal["sdk", "raw"]
_TIMEOUT_S = 30.0
_WHOLE = openai.types.chat.ChatCompletion


@dataclass(frozen=True)
class Observation:
    """What one client saw: the content it received, and the class or message of an error."""

    outcome: Outcome | Literal["truncated", "lost"]
    status: int
    text: str
    error: str
    seconds: float


async def healthy_answers(base_url: str) -> dict[bool, str]:
    """A healthy server's answers, as a stream (True) and whole (False)."""
    async with openai.AsyncOpenAI(base_url=base_url, api_key="any", max_retries=0) as sdk:
        client = FaultClient(sdk, base_url, {})
        return {stream: (await client.ask("raw", "any", "hello", stream)).text for stream in (True, False)}


class FaultClient:
    """Sends requests to a gateway. `texts`: the healthy upstream's answers, as a stream (True) and whole (False)."""

    def __init__(self, sdk: openai.AsyncOpenAI, base_url: str, texts: dict[bool, str]) -> None:
        self.texts = texts
        self._sdk = sdk
        host, port = base_url.removeprefix("http://").removesuffix("/v1").split(":")
        self._address = (host, int(port))

    async def ask(self, client: Client, model: str, text: str, stream: bool) -> Observation:
        """Sends one request; a failure is part of the observation and is not raised."""
        began = time.monotonic()
        send = self._by_sdk if client == "sdk" else self._by_raw_bytes
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                observation = await send(model, text, stream)
        except TimeoutError:
            observation = Observation("lost", 0, "", "no end within the timeout", 0.0)
        return replace(observation, seconds=time.monotonic() - began)

    async def _by_sdk(self, model: str, text: str, stream: bool) -> Observation:
        received, status = "", 0
        request: Any = {"model": model, "messages": [{"role": "user", "content": text}]}
        try:
            if not stream:
                answer = await self._sdk.chat.completions.create(**request)
                if not isinstance(answer, _WHOLE) or not answer.choices:
                    return Observation("truncated", 200, "", f"the SDK returned {type(answer).__name__}", 0)
                return Observation("whole", 200, answer.choices[0].message.content or "", "", 0)
            async with await self._sdk.chat.completions.create(**request, stream=True) as chunks:
                status = 200
                async for chunk in chunks:
                    received += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        except openai.APIStatusError as error:
            return Observation("refused", error.status_code, received, f"{type(error).__name__}: {error.message}", 0)
        except openai.APIConnectionError as error:
            return Observation("lost", status, received, f"{type(error).__name__}: {error.__cause__!r}", 0)
        except openai.APIError as error:  # an error frame
            return Observation("broken", status, received, f"{type(error).__name__}: {error.message}", 0)
        except ValueError as error:  # not JSON
            return Observation("unreadable", status, received, f"{type(error).__name__}: {error}", 0)
        # The SDK takes any end of a stream for its regular end: only the text shows whether it was whole.
        return Observation("whole" if received == self.texts[True] else "truncated", 200, received, "", 0)

    async def _by_raw_bytes(self, model: str, text: str, stream: bool) -> Observation:
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": text}], "stream": stream}).encode()
        try:
            reader, writer = await asyncio.open_connection(*self._address)
            writer.write(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n"
                b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
            )
            data = await reader.read(-1)
            writer.close()
        except OSError as error:
            return Observation("lost", 0, "", repr(error), 0)
        return read_bytes(data, stream)


class _Message:
    """The body that httptools parses, and whether it is complete."""

    def __init__(self) -> None:
        self.body, self.complete = b"", False

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


def read_bytes(data: bytes, stream: bool) -> Observation:
    """Judges an answer by its bytes: first the end of the HTTP message, then of the stream or JSON."""
    message = _Message()
    parser = httptools.HttpResponseParser(message)
    try:
        parser.feed_data(data)
    except httptools.HttpParserError as error:
        return Observation("lost", 0, "", f"not HTTP: {error}", 0)
    if not message.complete:
        return Observation("truncated", 0, "", f"the HTTP message is cut after {len(data)} bytes", 0)
    status = parser.get_status_code()
    if status >= 300 or not stream:
        try:
            content = json.loads(message.body)
        except ValueError:
            return Observation("unreadable", status, "", message.body[:80].decode("utf-8", "replace"), 0)
        if status < 300 and isinstance(content, dict) and content.get("choices"):
            return Observation("whole", status, content["choices"][0]["message"]["content"], "", 0)
        shaped = set(content.get("error", ())) == {"message", "type", "param", "code"}
        return Observation("refused" if shaped else "unreadable", status, "", str(content)[:120], 0)
    return _read_frames(message.body, status)


def _read_frames(body: bytes, status: int) -> Observation:
    text, done, odd, error = "", False, False, ""
    for frame in body.split(b"\n\n"):
        if not frame.strip():
            continue
        if done or error:
            return Observation("truncated", status, text, f"data after the end: {frame[:60]!r}", 0)
        if frame == b"data: [DONE]":
            done = True
            continue
        try:
            content = json.loads(frame.removeprefix(b"data: "))
        except ValueError:
            odd = True
            continue
        if "error" in content:
            error = str(content["error"])
        elif content.get("choices") and not odd:
            text += content["choices"][0]["delta"].get("content") or ""
    if error:
        return Observation("broken", status, text, error, 0)
    if odd:
        return Observation("unreadable", status, text, "a frame is not JSON", 0)
    return Observation("whole" if done else "truncated", status, text, "", 0)
