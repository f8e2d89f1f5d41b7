"""The errors, and when a failed request may be repeated. A message is one line: what is wrong, and what to do about it.

    ParleyError
    ├── Invalid       (ValueError)       400   the request makes no sense; `param` names the field
    ├── Unauthorized  (PermissionError)  401   a missing or wrong key
    ├── Forbidden     (PermissionError)  403   a valid key without this permission
    ├── NotFound      (LookupError)      404
    ├── Conflict      (ValueError)       409   it already exists or is in use
    ├── TooLarge      (ValueError)       413
    ├── Busy          (RuntimeError)     429   a queue or limit is full; `retry_after` in seconds
    ├── Unavailable   (ConnectionError)  503   not available now; `retry_after` as above
    └── NoSpace       (OSError)          507   the disk is full

The command line prints the message and exits with `exit_code`; the gateway answers with `status` and OpenAI's
error body.
"""

import random
from collections.abc import Mapping
from typing import Any, ClassVar

NOT_CONNECTED = "not_connected"  # the code of a server to which no connection was established
MODEL_STARTING = "model_starting"  # the code of a 503 or 429 for a model whose engine is starting
_MAX_DELAY_S = 60.0
_FIRST_DELAY_S = 0.5


class ParleyError(Exception):
    """An error with a one-line message for a user or client."""

    status: ClassVar[int] = 500
    kind: ClassVar[str] = "server_error"
    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.message = " ".join(message.split())
        self.code = code
        self.param = param
        self.retry_after = retry_after
        self.headers = headers or {}  # additional response headers
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message

    def body(self) -> dict[str, Any]:
        """The error in OpenAI's format: `{"error": {message, type, param, code}}`."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


class Invalid(ParleyError, ValueError):
    """The request makes no sense; `param` names the wrong field."""

    status = 400
    kind = "invalid_request_error"
    exit_code = 2


class Unauthorized(ParleyError, PermissionError):
    """The key is missing, wrong, expired or revoked."""

    status = 401
    kind = "invalid_request_error"


class Forbidden(ParleyError, PermissionError):
    """The key is valid but does not permit this."""

    status = 403
    kind = "invalid_request_error"


class NotFound(ParleyError, LookupError):
    """There is no such model, battle, file, job or route."""

    status = 404
    kind = "invalid_request_error"


class Conflict(ParleyError, ValueError):
    """It already exists, or something still uses it."""

    status = 409
    kind = "invalid_request_error"


class TooLarge(ParleyError, ValueError):
    """It is larger than the setting allows."""

    status = 413
    kind = "invalid_request_error"


class Busy(ParleyError, RuntimeError):
    """A queue or a limit is full."""

    status = 429
    kind = "rate_limit_error"


class Unavailable(ParleyError, ConnectionError):
    """Something is not available now: a starting engine, an old database, an occupied port."""

    status = 503
    kind = "server_error"


class NoSpace(ParleyError, OSError):
    """The disk is full; nothing was left half-written."""

    status = 507
    kind = "server_error"


def retry_delay(error: ParleyError, attempt: int) -> float | None:
    """Seconds until a failed request may be repeated; None if it may have cost something."""
    pause = _FIRST_DELAY_S * 2**attempt * random.uniform(0.75, 1.25)  # noqa: S311 -- jitter, not a secret
    if isinstance(error, Busy):
        if error.code == "insufficient_quota":  # OpenAI's 429 that waiting does not resolve
            return None
        return min(max(error.retry_after or 0.0, pause), _MAX_DELAY_S)
    if isinstance(error, Unavailable) and (error.retry_after is not None or error.code == NOT_CONNECTED):
        return min(max(error.retry_after or 0.0, pause), _MAX_DELAY_S)
    return None
