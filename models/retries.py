"""When a failed request may be repeated: only if it cost nothing."""

import random

from models.errors import Busy, ParleyError, Unavailable

_MAX_DELAY_S = 60.0
_FIRST_DELAY_S = 0.5


def retry_delay(error: ParleyError, attempt: int) -> float | None:
    """Seconds until a failed request may be repeated; None if it may have cost something."""
    pause = _FIRST_DELAY_S * 2**attempt * random.uniform(0.75, 1.25)  # noqa: S311 -- jitter, not a secret
    if isinstance(error, Busy):
        if error.code == "insufficient_quota":  # OpenAI's 429 that waiting does not resolve
            return None
        return min(max(error.retry_after or 0.0, pause), _MAX_DELAY_S)
    if isinstance(error, Unavailable) and (error.retry_after is not None or error.code == "not_connected"):
        return min(max(error.retry_after or 0.0, pause), _MAX_DELAY_S)
    return None
