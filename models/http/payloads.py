"""What the routes share: JSON bodies and responses, pages of a list, query numbers, blocking calls in threads.

Functions that touch the database or the disk go through `run_in_thread`, so that a slow disk never delays a chat.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from models.errors import Invalid
from models.http.json_bounds import parse_bounded

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

_Result = TypeVar("_Result")


async def run_in_thread(function: Callable[..., _Result], *arguments: Any, **named: Any) -> _Result:
    """Calls a blocking function in a thread."""
    from starlette.concurrency import run_in_threadpool

    return await run_in_threadpool(function, *arguments, **named)


@asynccontextmanager
async def threaded_context(manager: AbstractContextManager[_Result]) -> AsyncIterator[_Result]:
    """Enters and leaves a blocking context manager in threads."""
    entered = await run_in_thread(manager.__enter__)
    try:
        yield entered
    except BaseException as error:
        if not await run_in_thread(manager.__exit__, type(error), error, error.__traceback__):
            raise
    else:
        await run_in_thread(manager.__exit__, None, None, None)


async def read_json_object(request: "Request") -> dict[str, Any]:
    """The request's body as a JSON object; `{}` for an empty body. The gateway limits its length.

    Raises:
        Invalid: the body is not a JSON object, is too deep or has too many values, or a string in it contains a NUL.
    """
    body = await request.body()
    if not body.strip():
        return {}
    try:
        content = parse_bounded(body)
    except orjson.JSONDecodeError as error:
        raise Invalid(f"The body is not valid JSON: {error}.") from None
    if not isinstance(content, dict):
        raise Invalid("The body must be a JSON object.")
    if b"\\u0000" in body and _contains_nul(content):
        raise Invalid("A string in the body contains a NUL character.")
    return content


def _contains_nul(content: Any) -> bool:
    """Whether any string contains a NUL, which PostgreSQL cannot store or compare."""
    pending = [content]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending += [*value.keys(), *value.values()]
        elif isinstance(value, list):
            pending += value
        elif isinstance(value, str) and "\0" in value:
            return True
    return False


def json_response(content: Any, status: int = 200) -> "Response":
    """A JSON response."""
    from starlette.responses import Response

    return Response(orjson.dumps(content), status, media_type="application/json")


def query_integer(query: Mapping[str, str], name: str, default: int, *, least: int, most: int) -> int:
    """A query parameter as an integer.

    Raises:
        Invalid: it is not an integer from `least` to `most`.
    """
    text = query.get(name, "")
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 9 or not least <= int(text) <= most:
        raise Invalid(f"{name} must be an integer from {least} to {most}, not {text[:40]!r}.", param=name)
    return int(text)


def list_page(data: Sequence[Mapping[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """One page of a list. The SDK continues with `after=<last_id>` while `has_more` is true."""
    return {
        "object": "list",
        "data": list(data),
        "has_more": has_more,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
    }


def is_retry(request: "Request") -> bool:
    """Whether the SDK repeats a request that got no response, by its retry count."""
    sent = request.headers.get("x-stainless-retry-count", "0")
    return sent.isdigit() and int(sent) > 0
