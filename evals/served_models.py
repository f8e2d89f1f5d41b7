"""Served models for this room: names resolved in the registry, completers through the gateway.

One event loop and one set of completers serve a whole run: each completer is made on first use and closed at the end.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from models.completer import GatewayCompleter, gateway_completer
from models.database import Database
from models.errors import Unauthorized
from models.keys import keys_configured
from models.registry import Registry
from models.settings import Settings
from models.spec import ModelSpec

Result = TypeVar("Result")
GATEWAY_TIMEOUT_S = 600.0  # as long as the gateway waits for an engine
_TIMEOUT_S, _RETRIES = 120.0, 2


class Completers:
    """Completers by model. Calling it gives one that retries; `unretried` gives one whose caller retries."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._open: dict[tuple[str, bool], GatewayCompleter] = {}

    def __call__(self, model: str) -> GatewayCompleter:
        return self._completer(model, retried=True)

    def unretried(self, model: str) -> GatewayCompleter:
        """For the task runner, which retries what is safe to retry; the SDK would retry time-outs too."""
        return self._completer(model, retried=False)

    async def close(self) -> None:
        """Closes all connections."""
        for completer in self._open.values():
            await completer.close()

    def _completer(self, model: str, retried: bool) -> GatewayCompleter:
        if (model, retried) not in self._open:
            self._open[model, retried] = (
                gateway_completer(self._settings, model, _TIMEOUT_S, _RETRIES)
                if retried
                else gateway_completer(self._settings, model, GATEWAY_TIMEOUT_S, 0, many=True)
            )
        return self._open[model, retried]


def run_with_completers(settings: Settings, run: Callable[[Completers], Awaitable[Result]]) -> Result:
    """Runs a coroutine to its end with completers for served models, and closes them. Call outside of an event loop."""

    async def run_and_close() -> Result:
        completers = Completers(settings)
        try:
            return await run(completers)
        finally:
            await completers.close()

    return asyncio.run(run_and_close())


def resolve_models(settings: Settings, database: Database, *names: str) -> list[ModelSpec]:
    """The versions that these names mean now; results are stored under their ids, which no alias moves.

    Raises:
        NotFound: a model is not in the registry.
        Unauthorized: keys are required, and the settings have none for the gateway.
    """
    if settings.page_key is None and keys_configured(database):
        raise Unauthorized("The gateway requires a key: set PARLEY_PAGE_KEY to one.")
    registry = Registry(database)
    return [registry.resolve(name) for name in names]
