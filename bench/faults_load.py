"""Clients that go on asking while processes are killed, and the judgement of what they may have lost by it.

Streams through the real SDK, without retries: some on the engine's model, some on a hosted one. It kills nothing.
"""

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import openai

End = Literal["whole", "refused", "broken", "lost", "truncated"]
_PATIENCE_S = 60.0
_AFTER_FAILURE_S = 0.2


@dataclass(frozen=True)
class Ask:
    """One request that has ended. Moments are `time.monotonic()`'s; `words` says more of a failure."""

    model: str
    began: float
    ended: float
    end: End
    words: str = ""

    @property
    def good(self) -> bool:
        """Whether the client has all of its answer."""
        return self.end == "whole"

    def overlaps(self, began: float, ended: float) -> bool:
        """Whether it ran at some moment of a span."""
        return self.began <= ended and self.ended >= began


@dataclass(frozen=True)
class Losses:
    """What a blow cost. `allowed`: requests that were on what was hit; `harmed`: all others that failed."""

    good: int
    allowed: int
    harmed: tuple[Ask, ...]


class Load:
    """The clients, in a thread of their own: `each` of them for every model. A context manager."""

    def __init__(self, base_url: str, models: Sequence[str], *, each: int = 2, max_tokens: int = 48) -> None:
        self._base_url = base_url
        self._models = models
        self._each = each
        self._max_tokens = max_tokens
        self._asks: list[Ask] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(_PATIENCE_S)

    def good_since(self, moment: float) -> set[str]:
        """The models of which an answer was asked for after a moment and has come whole."""
        return {ask.model for ask in list(self._asks) if ask.began > moment and ask.good}

    def losses(self, began: float, ended: float, hit: Sequence[str], until: float) -> Losses:
        """What was lost in a span by a blow that hit some of the models.

        Whoever asked before `until` may have been on what was hit; who asked later may be told to come again (a 503).
        """
        asks = [ask for ask in list(self._asks) if ask.overlaps(began, ended)]
        failed = [ask for ask in asks if not ask.good]
        # A truncated answer is never allowed: whoever got it does not know.
        allowed = [
            ask
            for ask in failed
            if ask.model in hit and (ask.end == "refused" or (ask.began < until and ask.end != "truncated"))
        ]
        return Losses(len(asks) - len(failed), len(allowed), tuple(ask for ask in failed if ask not in allowed))

    async def _run(self) -> None:
        async with openai.AsyncOpenAI(
            base_url=self._base_url, api_key="any", max_retries=0, timeout=_PATIENCE_S
        ) as sdk:
            await asyncio.gather(*(self._go_on(sdk, model) for model in self._models for _ in range(self._each)))

    async def _go_on(self, sdk: openai.AsyncOpenAI, model: str) -> None:
        while not self._stop.is_set():
            ask = await self._one(sdk, model)
            self._asks.append(ask)
            await asyncio.sleep(0.02 if ask.good else _AFTER_FAILURE_S)

    async def _one(self, sdk: openai.AsyncOpenAI, model: str) -> Ask:
        began = time.monotonic()
        end, words, finished = "lost", "", False
        try:
            async with asyncio.timeout(_PATIENCE_S):
                stream = await sdk.chat.completions.create(
                    model=model, messages=[{"role": "user", "content": "Where is my order?"}],
                    max_tokens=self._max_tokens, temperature=0, stream=True,
                    stream_options={"include_usage": True},
                )  # fmt: skip
                async with stream:
                    async for chunk in stream:
                        finished = chunk.usage is not None  # the last frame of all
            end = "whole" if finished else "truncated"
        except openai.APIStatusError as error:
            end, words = "refused", f"{error.status_code}: {error.message}"
        except openai.APIConnectionError as error:
            end, words = "lost", repr(error.__cause__)
        except openai.APIError as error:
            end, words = "broken", error.message
        except Exception as error:
            # httpx's own errors reach whoever reads a stream.
            end, words = "lost", repr(error)
        return Ask(model, began, time.monotonic(), end, words[:160])
