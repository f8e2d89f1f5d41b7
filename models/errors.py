"""The error tree. Each error is one line: what is wrong, and what to do about it.

    ParleyError
    ├── Invalid       (ValueError)       400   what was asked for makes no sense; `param` names the field
    ├── Unauthorized  (PermissionError)  401   no key, or a wrong one
    ├── Forbidden     (PermissionError)  403   a good key that may not do this
    ├── NotFound      (LookupError)      404
    ├── Conflict      (ValueError)       409   it exists already, or is in use
    ├── TooLarge      (ValueError)       413
    ├── Busy          (RuntimeError)     429   a queue or a limit is full; `retry_after` says when to come back
    ├── Unavailable   (ConnectionError)  503   not there yet, or not any more; `retry_after` as above
    └── NoSpace       (OSError)          507   the disk is full

The command line prints the message and exits with `exit_code`; the gateway answers with `status` and OpenAI's
error body. Nobody else formats an error.
"""

from collections.abc import Mapping
from typing import Any, ClassVar


class ParleyError(Exception):
    """A mistake or a fault that can be told in one line, to a user or to a client."""

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
        self.headers = headers or {}  # that go out with it, beside those that any error has
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message

    def body(self) -> dict[str, Any]:
        """The error as OpenAI's clients read it: `{"error": {message, type, param, code}}`."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


class Invalid(ParleyError, ValueError):
    """What was asked for makes no sense; `param` names the field that is wrong."""

    status = 400
    kind = "invalid_request_error"
    exit_code = 2


class Unauthorized(ParleyError, PermissionError):
    """No key, or one that is wrong, expired or revoked."""

    status = 401
    kind = "invalid_request_error"


class Forbidden(ParleyError, PermissionError):
    """A good key that may not do this."""

    status = 403
    kind = "invalid_request_error"


class NotFound(ParleyError, LookupError):
    """There is no such model, battle, file, job or route."""

    status = 404
    kind = "invalid_request_error"


class Conflict(ParleyError, ValueError):
    """It exists already, or something else still uses it."""

    status = 409
    kind = "invalid_request_error"


class TooLarge(ParleyError, ValueError):
    """More bytes than the setting allows."""

    status = 413
    kind = "invalid_request_error"


class Busy(ParleyError, RuntimeError):
    """A queue or a limit is full."""

    status = 429
    kind = "rate_limit_error"


class Unavailable(ParleyError, ConnectionError):
    """Not there yet, or not any more: an engine that starts, a database that is old, a port that is taken."""

    status = 503
    kind = "server_error"


class NoSpace(ParleyError, OSError):
    """The disk is full; nothing was left half-written."""

    status = 507
    kind = "server_error"
