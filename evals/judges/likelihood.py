"""A judge that writes no verdict: the answer that it would more likely have given itself wins.

An answer's score is the mean log-probability of its tokens after the conversation, in the judge's chat template. The
scores do not depend on the order of the answers, and any local model can give them. They ignore rubrics and references,
and favour fluent and repetitive text.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Protocol, runtime_checkable

from models.chat.messages import Completer, Message, as_dicts
from models.errors import Invalid, Unavailable

_NO_LOGPROBS = (
    "The server returns no log-probabilities of a prompt, which the rubric likelihood needs: use a local model."
)


@runtime_checkable
class Server(Protocol):
    """A server of one model, with OpenAI's and vLLM's routes."""

    model: str

    async def post(self, path: str, body: Mapping[str, Any]) -> object:
        """Sends a body to a path below /v1; returns the response's JSON. Raises ParleyError."""
        ...


@dataclass(frozen=True)
class Likelihoods:
    """The scores of two answers, in the order in which they were given; -inf for an answer without tokens."""

    first: float
    second: float

    @property
    def better(self) -> int | None:
        """The place of the better answer, 0 or 1; None if both are the same."""
        return None if self.first == self.second else int(self.second > self.first)

    def to_text(self) -> str:
        """As JSON; null for an answer without tokens."""
        scores = [None if score == -inf else score for score in (self.first, self.second)]
        return json.dumps({"log_probabilities": scores})


class LikelihoodScorer:
    """Scores answers with a served model, each once.

    Raises:
        Invalid: the model cannot be reached through a server, as recorded answers cannot.
    """

    def __init__(self, complete: Completer) -> None:
        if not isinstance(complete, Server):
            raise Invalid("The rubric likelihood needs a served model as its judge.", param="judge")
        self._server = complete
        self._scores: dict[tuple[tuple[Message, ...], str], float] = {}
        self._locks: dict[tuple[tuple[Message, ...], str], asyncio.Lock] = {}

    async def compare(self, conversations: Sequence[Sequence[Message]], answers: Sequence[str]) -> Likelihoods:
        """The scores of two answers, each after its conversation.

        Raises:
            ParleyError: the judge cannot be reached or refuses.
        """
        first, second = await asyncio.gather(*map(self._score, conversations, answers))
        return Likelihoods(first, second)

    async def _score(self, conversation: Sequence[Message], answer: str) -> float:
        key = (tuple(conversation), answer)
        async with self._locks.setdefault(key, asyncio.Lock()):
            if key not in self._scores:
                self._scores[key] = await self._request(conversation, answer)
        return self._scores[key]

    async def _request(self, conversation: Sequence[Message], answer: str) -> float:
        prompt = await self._tokens({"messages": as_dicts(conversation), "add_generation_prompt": True})
        # Apart from the prompt, so that no token spans both.
        own = await self._tokens({"prompt": answer, "add_special_tokens": False}) if answer else []
        if not own:
            return -inf
        options = {"echo": True, "logprobs": 0, "max_tokens": 0, "temperature": 0}
        response = await self._server.post(
            "/completions", {"model": self._server.model, "prompt": [*prompt, *own], **options}
        )
        return mean_log_probability(response, len(own))

    async def _tokens(self, text: Mapping[str, Any]) -> list[int]:
        response = await self._server.post("/tokenize", {"model": self._server.model, **text})
        tokens = response.get("tokens") if isinstance(response, dict) else None
        if not isinstance(tokens, list):
            raise Unavailable(_NO_LOGPROBS)
        return tokens


def mean_log_probability(response: object, count: int) -> float:
    """The mean of the last `count` tokens' log-probabilities in an echoed completion.

    Raises:
        Unavailable: the response does not have them.
    """
    try:
        values = response["choices"][0]["logprobs"]["token_logprobs"][-count:]  # type: ignore[index] -- checked by trying
        if len(values) < count:
            raise Unavailable(_NO_LOGPROBS)
        return sum(values) / count
    except (LookupError, TypeError) as error:
        raise Unavailable(_NO_LOGPROBS) from error
