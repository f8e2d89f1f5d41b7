"""The machine's cores, memory and NVIDIA GPUs. Read from the system and nvidia-smi, never with torch."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import psutil

from models.errors import Unavailable
from models.settings.environment import visible_gpus
from models.settings.settings import Settings


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
    gpus = []
    for line in listing.splitlines():
        index, _, rest = line.partition(",")
        uuid, _, rest = rest.partition(",")
        name, _, memory = rest.rpartition(",")
        if index.strip().isdigit() and memory.strip().isdigit():
            gpus.append(Gpu(int(index), name.strip(), int(memory), uuid.strip()))
    return tuple(gpus)


def allowed_gpus(gpus: Sequence[Gpu], visible: str | None) -> tuple[Gpu, ...]:
    """The GPUs in `gpus` that CUDA_VISIBLE_DEVICES allows; all of them if it is None.

    Its value is a comma-separated list of nvidia-smi indices, UUIDs or UUID prefixes. As in CUDA, empty or -1 allows
    none.

    Raises:
        Unavailable: it names a missing GPU.
    """
    if visible is None or not gpus:
        return tuple(gpus)
    allowed = []
    for name in (part.strip() for part in visible.split(",")):
        if name in ("", "-1"):
            break
        card = next((gpu for gpu in gpus if name == str(gpu.index) or _is_uuid(name, gpu)), None)
        if card is None:
            raise Unavailable(f"CUDA_VISIBLE_DEVICES names {name!r}, but nvidia-smi lists no such GPU.")
        allowed.append(card)
    return tuple(dict.fromkeys(allowed))


def _is_uuid(name: str, gpu: Gpu) -> bool:
    return name.startswith("GPU-") and gpu.uuid.startswith(name)
