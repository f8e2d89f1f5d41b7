"""Sends a batch's rows to this home's gateway, as the key that created the batch, and repeats what a repeat can mend.

A row waits as long as the batch may run for a gateway that restarts, a model that starts, and a limit that is reached.
Other failures are repeated a few times. What remains is the row's result: it never ends the batch, except a key that
is not valid any more.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson

from models.errors import Unauthorized, Unavailable
from models.home.instance import find_gateway, gateway_tls
from models.settings.settings import Settings
from serve.bulk.concurrency import Concurrency

_ATTEMPTS = 4  # of a request that fails, or whose connection breaks
_FIRST_DELAY_S, _MAX_DELAY_S = 0.5, 60.0
_QUOTA_DELAY_S = 60.0  # a budget may be raised, and is new at midnight
_REPEATED = frozenset({408, 409, 500, 502, 504})


@dataclass(frozen=True)
class RowAnswer:
    """The result of a row: a response, or the code and message of the reason why there is none."""

    status: int = 0
    request_id: str | None = None
    body: Any = None
    error_code: str = ""
    error_message: str = ""

    @property
    def succeeded(self) -> bool:
        """Whether the row has a response with a result."""
        return 200 <= self.status < 300


class RowRequests:
    """The connections to the gateway. As an asynchronous context manager it opens and closes them.

    `report`: called with a line when rows have to wait.
    """

    def __init__(self, settings: Settings, token: str, concurrency: Concurrency, report: Callable[[str], None]) -> None:
        self._settings, self._token = settings, token
        self._concurrency, self._report = concurrency, report
        self._address = ""

    async def __aenter__(self) -> "RowRequests":
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=15),
            timeout=aiohttp.ClientTimeout(total=self._settings.total_timeout_s, sock_connect=30),
            headers={"authorization": f"Bearer {self._token}", "content-type": "application/json"},
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def find_model(self, model: str) -> bool:
        """Whether the key may use a model. Waits for the gateway.

        Raises:
            Unauthorized: the key is not valid any more.
        """
        answer = await self._answer("GET", f"/models/{quote(model, safe='')}", None)
        return answer.status != 404

    async def post(self, path: str, body: Any) -> RowAnswer:
        """Sends a row's body to a path below /v1; returns its result.

        Raises:
            Unauthorized: the key is not valid any more.
        """
        return await self._answer("POST", path, orjson.dumps(body))

    async def _answer(self, method: str, path: str, body: bytes | None) -> RowAnswer:
        failures = waits = 0
        while True:
            try:
                answer, headers = await self._send(method, path, body)
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, Unavailable):
                self._address = ""  # it may be another one after a restart
                self._report("waiting for the gateway, which cannot be reached")
                delay = _delay(waits)
                waits += 1
            except TimeoutError:
                return RowAnswer(error_code="request_timeout", error_message="The request was not answered in time.")
            except (aiohttp.ClientError, OSError):
                failures += 1
                if failures == _ATTEMPTS:
                    return RowAnswer(error_code="connection_lost", error_message="The connection broke repeatedly.")
                delay = _delay(failures)
            else:
                if answer.status == 401:
                    raise Unauthorized(_message(answer))
                if _must_wait(answer, headers):
                    if answer.status == 429:
                        self._concurrency.refused()
                    self._report(f"waiting: {_message(answer)}")
                    delay = max(_delay(waits), min(_retry_after(headers), _MAX_DELAY_S))
                    if _code(answer) == "insufficient_quota":
                        delay = _QUOTA_DELAY_S
                    waits += 1
                elif answer.status in _REPEATED and failures < _ATTEMPTS - 1:
                    failures += 1
                    delay = max(_delay(failures), min(_retry_after(headers), _MAX_DELAY_S))
                else:
                    return answer
            await asyncio.sleep(delay)

    async def _send(self, method: str, path: str, body: bytes | None) -> tuple[RowAnswer, Any]:
        if not self._address:
            self._address, self._tls = find_gateway(self._settings), gateway_tls(self._settings)
        tls = self._tls if self._tls is not None else True
        async with self._session.request(method, self._address + path, data=body, ssl=tls) as response:
            content = await response.read()
            request_id = response.headers.get("x-request-id")
            try:
                return RowAnswer(response.status, request_id, orjson.loads(content)), response.headers
            except ValueError:
                text = "The server's answer is not JSON."
                status = response.status if response.status >= 400 else 502
                return RowAnswer(status, request_id, {"error": {"message": text, "type": "server_error"}}), {}


def _must_wait(answer: RowAnswer, headers: Any) -> bool:
    """Whether the server has done nothing, and may do something later."""
    if answer.status == 429:
        return headers.get("x-should-retry") != "false" or _code(answer) == "insufficient_quota"
    return answer.status == 503 and "retry-after" in headers


def _delay(attempt: int) -> float:
    pause = min(_FIRST_DELAY_S * 2 ** min(attempt, 8), _MAX_DELAY_S / 4)
    return pause * random.uniform(0.75, 1.25)  # noqa: S311 -- jitter, not a secret


def _retry_after(headers: Any) -> float:
    try:
        return max(0.0, float(headers.get("retry-after", "0")))
    except ValueError:  # a date
        return 1.0


def _error(answer: RowAnswer) -> dict[str, Any]:
    error = answer.body.get("error") if isinstance(answer.body, dict) else None
    return error if isinstance(error, dict) else {}


def _code(answer: RowAnswer) -> object:
    return _error(answer).get("code")


def _message(answer: RowAnswer) -> str:
    return str(_error(answer).get("message") or f"the server answers with status {answer.status}")
