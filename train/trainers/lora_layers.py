"""LoRA layers with fewer passes over memory, on a CPU in float32.

peft's layer computes W·x, B·A·x and their sum one after another, each into new memory, and autograd adds two gradients
for x. On a CPU these passes take as long as a third of the products themselves. Here the adapter's products are added
in place, forward and backward. The layer's weights, and so what is saved, are the same.
"""

import types
from typing import Any

import torch
from peft.tuners.lora.layer import Linear


def fuse_lora_layers(model: Any) -> int:
    """Replaces the forward pass of a model's plain LoRA layers in float32; returns their number.

    A layer with dropout, DoRA, a bias of its own or another dtype keeps peft's. So does a fused layer while its adapter
    is disabled or merged, or under autocast.
    """
    layers = [module for module in model.modules() if type(module) is Linear and _can_be_fused(module)]
    for layer in layers:
        layer.forward = types.MethodType(_forward, layer)
    return len(layers)


def _can_be_fused(layer: Linear) -> bool:
    names = layer.active_adapters
    if len(names) != 1 or type(layer.base_layer) is not torch.nn.Linear or layer.fan_in_fan_out:
        return False
    name = names[0]
    weights = (layer.base_layer.weight, layer.lora_A[name].weight, layer.lora_B[name].weight)
    return (
        name not in layer.lora_variant
        and not layer.lora_bias[name]
        and isinstance(layer.lora_dropout[name], torch.nn.Identity)
        and not layer.base_layer.weight.requires_grad
        and all(weight.dtype == torch.float32 and weight.device.type == "cpu" for weight in weights)
    )


def _forward(self: Linear, x: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
    plain = args or options or self.disable_adapters or self.merged or torch.is_autocast_enabled("cpu")
    if plain or x.dtype != torch.float32:
        return type(self).forward(self, x, *args, **options)
    name, base = self.active_adapters[0], self.base_layer
    down, up = self.lora_A[name].weight, self.lora_B[name].weight
    return _LoraProduct.apply(x, base.weight, base.bias, down, up, self.scaling[name])


class _LoraProduct(torch.autograd.Function):
    """x·Wᵀ + bias + scaling · x·Aᵀ·Bᵀ, where W and its bias are frozen.

    Arguments: x (…, in), weight (out, in), bias (out) or None, down A (rank, in), up B (out, rank), scaling.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        down: torch.Tensor,
        up: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        inner = (rows @ down.t()).mul_(scaling)
        output = rows @ weight.t() if bias is None else torch.addmm(bias, rows, weight.t())
        output.addmm_(inner, up.t())
        ctx.save_for_backward(rows, inner, weight, down, up)
        ctx.scaling, ctx.shape = scaling, x.shape
        return output.view(*x.shape[:-1], len(weight))  # an expert may get no tokens

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:  # type: ignore[override]  # torch declares it without types
        rows, inner, weight, down, up = ctx.saved_tensors
        gradient = gradient.reshape(-1, gradient.shape[-1])
        through = (gradient @ up).mul_(ctx.scaling)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = (gradient @ weight).addmm_(through, down).view(ctx.shape)
        return of_x, None, None, through.t() @ rows, gradient.t() @ inner, None
