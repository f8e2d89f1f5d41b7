"""Short measured windows of training steps, in a process that waits for its turn between them.

Two programs that are compared on one machine take turns every few steps, so that other load slows both.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from train.trainers.runtime import Memory

_PREFIX = "window: "


@dataclass(frozen=True)
class WindowJob:
    """What both sides train on. `rows` are chat rows; `order` the rows of each step, one after another.

    `windows` is the number of steps of each window; the first one warms up and is not compared.
    """

    base: str
    rows: tuple[dict[str, Any], ...]
    order: tuple[int, ...]
    validation: tuple[dict[str, Any], ...]
    batch: int
    windows: tuple[int, ...]
    threads: int
    rank: int = 16
    alpha: int = 32
    rate: float = 1e-3
    seed: int = 0
    max_length: int = 1_024


@dataclass(frozen=True)
class Window:
    """One window: its seconds, the loss of each step, and the process's peak memory so far in bytes."""

    seconds: float
    losses: tuple[float, ...]
    peak_memory_bytes: int


class WindowsDone(Exception):
    """Ends a training after its last window."""


class WindowClock:
    """Cuts a training into windows: reports each, then waits for its next turn."""

    def __init__(self, sizes: Sequence[int], report: Callable[[Window], None], wait: Callable[[], None]) -> None:
        self._sizes, self._report, self._wait = list(sizes), report, wait
        self._memory = Memory("cpu")
        self._losses: list[float] = []
        self._began = time.perf_counter()

    def tick(self, loss: float) -> None:
        """Records a finished step.

        Raises:
            WindowsDone: it was the last one.
        """
        self._losses.append(loss)
        if len(self._losses) < self._sizes[0]:
            return
        self._report(Window(time.perf_counter() - self._began, tuple(self._losses), self._memory.peak()))
        self._sizes.pop(0)
        if not self._sizes:
            raise WindowsDone
        self._wait()
        self._losses, self._began = [], time.perf_counter()


class Side:
    """One side in a process of its own. A context manager, which ends the process."""

    def __init__(self, name: str, job: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.real.sides", name, str(job)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._name, self._started = name, False

    def next_window(self) -> Window:
        """Lets it train for one window; the first call waits for its start and the warm-up.

        Raises:
            RuntimeError: it ended early.
        """
        assert self._process.stdin
        assert self._process.stdout
        if self._started:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        self._started = True
        for line in self._process.stdout:
            if line.startswith(_PREFIX):  # TRL prints lines of its own
                values = json.loads(line.removeprefix(_PREFIX))
                return Window(**values | {"losses": tuple(values["losses"])})
        raise RuntimeError(f"{self._name} ended early with status {self._process.wait()}")

    def __enter__(self) -> "Side":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()


def print_window(window: Window) -> None:
    """Reports a window to the process that waits for it."""
    print(f"{_PREFIX}{json.dumps(asdict(window))}", flush=True)
