"""What the clouds have in common: their files, and the SDK's exceptions as ParleyErrors.

The SDKs of OpenAI and Together come from one generator, so their clients and exceptions have the same names.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from models.errors import Busy, Invalid, NotFound, ParleyError, Unauthorized, Unavailable
from train.clouds.cloud import NoAnswer

_LONGEST_MESSAGE = 300  # characters


class SDKCloud:
    """A cloud that is reached through an SDK: the module and its client."""

    title: str
    credential: str

    def __init__(self, sdk: ModuleType, client: Any) -> None:
        self._sdk, self._client = sdk, client

    def has_file(self, file_id: str) -> bool:
        """Whether the provider still has a file."""
        return self._exists(self._client.files, file_id)

    def download(self, file_id: str) -> bytes:
        """The content of a file."""
        with self._errors():
            return self._client.files.content(file_id).read()

    def _exists(self, resources: Any, name: str) -> bool:
        try:
            with self._errors():
                resources.retrieve(name)
        except NotFound:
            return False
        return True

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turns the SDK's exceptions in the block into ParleyErrors.

        Raises:
            Unauthorized: the key. NotFound: 404. Busy: 429, with `retry_after`. Invalid: any other 4xx, with the
            provider's message, `param` and `code`. NoAnswer: the connection broke. Unavailable: 5xx.
        """
        try:
            yield
        except self._sdk.APIStatusError as error:
            raise _by_status(error, self.title, self.credential) from error
        except self._sdk.APIConnectionError as error:
            raise NoAnswer(
                f"{self.title} did not answer ({_cause(error)}). Check the network and try again."
            ) from error


def _by_status(error: Any, title: str, credential: str) -> ParleyError:
    status = error.status_code
    body = error.body if isinstance(error.body, dict) else {}
    inner = body.get("error") if isinstance(body.get("error"), dict) else body
    message = _line(inner.get("message") or error.message)
    if status in (401, 403):
        return Unauthorized(f"{title} refuses the key in {credential}: {message}")
    if status == 404:
        return NotFound(f"{title}: {message}", code=inner.get("code"))
    if status == 429:
        seconds = _retry_after(error.response.headers)
        return Busy(f"{title} limits the rate of requests: {message}", retry_after=seconds, code="rate_limit")
    if status >= 500:
        return Unavailable(f"{title} has an internal error ({status}): {message}. Try again later.")
    return Invalid(f"{title} refuses the request: {message}", code=inner.get("code"), param=inner.get("param"))


def _retry_after(headers: Any) -> float | None:
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            return float(headers[name]) / unit
        except (KeyError, ValueError):
            continue
    return None


def _cause(error: BaseException) -> str:
    return _line(str(error.__cause__ or error)) or type(error).__name__


def _line(text: Any) -> str:
    return " ".join(str(text).split())[:_LONGEST_MESSAGE].rstrip(".")
