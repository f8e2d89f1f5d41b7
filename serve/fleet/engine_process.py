"""The processes of a running engine, on this machine or on another one."""

from typing import NamedTuple, Protocol

from serve.fleet.vllm_command import Endpoint


class EngineProcess(Protocol):
    """What the supervisor needs of them. `serve.processes.children.Process` implements it for this machine."""

    @property
    def pid(self) -> int:
        """The guardian's pid, on the engine's machine."""
        ...

    def exit_code(self) -> int | None:
        """None while it runs; then its status, 128 + signal where one ended it."""
        ...

    def exit_reason(self) -> str:
        """How it ended, as a clause. Call it after `exit_code`."""
        ...

    def last_words(self) -> str:
        """The log line that best explains its end."""
        ...

    def is_frozen(self, *, whole_tree: bool = False) -> bool:
        """Whether one of its processes is stopped by a signal."""
        ...

    def memory_bytes(self) -> int:
        """Resident memory."""
        ...

    def ask_to_stop(self) -> None:
        """Starts to stop it without waiting."""
        ...

    def stop(self) -> int:
        """Stops it and waits until nothing is left of it; returns its status."""
        ...

    def kill(self) -> int:
        """Stops it without a grace, and waits; returns its status."""
        ...


class StartedEngine(NamedTuple):
    """A new engine: its processes, its address, and on another machine, where it runs."""

    process: EngineProcess
    endpoint: Endpoint
    place: str = ""
