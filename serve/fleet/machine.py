"""The machine's cores, memory and NVIDIA GPUs. Read from the system and nvidia-smi, never with torch."""

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

import psutil

from models.errors import Invalid, ParleyError, Unavailable
from models.settings import Settings, visible_gpus
from models.spec import ModelSpec

_GIB = 1024**3
_LEAST_KV_BYTES = 64 * 1024**2


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA GPU by its nvidia-smi index; memory in MiB."""

    index: int
    name: str
    memory_mib: int
    uuid: str = ""


@dataclass(frozen=True)
class Machine:
    """What engines can use: core ids, bytes of memory, GPUs (none if engines run on the CPU)."""

    cores: tuple[int, ...]
    memory_bytes: int
    gpus: tuple[Gpu, ...] = ()

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """What engines run on."""
        return "cuda" if self.gpus else "cpu"


@dataclass(frozen=True)
class Share:
    """One engine's share of the machine: on a CPU, cores and bytes of KV cache; on GPUs, their indices and memory
    share.
    """

    device: Literal["cpu", "cuda"]
    cores: tuple[int, ...] = ()
    kv_cache_bytes: int = 0
    gpus: tuple[int, ...] = ()
    gpu_memory_share: float = 0.0


@dataclass(frozen=True)
class Fit:
    """Model id → share for the engines that fit; model id → reason for those that do not."""

    shares: dict[str, Share] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def detect_machine(settings: Settings) -> Machine:
    """This machine, limited by the settings and CUDA_VISIBLE_DEVICES.

    Raises:
        Unavailable: device is cuda and there is no GPU, or CUDA_VISIBLE_DEVICES names a missing one.
    """
    cores = tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()
    gpus = () if settings.device == "cpu" else allowed_gpus(find_gpus(), visible_gpus())
    if settings.device == "cuda" and not gpus:
        raise Unavailable(
            "The device is set to cuda, but nvidia-smi shows no GPU that CUDA_VISIBLE_DEVICES allows. Fix the driver "
            "or that variable, or set PARLEY_DEVICE=cpu."
        )
    return Machine(cores or tuple(range(os.cpu_count() or 1)), psutil.virtual_memory().total, gpus)


def find_gpus() -> tuple[Gpu, ...]:
    """The NVIDIA GPUs that `nvidia-smi` lists; none if it is missing or fails."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    query = [program, "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return parse_gpus(done.stdout)


