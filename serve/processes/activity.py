"""Whether a process tree works, also on a machine that is busy with other programs. It decides nothing about it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from serve.processes.children import Process

# A thread that works is ready to run most of the time; one that only wakes up now and then is not, however long it
# waits for a core each time.
_WANTED_SHARE = 0.25


@dataclass(frozen=True)
class Activity:
    """What a process tree has done until the monotonic time `at`.

    `cpu_seconds`: CPU time, also of processes that have ended. `wanted_seconds`: thread id → seconds in which it ran or
    waited for a core. `output_bytes`: bytes moved to and from disks, and the log's size.
    """

    at: float
    cpu_seconds: float = 0.0
    wanted_seconds: Mapping[int, float] = field(default_factory=lambda: MappingProxyType({}))
    output_bytes: int = 0

    def worked_since(self, before: "Activity", share: float) -> bool:
        """Whether it used more than `share` of a core since, or a thread would have if it had got a core.

        Args:
            before: an earlier measurement. share: what an idle program's housekeeping stays below.
        """
        elapsed = max(self.at - before.at, 1.0)
        if self.cpu_seconds - before.cpu_seconds > share * elapsed:
            return True
        return any(
            wanted - before.wanted_seconds.get(thread, 0.0) > _WANTED_SHARE * elapsed
            for thread, wanted in self.wanted_seconds.items()
        )

    def moved_data_since(self, before: "Activity") -> bool:
        """Whether it wrote to its log, or read from or wrote to a disk."""
        return self.output_bytes > before.output_bytes


def measure_activity(process: Process, *, spins: bool = False) -> Activity:
    """The activity of a process tree now.

    Args:
        spins: whether its threads use the CPU while they wait, as with CUDA: then only processes that have ended count,
            such as compilers.
    """
    wanted = {} if spins else process.wanted_seconds()
    return Activity(time.monotonic(), process.cpu_seconds(ended_only=spins), wanted, process.output_bytes())
