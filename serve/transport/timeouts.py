"""How long an engine or an upstream may take: four limits, each for one thing that can stand still."""

from dataclasses import dataclass

from models.settings import Settings


@dataclass(frozen=True)
class Timeouts:
    """Seconds. `connect_s` to a connection, `first_byte_s` from the request to the answer's headers, `idle_s` between
    two pieces of it, `total_s` from the request to the answer's end."""

    connect_s: float
    first_byte_s: float
    idle_s: float
    total_s: float

    @property
    def least(self) -> float:
        """The shortest of those that are watched while an answer comes."""
        return min(self.first_byte_s, self.idle_s, self.total_s)


def timeouts_of(settings: Settings) -> Timeouts:
    """As they are set."""
    return Timeouts(
        connect_s=settings.connect_timeout_s,
        first_byte_s=settings.first_byte_timeout_s,
        idle_s=settings.idle_timeout_s,
        total_s=settings.total_timeout_s,
    )
