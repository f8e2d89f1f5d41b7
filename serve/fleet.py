"""What should run and what does: plain data, and the comparison of two looks at an engine. It starts nothing."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime

from models.spec import ModelSpec
from serve.engines import Endpoint
from serve.machine import Share
from serve.processes import Process
from serve.states import EngineState, Served

_HOUSEKEEPING_S = 5.0


@dataclass(frozen=True)
class Work:
    """What an engine has done so far: tokens (None where it does not say), and seconds of CPU where it uses one."""

    tokens: float | None
    cpu_seconds: float

    def moved_since(self, before: "Work") -> bool:
        """Whether it did something since; an idle engine's housekeeping is nothing."""
        counted = self.tokens is not None and self.tokens != before.tokens
        return counted or self.cpu_seconds - before.cpu_seconds > _HOUSEKEEPING_S


@dataclass
class Engine:
    """One engine as it is now. `attempts` counts starts in a row that came to nothing; without a `share` there is no
    room for it, and it waits until some is made."""

    spec: ModelSpec
    share: Share | None
    state: EngineState = "starting"
    message: str = "waiting to start"
    process: Process | None = None
    endpoint: Endpoint | None = None
    lora: bool = False
    adapters: dict[str, Served] = field(default_factory=dict)
    attempts: int = 0
    again_at: float = 0.0
    since: float = 0.0
    probed: float = 0.0
    missed: int = 0
    worked: Work | None = None
    gave_up: datetime | None = None
    task: "asyncio.Task[None] | None" = None

    def shares_a_card_with(self, other: "Engine") -> bool:
        """Whether both are to run on the same GPU."""
        return bool(self.share and other.share and set(self.share.gpus) & set(other.share.gpus))


@dataclass(frozen=True)
class Desired:
    """What the registry wants: an engine for each of `engines`, and on each the adapters of `adapters`."""

    engines: dict[str, ModelSpec]
    adapters: dict[str, dict[str, ModelSpec]]


def desired(specs: list[ModelSpec]) -> Desired:
    """Sorts the registry's models into engines and what hangs on them. Hosted models need neither."""
    own = {spec.id: spec for spec in specs if spec.kind in ("base", "merged")}
    hanging: dict[str, dict[str, ModelSpec]] = {name: {} for name in own}
    for spec in specs:
        if spec.kind == "adapter" and spec.base in hanging:
            hanging[spec.base][spec.id] = spec
    return Desired(own, hanging)
