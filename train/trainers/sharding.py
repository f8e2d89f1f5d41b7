"""FSDP of a frozen base: each process holds a part of the decoder layers' weights and gathers a layer while it runs.

The adapter, which is trained, is not divided and runs under DDP as without sharding, so that checkpoints, saving and
resuming are the same. Embeddings, the last layer and norms outside the decoder layers are not divided either. PyTorch's
FSDP2: https://docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html. Not yet tested on GPUs.
"""

from typing import Any

import torch
from torch.distributed import fsdp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from models.errors import Invalid


def shard_base(model: Any, device: str, processes: int) -> None:
    """Divides the weights of the decoder layers among all processes and moves them to the device, layer by layer.

    The model must not have an adapter yet: weights that are added to its layers later are not divided.

    Raises:
        Invalid: the model has no list of decoder layers.
    """
    model.requires_grad_(False)
    mesh = init_device_mesh(device, (processes,))
    for layer in _decoder_layers(model):
        fsdp.fully_shard(layer, mesh=mesh)


def exclude_from_ddp(model: Any) -> int:
    """Excludes divided weights from DDP's broadcast at its start, which expects whole ones; returns their number."""
    divided = [name for name, parameter in model.named_parameters() if isinstance(parameter, DTensor)]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, divided)
    return len(divided)


def _decoder_layers(model: Any) -> list[Any]:
    number = model.config.get_text_config().num_hidden_layers
    lists = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList) and len(module) == number]
    if not lists:
        raise Invalid("The base has no list of decoder layers to divide: leave --shard out.", param="shard")
    return list(lists[0])