def free_gpu_bytes() -> int:
    """Free memory of the emptiest GPU that engines may use; 0 if nvidia-smi does not report it."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return 0
    query = [program, "--query-gpu=index,uuid,name,memory.free", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
        cards = allowed_gpus(parse_gpus(done.stdout), visible_gpus())
    except (OSError, subprocess.SubprocessError, Unavailable):
        return 0
    return max((card.memory_mib for card in cards), default=0) * 1024**2


def parse_gpus(listing: str) -> tuple[Gpu, ...]:
    """Parses `nvidia-smi --query-gpu=index,uuid,name,memory.total --format=csv,noheader,nounits`."""
    found = []
    for line in listing.splitlines():
        index, _, rest = line.partition(",")
        uuid, _, rest = rest.partition(",")
        name, _, memory = rest.rpartition(",")
        if index.strip().isdigit() and memory.strip().isdigit():
            found.append(Gpu(int(index), name.strip(), int(memory), uuid.strip()))
    return tuple(found)


def allowed_gpus(found: Sequence[Gpu], visible: str | None) -> tuple[Gpu, ...]:
    """The GPUs in `found` that CUDA_VISIBLE_DEVICES allows; all of them if it is None.

    Its value is a comma-separated list of nvidia-smi indices, UUIDs or UUID prefixes. As in CUDA, empty or -1 allows
    none.

    Raises:
        Unavailable: it names a missing GPU.
    """
    if visible is None or not found:
        return tuple(found)
    allowed = []
    for name in (part.strip() for part in visible.split(",")):
        if name in ("", "-1"):
            break
        card = next((gpu for gpu in found if name == str(gpu.index) or _is_uuid(name, gpu)), None)
        if card is None:
            raise Unavailable(f"CUDA_VISIBLE_DEVICES names {name!r}, but nvidia-smi lists no such GPU.")
        allowed.append(card)
    return tuple(dict.fromkeys(allowed))


def _is_uuid(name: str, gpu: Gpu) -> bool:
    return name.startswith("GPU-") and gpu.uuid.startswith(name)


def fit(
    machine: Machine,
    engines: Sequence[ModelSpec],
    settings: Settings,
    placed: Mapping[str, tuple[int, ...]],
    check: Callable[[Mapping[str, Share], Mapping[str, ModelSpec]], None] | None = None,
) -> Fit:
    """Plans as many of the engines as fit: one that asks for too much does not keep others from running.

    Args:
        engines: in order of priority.
        placed: model id → GPUs of the engines that stay where they are.
        check: raises a ParleyError if shares do not fit into memory: see `serve.fleet.memory`.
    """
    admitted: list[ModelSpec] = []
    found = Fit()
    for spec in engines:
        try:
            shares = plan(machine, [*admitted, spec], settings, placed)
            if check is not None and spec.id not in placed:
                check(shares, {one.id: one for one in (*admitted, spec)})
        except ParleyError as error:
            found.refused[spec.id] = str(error)
        else:
            admitted.append(spec)
            found = Fit(shares, found.refused)
    return found


def plan(
    machine: Machine,
    engines: Sequence[ModelSpec],
    settings: Settings,
    placed: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
) -> dict[str, Share]:
    """Model id → share, for engines that run side by side.

    On a CPU each gets its own cores if there are enough (two engines bound to the same core ran at half speed) and an
    equal part of the KV cache. On a GPU each gets an equal part of its GPU's `gpu_memory_share` unless its spec asks
    for a share. Engines go to the GPU with the most room, those with tensor parallelism to several. Engines in `placed`
    keep their GPUs.

    Raises:
        Invalid: the specs ask for more than there is.
    """
    return _plan_gpu(machine, engines, settings, placed) if machine.gpus else _plan_cpu(machine, engines, settings)


def _plan_cpu(machine: Machine, engines: Sequence[ModelSpec], settings: Settings) -> dict[str, Share]:
    if not engines:
        return {}
    kv_cache = max(int(settings.cpu_kv_cache_gib * _GIB / len(engines)), _LEAST_KV_BYTES)
    # With five or more cores, one is left to the gateway and the page.
    cores = machine.cores[1:] if len(machine.cores) > 4 else machine.cores
    shares = {}
    for number, spec in enumerate(engines):
        if len(cores) >= len(engines):
            start = number * len(cores) // len(engines)
            own = cores[start : (number + 1) * len(cores) // len(engines)]
        else:
            own = (cores[number % len(cores)],)
        shares[spec.id] = Share("cpu", cores=own, kv_cache_bytes=kv_cache)
    return shares


def _plan_gpu(
    machine: Machine, engines: Sequence[ModelSpec], settings: Settings, placed: Mapping[str, tuple[int, ...]]
) -> dict[str, Share]:
    limit = settings.gpu_memory_share
    asked: dict[int, float] = {gpu.index: 0.0 for gpu in machine.gpus}
    sharing: dict[int, int] = {gpu.index: 0 for gpu in machine.gpus}
    places: dict[str, tuple[int, ...]] = {}
    for spec in sorted(engines, key=lambda one: (one.id not in placed, -one.engine.tensor_parallel_size)):
        gpu_count = spec.engine.tensor_parallel_size
        if gpu_count > len(machine.gpus):
            raise Invalid(f"{spec.id} needs {gpu_count} GPUs; this machine has {len(machine.gpus)}.", param="engine")
        least = sorted(asked, key=lambda index: (sharing[index] + 10 * asked[index], index))[:gpu_count]
        places[spec.id] = placed.get(spec.id) or tuple(sorted(least))
        for index in places[spec.id]:
            asked[index] += spec.engine.gpu_memory_share or 0.0
            sharing[index] += spec.engine.gpu_memory_share is None
    shares = {}
    for spec in engines:
        cards = places[spec.id]
        left = min((limit - asked[index]) / max(sharing[index], 1) for index in cards)
        if max(asked[index] for index in cards) > limit + 1e-9 or (spec.engine.gpu_memory_share is None and left <= 0):
            raise Invalid(
                f"The engines on GPU {cards[0]} ask for more than {limit:.0%} of its memory: lower their "
                "gpu_memory_share, or retire a model.",
                param="gpu_memory_share",
            )
        share = spec.engine.gpu_memory_share or int(left * 1000) / 1000
        shares[spec.id] = Share("cuda", gpus=cards, gpu_memory_share=share)
    return shares
