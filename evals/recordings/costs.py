"""The maximum cost of a recording, and its limit. Prices are US dollars per million tokens."""

import asyncio
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from models.chat.messages import Message
from models.errors import Invalid
from models.quantities import count_noun
from models.spec import ModelSpec
from models.usage import cost, has_price

_LETTERS_PER_TOKEN = 4.0  # characters of English in a token: help.openai.com/articles/4936856
_WIDE_LETTERS_PER_TOKEN = 1.3  # characters of Chinese and Japanese in a token of o200k_base
_PER_MESSAGE, _PER_REPLY = 4, 3  # tokens of the chat format for each message, by OpenAI's cookbook


@dataclass(frozen=True)
class Prices:
    """US dollars per million tokens."""

    input: float
    output: float


@dataclass(frozen=True)
class Estimate:
    """The cost of some requests. `completion_tokens` and `usd` are upper bounds; `usd` is None without prices."""

    requests: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None

    @property
    def text(self) -> str:
        """The estimate in one sentence."""
        tokens = f"about {self.prompt_tokens:,} input tokens, at most {self.completion_tokens:,} output tokens"
        if self.usd is None:
            return f"{count_noun(self.requests, 'request')}, {tokens}. The price of this model is unknown."
        if self.usd == 0.0:
            return f"{count_noun(self.requests, 'request')}, {tokens}, at no cost."
        return f"{count_noun(self.requests, 'request')}, {tokens}: at most {usd_text(self.usd)}."


def with_prices(spec: ModelSpec, prices: Prices | None) -> ModelSpec:
    """The model with these prices; unchanged without prices, or if it has its own or is not hosted."""
    if prices is None or has_price(spec):
        return spec
    assert spec.upstream is not None, "a model without an upstream costs nothing"
    upstream = spec.upstream.model_copy(
        update={"usd_per_million_input": prices.input, "usd_per_million_output": prices.output}
    )
    return spec.model_copy(update={"upstream": upstream})


def estimate(spec: ModelSpec, requests: Iterable[Sequence[Message]], max_tokens: int) -> Estimate:
    """The maximum cost of these requests. Prompt tokens are approximate, because the model's tokenizer is not used."""
    lengths = [prompt_tokens(messages) for messages in requests]
    out = max_tokens * len(lengths)
    return Estimate(len(lengths), sum(lengths), out, cost(spec, sum(lengths), out) if has_price(spec) else None)


def prompt_tokens(messages: Sequence[Message]) -> int:
    """A rough estimate of a request's tokens, from its letters."""
    return _PER_REPLY + sum(_PER_MESSAGE + text_tokens(message.content) for message in messages)


def text_tokens(text: str) -> int:
    """A rough estimate of a text's tokens, from its letters."""
    wide = 0 if text.isascii() else sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return round((len(text) - wide) / _LETTERS_PER_TOKEN + wide / _WIDE_LETTERS_PER_TOKEN)


def most_usd(spec: ModelSpec, messages: Sequence[Message], max_tokens: int) -> float:
    """An upper bound on the cost of one request: it has at most as many tokens as bytes."""
    size = sum(len(message.content.encode()) + 2 * _PER_MESSAGE for message in messages)
    return cost(spec, size + _PER_REPLY, max_tokens)


def usd_text(usd: float) -> str:
    """An amount in dollars, with cents, or more digits if it is small."""
    return f"${usd:,.2f}" if usd >= 1 else f"${usd:.4f}"


class Budget:
    """Keeps concurrent requests below a limit in US dollars. `spent` may start above zero."""

    def __init__(self, limit: float | None, spent: float = 0.0) -> None:
        if limit is not None and not limit >= 0:
            raise Invalid("--max-cost must be 0 or more.", param="max_cost")
        self.limit, self.spent = limit, spent
        self._reserved: list[float] = []
        self._changed = asyncio.Condition()

    async def reserve(self, most: float) -> bool:
        """Waits until a request of at most this cost fits; False if it never will."""
        async with self._changed:
            while not self._fits(most):
                if not self._reserved:
                    return False
                await self._changed.wait()
            self._reserved.append(most)
            return True

    async def settle(self, most: float, actual: float) -> None:
        """Replaces a reservation by the request's actual cost."""
        async with self._changed:
            self._reserved.remove(most)
            self.spent += actual
            self._changed.notify_all()

    def _fits(self, most: float) -> bool:
        return self.limit is None or self.spent + sum(self._reserved) + most <= self.limit
