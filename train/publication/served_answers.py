"""Whether a model is served, and its greedy answers to the parity questions, through the running gateway: HTTP only."""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.chat.completer import GatewayCompleter, StartPatience, gateway_completer
from models.chat.messages import Message
from models.errors import NotFound, ParleyError, Unavailable
from models.settings.settings import Settings
from train.publication.probes import GREEDY_TOKENS

if TYPE_CHECKING:
    from train.publication.comparison import Question

_PATIENCE_S = 10.0
_NOT_READY = {
    "failed": "its engine failed to start",
    "unknown": "the gateway there does not know it",
    "starting": "its engine did not start in time",
}
NOTICED_WITHIN_S = 3.0  # the gateway and the supervisor read the registry a few times a second
_POLL_S = 0.3


@dataclass(frozen=True)
class ServedAnswers:
    """The answers in the order of the questions; without any, `reason` says why."""

    texts: tuple[str, ...] = ()
    reason: str = ""


def request_answers(
    settings: Settings, model: str, questions: "Sequence[Question]", report: Callable[[str], None] = lambda _: None
) -> ServedAnswers:
    """The model's greedy answers through this home's gateway, at most 32 tokens each.

    Waits for an engine that is starting, also one that restarts meanwhile; `report` then receives a line. A missing
    gateway or an unknown model is a reason, not an error.
    """
    if not questions:
        return ServedAnswers(reason="no probe of plain text could be asked")
    future: Future[ServedAnswers] = Future()
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def run() -> None:
        try:
            future.set_result(asyncio.run(_request_all(settings, model, questions, lines.put)))
        except BaseException as error:
            future.set_exception(error)

    # In a thread of its own, because a notebook's thread already runs an event loop; a daemon, so that cancelling a
    # training does not wait for an engine to start.
    threading.Thread(target=run, name="served-answers", daemon=True).start()
    while not future.done() or not lines.empty():
        with suppress(queue.Empty):
            report(lines.get(timeout=_POLL_S))
    return future.result()


async def _request_all(
    settings: Settings, model: str, questions: "Sequence[Question]", report: Callable[[str], None]
) -> ServedAnswers:
    waiting = f"Waiting for {model}: its engine is starting"
    seen: set[str] = set()

    def report_start(state: str) -> None:
        if state == "starting" and state not in seen:
            report(waiting)
        seen.add(state)

    patience = StartPatience(settings.longest_start_s, lambda _: report(waiting))
    try:
        completer = gateway_completer(settings, model, patience=patience)
    except Unavailable:
        return ServedAnswers(reason="no Parley was running from this home: `parley up` starts one")
    try:
        state = await wait_until_ready(completer, settings, patience_s=_PATIENCE_S, on_poll=report_start)
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


async def wait_until_ready(
    completer: GatewayCompleter,
    settings: Settings,
    *,
    patience_s: float = NOTICED_WITHIN_S,
    on_poll: Callable[[str], None] = lambda _: None,
) -> str:
    """The model's state once it is ready, has failed, or has stayed the same for too long.

    "unknown" means that the gateway does not know the model. A starting engine gets as long as its supervisor gives it.

    Args:
        patience_s: how long to wait for a model that no engine runs.
        on_poll: called with each state that was read; an exception that it raises ends the waiting.

    Raises:
        ParleyError: the gateway cannot be reached, or refuses.
    """
    began = time.monotonic()
    while True:
        waited = time.monotonic() - began
        try:
            state, limit = await completer.state(), patience_s
        except NotFound:
            state, limit = "unknown", NOTICED_WITHIN_S
        on_poll(state)
        if state in ("ready", "failed"):
            return state
        if waited > (settings.longest_start_s if state == "starting" else limit):
            return state
        await asyncio.sleep(_POLL_S)
