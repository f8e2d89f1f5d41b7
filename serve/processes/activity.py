"""Measures whether a process tree is working, even on a machine that is busy with other programs."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from serve.processes.children import Process

# A working thread is runnable most of the time. A thread that only wakes up now and then is not, however long it waits
# for a core each time.
_WANTED_SHARE = 0.25


@dataclass(frozen=True)
class Activity:
    """What a process tree had done by the monotonic time `at`.

    `cpu_seconds`: CPU time, including processes that have ended. `wanted_seconds`: thread id → seconds for which it ran
    or waited for a core. `output_bytes`: bytes read from and written to disks, plus the size of the log.
    """

    at: float
    cpu_seconds: float = 0.0
    wanted_seconds: Mapping[int, float] = field(default_factory=lambda: MappingProxyType({}))
    output_bytes: int = 0

    def worked_since(self, before: "Activity", share: float) -> bool:
        """Whether it has since used more than `share` of a core, or one of its threads was runnable for long enough.

        Args:
            before: an earlier measurement. share: more than an idle program's housekeeping uses.
        """
        elapsed = max(self.at - before.at, 1.0)
        if self.cpu_seconds - before.cpu_seconds > share * elapsed:
            return True
        return any(
            wanted - before.wanted_seconds.get(thread, 0.0) > _WANTED_SHARE * elapsed
            for thread, wanted in self.wanted_seconds.items()
        )

    def moved_data_since(self, before: "Activity") -> bool:
        """Whether it has since written to its log, or read from or written to a disk."""
        return self.output_bytes > before.output_bytes


def measure_activity(process: Process, *, spins: bool = False) -> Activity:
    """The activity of a process tree now.

    Args:
        spins: whether its threads use the CPU while they wait, as with CUDA. Then only processes that have ended, such
            as compilers, count.
    """
    wanted = {} if spins else process.wanted_seconds()
    return Activity(time.monotonic(), process.cpu_seconds(ended_only=spins), wanted, process.output_bytes())
