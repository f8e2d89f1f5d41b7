"""When a request that failed may be sent again: only where it cost nothing. It sends nothing itself."""

import random

from models.errors import Busy, ParleyError, Unavailable

_LONGEST_WAIT_S = 60.0
_FIRST_WAIT_S = 0.5


def retry_delay(error: ParleyError, attempt: int) -> float | None:
    """Seconds until a failed request may be sent again; None where it must not be: it may have cost something."""
    pause = _FIRST_WAIT_S * 2**attempt * random.uniform(0.75, 1.25)  # noqa: S311 -- spreads requests, hides nothing
    if isinstance(error, Busy):
        if error.code == "insufficient_quota":  # OpenAI's 429 that no waiting mends
            return None
        return min(max(error.retry_after or 0.0, pause), _LONGEST_WAIT_S)
    if isinstance(error, Unavailable) and (error.retry_after is not None or error.code == "not_connected"):
        return min(max(error.retry_after or 0.0, pause), _LONGEST_WAIT_S)
    return None
