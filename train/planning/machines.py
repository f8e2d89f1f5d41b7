"""The machine that a plan is for: this one, or another GPU by its data sheet.

Speeds are for dense bf16 with float32 sums. They have not been compared with a real GPU yet.
"""

from dataclasses import dataclass
from pathlib import Path

from models.errors import NotFound

_FREE_SHARE = 0.97  # of a GPU's memory: the driver reserves the rest


@dataclass(frozen=True)
class Machine:
    """The machine: `device` is "cpu" or "cuda"; memory in bytes, of the GPU or of the system."""

    device: str
    name: str
    memory: int
    free: int
    bf16: bool


@dataclass(frozen=True)
class Gpu:
    """A GPU by its data sheet: memory in bytes, and operations per second."""

    name: str
    memory: int
    operations_per_s: float

    @property
    def machine(self) -> Machine:
        """A machine with this GPU and nothing on it."""
        return Machine("cuda", self.name, self.memory, round(_FREE_SHARE * self.memory), True)


# Data sheets: NVIDIA Ada GPU architecture 2.1 (RTX 4090), NVIDIA L4 (1.0), NVIDIA A100 80GB (June 2021), NVIDIA H100
# (2.4, SXM). Sheets with sparsity list twice these speeds.
GPUS = {
    "l4": Gpu("NVIDIA L4 (24 GB)", 24 * 2**30, 121e12),
    "rtx-4090": Gpu("NVIDIA RTX 4090 (24 GB)", 24 * 2**30, 165e12),
    "a100-80gb": Gpu("NVIDIA A100 (80 GB)", 80 * 2**30, 312e12),
    "h100-80gb": Gpu("NVIDIA H100 SXM (80 GB)", 80 * 2**30, 989e12),
}


def find_gpu(name: str) -> Gpu:
    """The GPU of this name in GPUS.

    Raises:
        NotFound: there is none; the message lists the names.
    """
    try:
        return GPUS[name]
    except KeyError:
        raise NotFound(f"There is no data sheet for the GPU {name!r}: use {', '.join(GPUS)}.", param="gpu") from None


def find_machine(device: str, bf16: bool = False) -> Machine:
    """This machine: its device and current memory. A container's limit applies if it is lower."""
    if device == "cuda":
        import torch

        free, whole = torch.cuda.mem_get_info()
        return Machine(device, torch.cuda.get_device_name(), whole, free, bf16)
    import psutil

    memory = psutil.virtual_memory()
    limit, used = _container_memory()
    free = min(memory.available, limit - used) if limit else memory.available
    cores = len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process(), "cpu_affinity") else psutil.cpu_count()
    return Machine(device, f"CPU, {cores} cores", min(memory.total, limit or memory.total), max(0, free), bf16)


def _container_memory() -> tuple[int | None, int]:
    """The limit of the control group and its use, in bytes; None if there is no limit."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text().strip()
        return (int(limit), int((folder / "memory.current").read_text())) if limit != "max" else (None, 0)
    except (OSError, ValueError):
        return None, 0
