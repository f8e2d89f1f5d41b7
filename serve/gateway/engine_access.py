"""How the gateway identifies itself to each engine, and how it keeps that secret."""

from serve.fleet import engine_states
from serve.gateway.redaction import Redactor


class EngineAccess:
    """The authorization header and the redactor of each engine. `key`: the engines' key of this run."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._known: dict[str, tuple[str, Redactor]] = {}

    def of(self, engine: str) -> tuple[str, Redactor]:
        """The header of requests to an engine, and a redactor for its responses."""
        if engine not in self._known:
            # An engine runs without Parley's environment, and its key is the only secret that it has.
            key = engine_states.engine_key(self._key, engine)
            self._known[engine] = (f"Bearer {key}", Redactor([key]))
        return self._known[engine]
