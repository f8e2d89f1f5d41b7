"""Models for this room: names resolved in the registry, completers through the gateway or from a recording.

One event loop and one set of completers serve a whole run: each completer is made on first use and closed at the end.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from evals.recordings.recorded_models import RecordedCompleter, parse_recorded_name, resolve_recorded
from models.chat.completer import GatewayCompleter, StartPatience, gateway_completer
from models.chat.messages import Completer
from models.database import Database
from models.errors import NotFound, Unauthorized
from models.keys import keys_configured
from models.registry.mapped_models import find_mapped_model
from models.registry.registry import Registry
from models.settings.settings import Settings
from models.spec import ModelSpec

Result = TypeVar("Result")
ReportWait = Callable[[str], None]
GATEWAY_TIMEOUT_S = 600.0  # as long as the gateway waits for an engine
_TIMEOUT_S, _RETRIES = 120.0, 2


class Completers:
    """Completers by model. Calling it gives one that retries; `unretried` gives one whose caller retries.

    A recorded model (`MODEL@recorded`) answers from its recording, without the gateway. Requests to a model whose
    engine is starting, or to a gateway that is restarting, wait; `on_wait` is then called with a line.
    """

    def __init__(self, settings: Settings, database: Database, on_wait: ReportWait = lambda _: None) -> None:
        self._settings, self._database = settings, database
        self._patience = StartPatience(settings.longest_start_s, on_wait)
        self._open: dict[tuple[str, bool], GatewayCompleter] = {}

    def __call__(self, model: str) -> Completer:
        return self._recorded(model) or self._live(model, retried=True)

    def unretried(self, model: str) -> Completer:
        """For the task runner, which retries what is safe to retry; the SDK would retry time-outs too."""
        return self._recorded(model) or self._live(model, retried=False)

    async def close(self) -> None:
        """Closes all connections."""
        for completer in self._open.values():
            await completer.close()

    def _recorded(self, model: str) -> RecordedCompleter | None:
        name = parse_recorded_name(model)
        return RecordedCompleter(self._database, name) if name else None

    def _live(self, model: str, retried: bool) -> GatewayCompleter:
        if (model, retried) not in self._open:
            self._open[model, retried] = (
                gateway_completer(self._settings, model, _TIMEOUT_S, _RETRIES, patience=self._patience)
                if retried
                else gateway_completer(self._settings, model, GATEWAY_TIMEOUT_S, 0, many=True, patience=self._patience)
            )
        return self._open[model, retried]


def run_with_completers(
    settings: Settings,
    database: Database,
    run: Callable[[Completers], Awaitable[Result]],
    on_wait: ReportWait = lambda _: None,
) -> Result:
    """Runs a coroutine to its end with completers, and closes them. Call outside of an event loop.

    `on_wait` is called with a line while a request waits for an engine; an exception that it raises fails the request.
    """

    async def run_and_close() -> Result:
        completers = Completers(settings, database, on_wait)
        try:
            return await run(completers)
        finally:
            await completers.close()

    return asyncio.run(run_and_close())


def resolve_models(settings: Settings, database: Database, *names: str) -> list[ModelSpec]:
    """The versions that these names mean now; results are stored under their ids, which no alias moves.

    A recorded model's id is its name, such as `gpt@recorded`, with its model's id in place of an alias.

    Raises:
        NotFound: a model is not in the registry, or has no finished recording.
        Unauthorized: keys are required, and the settings have none for the gateway.
    """
    served = [name for name in names if parse_recorded_name(name) is None]
    if served and settings.page_key is None and keys_configured(database):
        raise Unauthorized("The gateway requires a key: set PARLEY_PAGE_KEY to one.")
    return find_models(settings, database, *names)


def find_models(settings: Settings, database: Database, *names: str) -> list[ModelSpec]:
    """As `resolve_models`, for a caller that sends no request to the models.

    Raises:
        NotFound: a model is not in the registry, or has no finished recording.
    """
    recorded = {name: parsed for name in names if (parsed := parse_recorded_name(name))}
    registry = Registry(database)
    return [
        resolve_recorded(database, registry, recorded[name]) if name in recorded else _resolve(settings, registry, name)
        for name in names
    ]


def _resolve(settings: Settings, registry: Registry, name: str) -> ModelSpec:
    """A model by its id or alias, or the one that the name is mapped to by the setting `fine_tuning_models`."""
    mapped = find_mapped_model(settings.fine_tuning_models, name)
    try:
        return registry.resolve(name)
    except NotFound:
        if mapped is None:
            raise
        return registry.resolve(mapped)
