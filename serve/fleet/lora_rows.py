"""A vLLM plugin for engines on CPUs: rows without an adapter stay without one in a batch with adapters.

vLLM numbers an engine's adapter slots, and gives rows without an adapter the number -1. Its kernels for CPUs use the
number as an index into the weights of the slots, and -1 is the last one: while an adapter occupies that slot, requests
to the base model in the same batch are answered with it. The kernels for GPUs skip these rows. Seen in vLLM 0.32
(`vllm/lora/ops/torch_ops/lora_ops.py`).
"""

from importlib import import_module
from typing import Any

PLUGIN = "parley_lora_rows"
_KERNELS = "vllm.lora.ops.torch_ops.lora_ops"
_IMPORTED_BY = ("vllm.lora.ops.torch_ops", "vllm.lora.punica_wrapper.punica_cpu")


def skip_rows_without_adapter() -> bool:
    """Make the first kernel of each layer return zeros for rows without an adapter; whether it will. False on a GPU."""
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return False
    kernels: Any = import_module(_KERNELS)
    shrink = kernels.bgmv_shrink

    def bgmv_shrink(inputs: Any, weights: Any, output: Any, slots: Any, scaling: float = 1.0) -> None:
        shrink(inputs, weights, output, slots, scaling)
        output[:, : weights.shape[-2]].masked_fill_((slots < 0).unsqueeze(1), 0)

    for name in (_KERNELS, *_IMPORTED_BY):  # each holds the function under this name
        module: Any = import_module(name)
        module.bgmv_shrink = bgmv_shrink
    return True
