"""What should run and what does: plain data, and the comparison of two looks at an engine. It starts nothing."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from models.spec import ModelSpec
from serve.fleet.engine_states import EngineState, EngineStatus
from serve.fleet.machine import Share
from serve.fleet.vllm_command import Endpoint
from serve.processes.children import Process

# What becomes of an engine that has been drained.
Next = Literal["sleep", "be gone", "start again"]
ASLEEP = "asleep: asked for again, it starts"
# What a busy engine makes of its core at the very least, on a crowded machine; an idle one's housekeeping is below.
_WORKING_SHARE = 0.1


@dataclass(frozen=True)
class Work:
    """What an engine has done so far: tokens (None where it does not say), and seconds of CPU where it uses one.

    `at`: when that was, in seconds of a clock that never goes back.
    """

    tokens: float | None
    cpu_seconds: float
    at: float = 0.0

    def moved_since(self, before: "Work") -> bool:
        """Whether it did something since; an idle engine's housekeeping is nothing."""
        counted = self.tokens is not None and self.tokens != before.tokens
        return counted or self.cpu_seconds - before.cpu_seconds > _WORKING_SHARE * max(self.at - before.at, 1.0)


@dataclass(frozen=True)
class Drain:
    """An engine's end without harm to anybody: its running requests finish, new ones no longer reach it.

    `then`: what comes after.
    """

    then: Next
    why: str
    began: float


@dataclass
class ManagedEngine:
    """One engine as it is now.

    `attempts` counts starts in a row that never got ready, `ends` those that did not last either. Without a `share` it
    does not run: it sleeps since `asleep_since`, or was given up at `gave_up`. `wished`: when somebody asked for it as
    it slept; `called`: it runs because of that. `used`: when others last asked it for anything, `counted` how often.
    """

    spec: ModelSpec
    share: Share | None = None
    state: EngineState = "stopped"
    message: str = ASLEEP
    failure: str = ""
    process: Process | None = None
    endpoint: Endpoint | None = None
    lora: bool = False
    reasoning: str | None = None
    embeds: bool = False
    adapters: dict[str, EngineStatus] = field(default_factory=dict)
    leaving: dict[str, float] = field(default_factory=dict)
    attempts: int = 0
    ends: int = 0
    again_at: float = 0.0
    since: float = 0.0
    probed: float = 0.0
    canaries: int = 0
    missed: int = 0
    worked: Work | None = None
    looked_frozen: float = 0.0
    frozen: bool = False
    used: float = 0.0
    counted: float = 0.0
    looked_used: float = 0.0
    memory_bytes: int | None = None
    asleep_since: datetime | None = None
    gave_up: datetime | None = None
    wished: float | None = None
    called: bool = False
    drain: Drain | None = None
    task: "asyncio.Task[None] | None" = None

    def shares_a_card_with(self, other: "ManagedEngine") -> bool:
        """Whether both are to run on the same GPU."""
        return bool(self.share and other.share and set(self.share.gpus) & set(other.share.gpus))

    def halt(self) -> None:
        """Ends whatever step it is in the middle of."""
        if self.task:
            self.task.cancel()
            self.task = None


@dataclass(frozen=True)
class DesiredState:
    """What the registry wants: an engine for each of `engines`, and on each the adapters of `adapters`.

    `pinned`: the engines that are never stopped to make room.
    """

    engines: dict[str, ModelSpec]
    adapters: dict[str, dict[str, ModelSpec]]
    pinned: frozenset[str] = frozenset()


def desired_state(specs: list[ModelSpec], pinned: Collection[str] = ()) -> DesiredState:
    """Sorts the registry's models into engines and what hangs on them. Hosted models need neither."""
    own = {spec.id: spec for spec in specs if spec.kind in ("base", "merged")}
    hanging: dict[str, dict[str, ModelSpec]] = {name: {} for name in own}
    for spec in specs:
        if spec.kind == "adapter" and spec.base in hanging:
            hanging[spec.base][spec.id] = spec
    return DesiredState(own, hanging, frozenset(pinned) & own.keys())
