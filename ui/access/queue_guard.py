"""A check in front of a Gradio server: requests that its own page never sends are refused with 4xx.

Gradio answers an unknown handler, an unknown session or missing inputs with 500 and a traceback.
"""

import json
import logging
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models.errors import Invalid
from models.http.json_bounds import check_bounds

if TYPE_CHECKING:
    from gradio import Blocks

_log = logging.getLogger("parley.page")
_MOST_BYTES = 20_000_000
_API = "/gradio_api"


class QueueGuard:
    """The ASGI app around a Gradio server."""

    def __init__(self, app: ASGIApp, blocks: "Blocks") -> None:
        self._app = app
        self._blocks = blocks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = str(scope.get("path", "")).rstrip("/") if scope["type"] == "http" else ""
        action = path.rpartition(_API)[2] if _API in path else ""
        refusal: Response | None = None
        if action == "/queue/data":
            session = Request(scope).query_params.get("session_hash", "")
            if session not in self._blocks._queue.pending_messages_per_session:
                refusal = _refusal("There is no such session. Reload the page.", 404)
        elif action in ("/queue/join", "/cancel", "/reset") and scope["method"] == "POST":
            body = await _body(receive)
            refusal = self._refused(action, body) if body is not None else _refusal("The request is too large.", 413)
            receive = _replayed(body or b"", receive)
        await (refusal or self._app)(scope, receive, send)

    def _refused(self, action: str, raw: bytes) -> Response | None:
        try:
            check_bounds(raw)
            body = json.loads(raw)
        except Invalid as error:
            return _refusal(error.message, 400)
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            return _refusal("The request is not a JSON object.", 400)
        if action == "/queue/join":
            return self._refused_event(body)
        event = body.get("event_id")
        known = isinstance(event, str) and event in self._blocks._queue.event_ids_to_events
        return None if known else _refusal("There is no such event.", 404)

    def _has_handler(self, index: int) -> bool:
        function = self._blocks.fns.get(index)
        return function is not None and function.fn is not None  # one without a function runs in the browser alone

    def _refused_event(self, body: dict[str, Any]) -> Response | None:
        """The refusal of a new event; None if the page could have sent it."""
        index, session, data = body.get("fn_index"), body.get("session_hash"), body.get("data")
        if not isinstance(index, int) or isinstance(index, bool) or not self._has_handler(index):
            return _refusal("There is no such handler. Reload the page.", 404)
        if not isinstance(session, str) or not session:
            return _refusal("The request has no session.", 400)
        if not isinstance(data, list) or len(data) != len(self._blocks.fns[index].inputs):
            return _refusal("The request has other inputs than the handler. Reload the page.", 400)
        return None


def refuse_wrong_inputs(blocks: "Blocks") -> None:
    """Makes an input that the page never sends, such as a choice that is not in the list, an error without a traceback.

    Gradio checks the inputs in its queue, after the request was accepted.
    """
    from gradio import Error

    preprocess = blocks.preprocess_data

    async def checked(*args: Any, **kwargs: Any) -> Any:
        try:
            return await preprocess(*args, **kwargs)
        except Exception as error:  # each component raises its own
            _log.warning("a request has inputs that no page sends: %s", " ".join(str(error).split())[:200])
            raise Error("This page did not send this request. Reload the page.", print_exception=False) from None

    blocks.preprocess_data = checked  # type: ignore[method-assign] -- of this app alone


async def _body(receive: Receive) -> bytes | None:
    """The request's body; None if it is over 20 MB."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > _MOST_BYTES:
            return None
        if message["type"] != "http.request" or not message.get("more_body"):
            return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body once more, and then what the server sends."""
    replayed = False

    async def again() -> Message:
        nonlocal replayed
        if replayed:
            return await receive()
        replayed = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _refusal(text: str, status: int) -> Response:
    return JSONResponse({"detail": text}, status)
