"""The supervisor's record of one engine: its share, process, state, adapters and past work. It starts nothing."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from models.spec import ModelSpec
from serve.fleet.engine_failures import FailureStreak
from serve.fleet.engine_process import EngineProcess
from serve.fleet.engine_states import EngineState, EngineStatus
from serve.fleet.placement import Share
from serve.fleet.replica_names import replica_name
from serve.fleet.vllm_command import Endpoint
from serve.processes.activity import Activity

# What happens after an engine has drained.
AfterDrain = Literal["sleep", "remove", "restart"]
# The gateway polls the registry a few times a second: after this time it sends a draining engine nothing new.
GATEWAY_NOTICES_S = 1.0
ASLEEP = "asleep; starts with the next request"
NO_ROOM = "starts when there is room beside the other engines"
# The smallest share of a core that a working engine uses; an idle engine's housekeeping uses less.
WORKING_SHARE = 0.1


@dataclass(frozen=True)
class Work:
    """An engine's work so far: tokens (None if unknown) and its processes' activity."""

    tokens: float | None
    activity: Activity

    def moved_since(self, before: "Work") -> bool:
        """Whether the engine made progress since, beyond an idle engine's housekeeping."""
        counted = self.tokens is not None and self.tokens != before.tokens
        return counted or self.activity.worked_since(before.activity, WORKING_SHARE)


@dataclass(frozen=True)
class Drain:
    """A drain in progress: running requests finish while new ones no longer reach the engine. `then`: what follows."""

    then: AfterDrain
    why: str
    began: float


@dataclass
class ManagedEngine:
    """One engine as it is now.

    `number`: which replica of its model it is. `removed`: its drain is over and it is not wanted any more.
    Without a `share` it does not run: it has been asleep since `asleep_since`, or failed finally at `gave_up_at`.
    `downloaded`: the small files of a hub model were downloaded for the next start. `preparing`: its files are being
    written, just before its process starts. `lacks_memory`: its start waits for free memory. `unplaced`: its last start
    found no machine with room for it. `attempts` counts starts in a row that never became ready; `failures` also has
    failures soon after a start.
    `activity` and `progressing`: of a start, as last measured. `refuses_adapters`: why it serves no adapters, as a
    clause; empty if it serves them. `requested_at`: when it was requested while asleep. `started_on_request`: such a
    request started it. `used`: when it last had a request; `requests_counted`: how many it had; `load`: how many run
    and wait. `waits_for_request`: it was idle or unloaded, so only a request starts it, not free memory.
    """

    spec: ModelSpec
    number: int = 1
    share: Share | None = None
    state: EngineState = "stopped"
    message: str = ASLEEP
    failure: str = ""
    downloaded: bool = False
    preparing: bool = False
    lacks_memory: bool = False
    unplaced: bool = False
    process: EngineProcess | None = None
    endpoint: Endpoint | None = None
    lora: bool = False
    reasoning: str | None = None
    embeds: bool = False
    refuses_adapters: str = ""
    adapters: dict[str, EngineStatus] = field(default_factory=dict)
    leaving: dict[str, float] = field(default_factory=dict)
    attempts: int = 0
    failures: FailureStreak = field(default_factory=FailureStreak)
    retry_at: float = 0.0
    since: float = 0.0
    probed_at: float = 0.0
    own_probes: int = 0
    missed_probes: int = 0
    worked: Work | None = None
    activity: Activity | None = None
    progressing: bool = True
    frozen_checked_at: float = 0.0
    frozen: bool = False
    used: float = 0.0
    requests_counted: float = 0.0
    load: float = 0.0
    use_checked_at: float = 0.0
    memory_bytes: int | None = None
    asleep_since: datetime | None = None
    gave_up_at: datetime | None = None
    requested_at: float | None = None
    started_on_request: bool = False
    waits_for_request: bool = False
    drain: Drain | None = None
    removed: bool = False
    task: "asyncio.Task[None] | None" = None

    @property
    def name(self) -> str:
        """The name of this replica."""
        return replica_name(self.spec.id, self.number)

    @property
    def placed_spec(self) -> ModelSpec:
        """The spec for placement, which knows engines by their specs' ids."""
        return self.spec if self.number == 1 else self.spec.model_copy(update={"id": self.name})

    def shares_a_card_with(self, other: "ManagedEngine") -> bool:
        """Whether both run on the same GPU."""
        return bool(self.share and other.share and set(self.share.gpus) & set(other.share.gpus))

    def was_idle_for(self, limit_s: float) -> bool:
        """Whether it is ready and had no request for so long, as of the last count, which may be some seconds old."""
        if self.state != "ready" or self.drain:
            return False
        return self.use_checked_at - max(self.used, self.since) > limit_s

    def cancel_step(self) -> None:
        """Cancels its current step."""
        if self.task:
            self.task.cancel()
            self.task = None
