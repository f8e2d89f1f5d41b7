"""How several GPUs or nodes hold a model: each a copy (DDP), or together one that they divide (FSDP).

Calculated, like the whole plan. FSDP was tested only over gloo on CPUs, not yet on GPUs.
"""

from dataclasses import dataclass, replace

from train.planning.machines import Machine
from train.planning.needs import Shape, Step, Tune, need
from train.request import Shard

_SHARE = 0.9  # of a card's memory that a run may use, as in a plan


@dataclass(frozen=True)
class Spread:
    """How a number of processes hold a model. `whole` and `divided`: bytes of memory per process, with a copy of the
    base and with a part of it; `divided` is None if the method cannot be divided. `fits`: whether the choice fits.
    """

    processes: int
    shard: Shard
    whole: int
    divided: int | None
    memory: int
    fits: bool

    @property
    def reason(self) -> str:
        """The reason for the choice, as a sentence without a full stop."""
        each = f"{_gb(self.whole)} for a copy of the model, of {_gb(self.memory)}"
        if self.shard == "none" and self.fits:
            return f"a copy in each of the {self.processes} processes (DDP), because it fits: {each}"
        if self.divided is None:
            return (
                f"a copy in each of the {self.processes} processes (DDP), which does not fit: {each}. Only the base of "
                "a LoRA can be divided (FSDP): use --tune lora, or qlora for less memory"
            )
        needs = f"{_gb(self.divided)} in each process instead of {each}"
        if self.fits:
            return f"the base divided among {self.processes} processes (FSDP, not yet tested on GPUs): {needs}"
        return f"too large for {self.processes} processes, even with a divided base (FSDP): {needs}. Use more GPUs"


def choose_spread(tune: Tune, shape: Shape, step: Step, machine: Machine, processes: int) -> Spread:
    """Chooses a copy of the model in each process if it fits on a GPU, else a divided base if the method allows it.

    Calculates with the GPU's whole memory, so that nodes with the same GPUs choose the same.
    """
    room = _SHARE * machine.memory
    whole = need(tune, shape, step).total
    divided = need(tune, shape, replace(step, shards=processes)).total if tune == "lora" else None
    divides = divided is not None and whole > room
    chosen = divided if divides and divided is not None else whole
    return Spread(processes, "fsdp" if divides else "none", whole, divided, machine.memory, chosen <= room)


def _gb(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"
