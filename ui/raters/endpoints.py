"""The raters' requests as plain routes: the state of the page, the next pair, votes, skips and undo.

For a vote and its next pair, Gradio's event queue alone costs 55 ms of CPU, plain routes a few. They are as blind and
as secure as the page: until a vote is stored nothing names a model, and the voter comes from the signed cookie.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from models.errors import Busy, Forbidden, Invalid, NotFound, ParleyError, TooLarge
from ui.backend.context import PageContext
from ui.raters.error_texts import error_body, status_of
from ui.raters.limits import RateLimit
from ui.raters.texts import load_texts, shipped_texts
from ui.raters.visit import Visit, visit_of
from ui.raters.votes import RaterVotes

API = "/api/"
_MOST_BYTES = 100_000
_log = logging.getLogger("parley.page")
_Handler = Callable[[Visit, Mapping[str, Any]], Awaitable[dict[str, Any]]]


class RaterEndpoints:
    """The ASGI app at `/vote/api/` and `/vote/c/NAME/api/`."""

    def __init__(self, context: PageContext, secret: str) -> None:
        self._context = context
        self._votes = RaterVotes(context, secret)
        self._limit = RateLimit()
        self._handlers: Mapping[str, tuple[str, _Handler]] = {
            "state": ("GET", self._votes.state),
            "next": ("POST", self._votes.next),
            "vote": ("POST", self._votes.vote),
            "skip": ("POST", self._votes.skip),
            "undo": ("POST", self._votes.undo),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, visit = Request(scope, receive), visit_of(scope)
        try:
            body = await self._answer(request, visit)
            response: Response = JSONResponse(body, headers={"cache-control": "no-store"})
        except ClientDisconnect:
            return
        except Exception as error:  # until a vote is stored, raters read fixed sentences only
            response = await self._refusal(visit, error)
        await response(scope, receive, send)

    async def _answer(self, request: Request, visit: Visit) -> dict[str, Any]:
        method, handler = self._handlers.get(request.url.path.rpartition(API)[2], ("", None))
        if handler is None or request.method != method:
            raise NotFound("There is no such request.", code="invalid")
        if visit.voter is None:
            raise Forbidden("This needs the voter's cookie.", code="no_cookie")
        if not self._limit.allows(visit.voter):
            raise Busy("Too many requests from one voter.", code="too_fast", retry_after=60)
        return await handler(visit, await _json_body(request) if method == "POST" else {})

    async def _refusal(self, visit: Visit, error: Exception) -> Response:
        status = status_of(error)
        if status >= 500:
            _log.warning("a rater's request failed: %s", error, exc_info=not isinstance(error, ParleyError))
        campaign = await asyncio.to_thread(self._votes.campaign_or_none, visit.campaign)
        texts = self._texts(campaign.language if campaign else "en")
        body = error_body(error, texts, own_questions=campaign is not None and campaign.open_ended)
        retry = getattr(error, "retry_after", None)
        headers = {"cache-control": "no-store"} | ({"retry-after": str(round(retry))} if retry else {})
        return JSONResponse(body, status, headers)

    def _texts(self, language: str) -> Mapping[str, str]:
        try:
            return load_texts(language, self._context.settings.home)
        except Invalid as error:  # the owner's file of texts
            _log.warning("%s Errors are English until it is repaired.", error)
            return shipped_texts("en")


async def _json_body(request: Request) -> Mapping[str, Any]:
    """The request's JSON object.

    Raises:
        Invalid: it is none.
        TooLarge: it is over 100 kB.
    """
    # A form of another site can send text, but not this type, without the browser asking first.
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise Invalid("The body must be JSON.")
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > _MOST_BYTES:
            raise TooLarge("The request is too large.")
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise Invalid("The body is not JSON.") from None
    if not isinstance(body, dict):
        raise Invalid("The body must be a JSON object.")
    return body
