"""The time limits of a request to an engine or an upstream."""

from dataclasses import dataclass

from models.settings.settings import Settings


@dataclass(frozen=True)
class Timeouts:
    """Seconds: `connect_s` for the connection, `first_byte_s` from the request to the response headers, `idle_s`
    between two pieces of the response, `total_s` from the request to the end of the response.
    """

    connect_s: float
    first_byte_s: float
    idle_s: float
    total_s: float

    @property
    def shortest_s(self) -> float:
        """The shortest limit that applies while a response arrives."""
        return min(self.first_byte_s, self.idle_s, self.total_s)


def timeouts_from(settings: Settings) -> Timeouts:
    """The timeouts of the settings."""
    return Timeouts(
        connect_s=settings.connect_timeout_s,
        first_byte_s=settings.first_byte_timeout_s,
        idle_s=settings.idle_timeout_s,
        total_s=settings.total_timeout_s,
    )
