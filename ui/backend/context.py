"""What every handler of the page needs: settings, database, registry, and completers for the models. No layout.

The page reaches models as any client does: with the OpenAI SDK, through the gateway.
"""

from dataclasses import dataclass, field
from typing import Any

from evals.recordings.recorded_models import RecordedCompleter, parse_recorded_name
from models.chat.completer import GatewayCompleter, gateway_completer
from models.chat.messages import Completer
from models.database import Database
from models.errors import ParleyError
from models.registry.registry import Registry
from models.settings.settings import Settings
from models.spec import ModelSpec


@dataclass(frozen=True)
class ServedModel:
    """A model and its engine's state: ready, starting, stopped or failed. `note` gives the reason."""

    spec: ModelSpec
    state: str
    note: str = ""

    @property
    def id(self) -> str:
        return self.spec.id

    @property
    def ready(self) -> bool:
        return self.state == "ready"


@dataclass(frozen=True)
class PageContext:
    """Settings, database and connections of this page. `ui.page.build` makes one; all three apps share it."""

    settings: Settings
    database: Database
    _completers: dict[str, GatewayCompleter] = field(default_factory=dict, repr=False)

    @property
    def registry(self) -> Registry:
        return Registry(self.database)

    def models(self, *, judges: bool = True) -> list[ServedModel]:
        """Every listed model with its engine's state, ready ones first; without judges if `judges` is False."""
        from serve import model_states

        states: dict[str, Any] = model_states(self.database)
        served = []
        for spec in self.registry.list():
            if spec.judge and not judges:
                continue
            state = states.get(spec.id)
            if state is None:
                served.append(ServedModel(spec, "stopped", "no engine runs it yet"))
            else:
                served.append(ServedModel(spec, state.state, state.message or ""))
        return sorted(served, key=lambda model: (not model.ready, model.spec.judge, model.id))

    def completer(self, model: str) -> GatewayCompleter:
        """The completer for `model`; one for each model, so that connections are reused."""
        if model not in self._completers:
            self._completers[model] = gateway_completer(self.settings, model)
        return self._completers[model]

    def answering(self, model: str) -> Completer:
        """As `completer`, for whole answers only: a recorded model (`MODEL@recorded`) answers from its record."""
        name = parse_recorded_name(model)
        return RecordedCompleter(self.database, name) if name else self.completer(model)

    async def close(self) -> None:
        """Closes the connections to the gateway."""
        for completer in self._completers.values():
            await completer.close()


def error_message(error: BaseException) -> str:
    """One line for the page: the message of a ParleyError, and no internals of any other error."""
    if isinstance(error, ParleyError):
        return error.message
    return f"Something went wrong ({type(error).__name__}). Try again; the page's log has the details."
