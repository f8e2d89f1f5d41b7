"""Asks a model through the running gateway what it was asked here, greedily: HTTP only, no torch.

It says what came back or, in a few words, why nothing did. What to make of the answers is `comparing`'s.
"""

import asyncio
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.completer import GatewayCompleter, gateway_completer
from models.errors import NotFound, ParleyError
from models.messages import Message
from models.settings import Settings
from train.publication.probes import GREEDY_TOKENS

if TYPE_CHECKING:
    from train.publication.comparison import Question

_KNOWN_WITHIN_S = 3.0  # the gateway looks at the registry a few times a second
_STARTED_WITHIN_S = 10.0
_POLL_S = 0.3


@dataclass(frozen=True)
class Answered:
    """The answers, in the order of the questions; where there are none, `reason` says why."""

    texts: tuple[str, ...] = ()
    reason: str = ""


def ask(settings: Settings, model: str, questions: "Sequence[Question]") -> Answered:
    """The model's greedy answers through this home's gateway, at most 32 tokens each.

    Waits for an engine that is starting. A gateway that is not there, or does not know the model, is no error.
    """
    if not questions:
        return Answered(reason="no probe of plain text could be asked")
    future: Future[Answered] = Future()

    def run() -> None:
        try:
            future.set_result(asyncio.run(_ask(settings, model, questions)))
        except BaseException as error:
            future.set_exception(error)

    # In a thread of its own, because a notebook's thread has an event loop running already; a daemon, because whoever
    # cancels a training does not wait for an engine to start.
    threading.Thread(target=run, name="asking", daemon=True).start()
    return future.result()


async def _ask(settings: Settings, model: str, questions: "Sequence[Question]") -> Answered:
    completer = gateway_completer(settings, model, retries=0)
    try:
        if reason := await _until_ready(settings, completer):
            return Answered(reason=reason)
        texts = [await _said(completer, question) for question in questions]
    except ParleyError as error:
        return Answered(reason=str(error).rstrip("."))
    finally:
        await completer.close()
    return Answered(tuple(texts))


async def _said(completer: GatewayCompleter, question: "Question") -> str:
    messages = [Message(role=one["role"], content=one["content"]) for one in question.messages]
    # What a model's own generation settings ask for (a penalty for repetitions) is no part of its weights.
    plain = {"repetition_penalty": 1.0}
    answer = await completer(messages, temperature=0, max_tokens=GREEDY_TOKENS, extra_body=plain)
    return answer.text


async def _until_ready(settings: Settings, completer: GatewayCompleter) -> str:
    """Why the model cannot be asked; empty once it can."""
    began = time.monotonic()
    while True:
        waited = time.monotonic() - began
        try:
            state, limit = await completer.state(), _STARTED_WITHIN_S
        except NotFound:
            state, limit = "unknown", _KNOWN_WITHIN_S
        if state == "ready":
            return ""
        if state == "failed":
            return "its engine failed to start"
        if waited > (settings.engine_start_timeout_s if state == "starting" else limit):
            told = {"unknown": "the gateway there does not know it", "starting": "its engine did not start in time"}
            return told.get(state, "no engine runs it")
        await asyncio.sleep(_POLL_S)
