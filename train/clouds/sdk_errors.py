"""What a provider's SDK raises, as one line that says what is wrong and what to do.

OpenAI's and Together's SDKs are made by one generator and have the same tree of exceptions: it is read by name here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from models.errors import Busy, Invalid, NotFound, ParleyError, Unauthorized, Unavailable
from train.clouds.cloud import Lost

_SAID = 300  # characters of a provider's words


@contextmanager
def told(sdk: ModuleType, title: str, credential: str) -> Iterator[None]:
    """Turns the SDK's exceptions in the block into ParleyErrors.

    Raises:
        Unauthorized: the key. NotFound: 404. Busy: 429, with `retry_after`. Invalid: any other 4xx, in the provider's
        words, with its `param` and `code`. Lost: the connection broke. Unavailable: 5xx.
    """
    try:
        yield
    except sdk.APIStatusError as error:
        raise _by_status(error, title, credential) from error
    except sdk.APIConnectionError as error:
        raise Lost(f"{title} gave no answer ({_cause(error)}). Check the network and try again.") from error


def _by_status(error: Any, title: str, credential: str) -> ParleyError:
    status = error.status_code
    body = error.body if isinstance(error.body, dict) else {}
    inner = body.get("error") if isinstance(body.get("error"), dict) else body
    words = _line(inner.get("message") or error.message)
    if status in (401, 403):
        return Unauthorized(f"{title} refuses the key in {credential}: {words}")
    if status == 404:
        return NotFound(f"{title}: {words}", code=inner.get("code"))
    if status == 429:
        return Busy(f"{title} asks to wait: {words}", retry_after=_seconds(error.response.headers), code="rate_limit")
    if status >= 500:
        return Unavailable(f"{title} has trouble of its own ({status}): {words}. Try again later.")
    return Invalid(f"{title} refuses: {words}", code=inner.get("code"), param=inner.get("param"))


def _seconds(headers: Any) -> float | None:
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            return float(headers[name]) / unit
        except (KeyError, ValueError):
            continue
    return None


def _cause(error: BaseException) -> str:
    return _line(str(error.__cause__ or error)) or type(error).__name__


def _line(text: Any) -> str:
    return " ".join(str(text).split())[:_SAID].rstrip(".")
