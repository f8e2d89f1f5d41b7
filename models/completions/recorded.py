"""Reads what a gateway answered a moment ago: its writer thread, or another gateway's, may not have stored it yet."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from models.errors import NotFound
from models.http.payloads import run_in_thread

# Waits until more may be stored. It takes the number of attempts so far, and returns False if there is nothing to wait
# for.
CatchUp = Callable[[int], Awaitable[bool]]
_Result = TypeVar("_Result")


async def read_recorded(catch_up: CatchUp | None, read: Callable[..., _Result], *arguments: Any) -> _Result:
    """Calls a blocking function that reads a stored response, again after each catch-up.

    Raises:
        NotFound: from the function, when there is nothing left to wait for.
    """
    attempts = 0
    while True:
        try:
            return await run_in_thread(read, *arguments)
        except NotFound:
            if catch_up is None or not await catch_up(attempts):
                raise
        attempts += 1
