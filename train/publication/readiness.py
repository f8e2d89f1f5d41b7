"""Whether a model is served: polls this home's gateway until the model is ready, or will not be soon."""

import asyncio
import time
from collections.abc import Callable

from models.completer import GatewayCompleter
from models.errors import NotFound
from models.settings import Settings

NOTICED_WITHIN_S = 3.0  # the gateway and the supervisor read the registry a few times a second
_POLL_S = 0.3


async def wait_until_ready(
    completer: GatewayCompleter,
    settings: Settings,
    *,
    patience_s: float = NOTICED_WITHIN_S,
    on_poll: Callable[[], None] = lambda: None,
) -> str:
    """The model's state once it is ready, has failed, or has stayed the same for too long.

    "unknown" means that the gateway does not know the model. A starting engine gets the time of the settings.

    Args:
        patience_s: how long to wait for a model that no engine runs.
        on_poll: called before each request; an exception that it raises ends the waiting.

    Raises:
        ParleyError: the gateway cannot be reached, or refuses.
    """
    began = time.monotonic()
    while True:
        on_poll()
        waited = time.monotonic() - began
        try:
            state, limit = await completer.state(), patience_s
        except NotFound:
            state, limit = "unknown", NOTICED_WITHIN_S
        if state in ("ready", "failed"):
            return state
        if waited > (settings.engine_start_timeout_s if state == "starting" else limit):
            return state
        await asyncio.sleep(_POLL_S)
