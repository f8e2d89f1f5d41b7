"""A served model's greedy answers to the parity questions, through the running gateway: HTTP only, no torch."""

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.completer import GatewayCompleter, gateway_completer
from models.errors import ParleyError
from models.messages import Message
from models.settings import Settings
from train.publication.probes import GREEDY_TOKENS
from train.publication.readiness import wait_until_ready

if TYPE_CHECKING:
    from train.publication.comparison import Question

_PATIENCE_S = 10.0
_NOT_READY = {
    "failed": "its engine failed to start",
    "unknown": "the gateway there does not know it",
    "starting": "its engine did not start in time",
}


@dataclass(frozen=True)
class ServedAnswers:
    """The answers in the order of the questions; without any, `reason` says why."""

    texts: tuple[str, ...] = ()
    reason: str = ""


def request_answers(settings: Settings, model: str, questions: "Sequence[Question]") -> ServedAnswers:
    """The model's greedy answers through this home's gateway, at most 32 tokens each.

    Waits for an engine that is starting. A missing gateway or an unknown model is a reason, not an error.
    """
    if not questions:
        return ServedAnswers(reason="no probe of plain text could be asked")
    future: Future[ServedAnswers] = Future()

    def run() -> None:
        try:
            future.set_result(asyncio.run(_request_all(settings, model, questions)))
        except BaseException as error:
            future.set_exception(error)

    # In a thread of its own, because a notebook's thread already runs an event loop; a daemon, so that cancelling a
    # training does not wait for an engine to start.
    threading.Thread(target=run, name="served-answers", daemon=True).start()
    return future.result()


async def _request_all(settings: Settings, model: str, questions: "Sequence[Question]") -> ServedAnswers:
    completer = gateway_completer(settings, model, retries=0)
    try:
        state = await wait_until_ready(completer, settings, patience_s=_PATIENCE_S)
        if state != "ready":
            return ServedAnswers(reason=_NOT_READY.get(state, "no engine runs it"))
        return ServedAnswers(tuple([await _request(completer, question) for question in questions]))
    except ParleyError as error:
        return ServedAnswers(reason=str(error).rstrip("."))
    finally:
        await completer.close()


async def _request(completer: GatewayCompleter, question: "Question") -> str:
    messages = [Message(role=message["role"], content=message["content"]) for message in question.messages]
    # A repetition penalty in the model's generation settings is not part of its weights.
    neutral = {"repetition_penalty": 1.0}
    completion = await completer(messages, temperature=0, max_tokens=GREEDY_TOKENS, extra_body=neutral)
    return completion.text
