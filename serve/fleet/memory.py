"""The memory that an engine needs and the memory that is free: estimated before a start, measured where possible.

On a CPU an engine needs its weights, the planned KV cache, and vLLM's overhead. On a GPU vLLM takes its whole share,
which must hold the weights and the KV cache of one request.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from models.errors import Unavailable
from models.settings.settings import Settings
from models.spec import ModelSpec
from serve.fleet import machine
from serve.fleet.machine import Machine
from serve.fleet.model_files import find_model_files
from serve.fleet.placement import Share

_GIB = 1024**3
# Python, torch, vLLM and buffers, beside weights and cache. Measured 1.1 GiB (docs/log.md, 2026-11-22); long prompts
# need some more.
CPU_OVERHEAD_BYTES = int(1.3 * _GIB)
GPU_OVERHEAD_BYTES = int(1.5 * _GIB)
# Left free for the gateway, the page, the worker and the rest of the machine.
_KEPT_FREE_BYTES = _GIB // 2
_CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current"), Path("/sys/fs/cgroup/memory.stat")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.stat"),
    ),
)


@dataclass(frozen=True)
class MemoryNeed:
    """What an engine needs on its device, in bytes. `weights` is 0 and `known` False if its size is unknown."""

    weights: int
    cache: int
    overhead: int
    known: bool = True

    @property
    def total(self) -> int:
        """The sum."""
        return self.weights + self.cache + self.overhead


@dataclass(frozen=True)
class MemoryUse:
    """What a placed engine uses, in bytes: by plan, and what it has already allocated."""

    planned: int
    taken: int


def available_bytes() -> int:
    """Memory that a new process could allocate: the machine's or this container's, whichever is less."""
    return min([psutil.virtual_memory().available, *[left for left in map(_cgroup_left, _CGROUPS) if left is not None]])


class MemoryBudget:
    """The memory of one machine under its settings. `reserved`: bytes that jobs have reserved and not allocated yet."""

    def __init__(self, where: Machine, settings: Settings, available: Callable[[], int] = available_bytes) -> None:
        self._machine = where
        self._settings = settings
        self._available = available
        self._known_weight_bytes: dict[str, int] = {}
        self.reserved = 0

    def need(self, spec: ModelSpec, share: Share) -> MemoryNeed:
        """What the engine needs with this share."""
        weights = self._weight_bytes(spec)
        if share.device == "cpu":
            return MemoryNeed(weights or 0, share.kv_cache_bytes, CPU_OVERHEAD_BYTES, weights is not None)
        gpu_count = max(len(share.gpus), 1)
        one_request = (self._request_cache_bytes(spec) or 0) // gpu_count
        return MemoryNeed((weights or 0) // gpu_count, one_request, GPU_OVERHEAD_BYTES, weights is not None)

    def free(self, held: Mapping[str, MemoryUse], freed: int) -> int:
        """Bytes for engines beside the running ones."""
        if self._settings.engine_memory_gib is not None:
            return int(self._settings.engine_memory_gib * _GIB) - sum(use.planned for use in held.values())
        promised = sum(use.planned - use.taken for use in held.values())
        return self._available() - _KEPT_FREE_BYTES - self.reserved - promised + freed

    def missing(self) -> int:
        """How many bytes of the jobs' reservations are not free."""
        if not self.reserved:
            return 0
        free = machine.free_gpu_bytes() if self._machine.gpus else self._available()
        return max(self.reserved - free, 0)

    def check(
        self, shares: Mapping[str, Share], specs: Mapping[str, ModelSpec], held: Mapping[str, MemoryUse], freed: int = 0
    ) -> None:
        """Checks that engines with these shares fit beside each other.

        Args:
            held: model id → use of the engines that keep running.
            freed: bytes used by engines that would be stopped.

        Raises:
            Unavailable: what does not fit, what it needs, and what is free.
        """
        if self._machine.gpus:
            self._check_gpu(shares, specs)
            return
        newcomers = [name for name in shares if name not in held]
        for name in newcomers:
            self.check_cache(specs[name], shares[name])
        free = self.free(held, freed)
        wanted = sum(self.need(specs[name], shares[name]).total for name in newcomers)
        if wanted > free:
            name = newcomers[-1]
            needed = self.need(specs[name], shares[name])
            others = wanted - needed.total
            raise Unavailable(
                f"{name} needs {_gib(needed.total)} ({_gib(needed.weights)} of weights, {_gib(needed.cache)} of KV "
                f"cache, {_gib(needed.overhead)} for vLLM itself); {_gib(max(free - others, 0))} are free"
            )

    def missing_for_start(self, spec: ModelSpec, share: Share) -> str | None:
        """A measurement right before a start: None if the memory is free, otherwise what is missing."""
        if self._machine.gpus:
            return "waiting for memory: a job has reserved it" if self.reserved else None
        needed, free = self.need(spec, share).total, self._available() - self.reserved
        return None if needed <= free else f"waiting for memory: it needs {_gib(needed)}, {_gib(free)} are free"

    def _check_gpu(self, shares: Mapping[str, Share], specs: Mapping[str, ModelSpec]) -> None:
        cards = {gpu.index: gpu.memory_mib * 1024**2 for gpu in self._machine.gpus}
        for name, share in shares.items():
            given = int(min(cards[index] for index in share.gpus) * share.gpu_memory_share)
            needed = self.need(specs[name], share)
            if needed.known and needed.total > given:
                raise Unavailable(
                    f"{name} needs {_gib(needed.total)} on GPU {share.gpus[0]} ({_gib(needed.weights)} of weights, "
                    f"{_gib(needed.cache)} of KV cache for one request), its share would be {_gib(given)}: set a "
                    "shorter max_model_len, or more GPUs with tensor_parallel_size"
                )

    def check_cache(self, spec: ModelSpec, share: Share) -> None:
        """Checks that an engine's KV cache on a CPU holds one request of maximum length.

        Raises:
            Unavailable: it does not, and what to change.
        """
        cache_bytes = self._request_cache_bytes(spec)
        if cache_bytes is None or cache_bytes <= share.kv_cache_bytes:
            return
        tokens, per_token = self._context(spec), find_model_files(spec).kv_bytes_per_token()
        assert tokens is not None
        assert per_token is not None
        raise Unavailable(
            f"{spec.id}: a context of {tokens:,} tokens needs {_gib(cache_bytes)} of KV cache, "
            f"{_gib(share.kv_cache_bytes)} are planned: set max_model_len to "
            f"{share.kv_cache_bytes // per_token // 16 * 16} or less, or raise "
            "cpu_kv_cache_gib"
        )

    def _request_cache_bytes(self, spec: ModelSpec) -> int | None:
        """The KV cache of one request of maximum length; vLLM does not start with less."""
        tokens, per_token = self._context(spec), find_model_files(spec).kv_bytes_per_token()
        return tokens * per_token if tokens and per_token else None

    def _context(self, spec: ModelSpec) -> int | None:
        return spec.engine.max_model_len or find_model_files(spec).context()

    def _weight_bytes(self, spec: ModelSpec) -> int | None:
        # A model version's files never change.
        if (
            spec.id not in self._known_weight_bytes
            and (size := find_model_files(spec).loaded_bytes(spec.engine.dtype)) is not None
        ):
            self._known_weight_bytes[spec.id] = size
        return self._known_weight_bytes.get(spec.id)


def _gib(size: int) -> str:
    return f"{size / _GIB:.1f} GiB"


def _cgroup_left(files: tuple[Path, Path, Path]) -> int | None:
    """What a container's limit leaves free; None without a limit. Cached files count as free, because they can be
    dropped.
    """
    limit, used, statistics = files
    try:
        most = int(limit.read_text())
        taken = int(used.read_text())
        lines = dict(line.split() for line in statistics.read_text().splitlines())
    except (OSError, ValueError):
        return None
    if most >= psutil.virtual_memory().total:
        return None
    return max(most - taken + int(lines.get("inactive_file", lines.get("total_inactive_file", 0))), 0)
