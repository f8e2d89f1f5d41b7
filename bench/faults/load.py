"""Clients that send streams while processes are killed, and the count of the requests that failed.

They use the OpenAI SDK without retries, on every given model. This file kills nothing.
"""

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import openai

End = Literal["whole", "refused", "broken", "lost", "truncated"]
_TIMEOUT_S = 60.0
_AFTER_FAILURE_S = 0.2


@dataclass(frozen=True)
class Request:
    """One finished request. Times are `time.monotonic()`; `detail` describes a failure."""

    model: str
    began: float
    ended: float
    end: End
    detail: str = ""

    @property
    def good(self) -> bool:
        """Whether the client got its whole answer."""
        return self.end == "whole"

    def overlaps(self, began: float, ended: float) -> bool:
        """Whether it ran at any time between `began` and `ended`."""
        return self.began <= ended and self.ended >= began


@dataclass(frozen=True)
class Losses:
    """Failed requests around a signal: `allowed` ran through the target, `unexpected` did not. `good` succeeded."""

    good: int
    allowed: int
    unexpected: tuple[Request, ...]


class Load:
    """The clients, in a thread of their own: `each` of them per model. They run inside the `with` block."""

    def __init__(self, base_url: str, models: Sequence[str], *, each: int = 2, max_tokens: int = 48) -> None:
        self._base_url = base_url
        self._models = models
        self._each = each
        self._max_tokens = max_tokens
        self._requests: list[Request] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(_TIMEOUT_S)

    def good_since(self, moment: float) -> set[str]:
        """The models that got a whole answer to a request sent after `moment`."""
        return {request.model for request in list(self._requests) if request.began > moment and request.good}

    def losses(self, began: float, ended: float, hit: Sequence[str], until: float) -> Losses:
        """The requests that failed between `began` and `ended`, after a signal that affects the models `hit`.

        A request sent before `until` may have reached the target; later ones may only be refused (503).
        """
        requests = [request for request in list(self._requests) if request.overlaps(began, ended)]
        failed = [request for request in requests if not request.good]
        # A truncated answer is never allowed: its client takes it for a whole one.
        unexpected = tuple(
            request
            for request in failed
            if request.model not in hit
            or (request.end != "refused" and (request.began >= until or request.end == "truncated"))
        )
        return Losses(len(requests) - len(failed), len(failed) - len(unexpected), unexpected)

    async def _run(self) -> None:
        async with openai.AsyncOpenAI(base_url=self._base_url, api_key="any", max_retries=0, timeout=_TIMEOUT_S) as sdk:
            await asyncio.gather(
                *(self._send_repeatedly(sdk, model) for model in self._models for _ in range(self._each))
            )

    async def _send_repeatedly(self, sdk: openai.AsyncOpenAI, model: str) -> None:
        while not self._stop.is_set():
            request = await self._send(sdk, model)
            self._requests.append(request)
            await asyncio.sleep(0.02 if request.good else _AFTER_FAILURE_S)

    async def _send(self, sdk: openai.AsyncOpenAI, model: str) -> Request:
        began = time.monotonic()
        end, detail, finished = "lost", "", False
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                stream = await sdk.chat.completions.create(
                    model=model, messages=[{"role": "user", "content": "Where is my order?"}],
                    max_tokens=self._max_tokens, temperature=0, stream=True,
                    stream_options={"include_usage": True},
                )  # fmt: skip
                async with stream:
                    async for chunk in stream:
                        finished = chunk.usage is not None  # the last frame
            end = "whole" if finished else "truncated"
        except openai.APIStatusError as error:
            end, detail = "refused", f"{error.status_code}: {error.message}"
        except openai.APIConnectionError as error:
            end, detail = "lost", repr(error.__cause__)
        except openai.APIError as error:
            end, detail = "broken", error.message
        except Exception as error:
            # The SDK passes httpx's errors on while a stream is read.
            end, detail = "lost", repr(error)
        return Request(model, began, time.monotonic(), end, detail[:160])
