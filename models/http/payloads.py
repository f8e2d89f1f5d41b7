"""What every room's routes share of OpenAI's shapes: a JSON body, a page of a list, whole numbers in a query.

It knows no route. Functions that touch the database or the disk are handed to `threaded`, so that a slow disk never
holds up a chat.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from models.errors import Invalid

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

_Result = TypeVar("_Result")


async def run_in_thread(function: Callable[..., _Result], *arguments: Any, **named: Any) -> _Result:
    """Calls a function that may block, in a thread."""
    from starlette.concurrency import run_in_threadpool

    return await run_in_threadpool(function, *arguments, **named)


@asynccontextmanager
async def threaded_context(manager: AbstractContextManager[_Result]) -> AsyncIterator[_Result]:
    """A context whose beginning and end may block, both in a thread."""
    entered = await run_in_thread(manager.__enter__)
    try:
        yield entered
    except BaseException as error:
        if not await run_in_thread(manager.__exit__, type(error), error, error.__traceback__):
            raise
    else:
        await run_in_thread(manager.__exit__, None, None, None)


async def read_json_object(request: "Request") -> dict[str, Any]:
    """The request's body as a JSON object; `{}` where there is none. The gateway bounds its length.

    Raises:
        Invalid: it is no JSON, or JSON of another kind, or a text in it holds a NUL.
    """
    body = await request.body()
    if not body.strip():
        return {}
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Invalid(f"The body is not valid JSON: {error}.") from None
    if not isinstance(content, dict):
        raise Invalid("The body must be a JSON object.")
    if b"\\u0000" in body and _holds_nul(content):
        raise Invalid("A text in the body holds a NUL character, which no name or id has.")
    return content


def _holds_nul(content: Any) -> bool:
    """Whether any text in it has a NUL, which PostgreSQL cannot keep or be asked for."""
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, str) and "\0" in value:
            return True
    return False


def json_response(content: Any, status: int = 200) -> "Response":
    """An answer in JSON."""
    from starlette.responses import Response

    return Response(orjson.dumps(content), status, media_type="application/json")


def query_integer(query: Mapping[str, str], name: str, default: int, *, least: int, most: int) -> int:
    """A whole number from the query.

    Raises:
        Invalid: it is none, or outside `least` to `most`.
    """
    text = query.get(name, "")
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 9 or not least <= int(text) <= most:
        raise Invalid(f"{name} must be a whole number from {least} to {most}, not {text[:40]!r}.", param=name)
    return int(text)


def list_page(data: Sequence[Mapping[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """One page of a list. The SDK goes on with `after=<id of the last one>` until `has_more` is false."""
    return {
        "object": "list",
        "data": list(data),
        "has_more": has_more,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
    }


def is_retry(request: "Request") -> bool:
    """Whether the SDK sends this once more, because it got no answer: it has no idempotency key, but it counts."""
    sent = request.headers.get("x-stainless-retry-count", "0")
    return sent.isdigit() and int(sent) > 0
