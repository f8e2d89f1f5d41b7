"""train/trainers/lora_layers.py: a fused layer computes what PEFT's computes, and falls back to it where it cannot."""

from pathlib import Path
from typing import Any

import pytest
import torch

from train.trainers.lora_layers import fuse_lora_layers

pytestmark = pytest.mark.training


def adapted(tiny_base: Path, **options: Any) -> Any:
    """The tiny base with an adapter that changes its answers."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    base: Any = AutoModelForCausalLM.from_pretrained(str(tiny_base), dtype=torch.float32)
    config = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=4, lora_alpha=8, **options)
    model = get_peft_model(base, config)
    generator = torch.Generator().manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data = torch.randn(weight.shape, generator=generator) * 0.05
    return model


def logits_and_gradients(model: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    ids = torch.arange(48).view(2, 24)
    model.zero_grad()
    logits = model(input_ids=ids).logits
    logits.square().mean().backward()
    gradients = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    return logits.detach(), gradients


def test_fused_layers_give_the_same_logits_and_gradients(tiny_base: Path) -> None:
    model = adapted(tiny_base)
    logits, gradients = logits_and_gradients(model)
    assert fuse_lora_layers(model) == 14  # seven in each of two blocks
    fused_logits, fused_gradients = logits_and_gradients(model)
    assert torch.allclose(logits, fused_logits, rtol=1e-4, atol=1e-5)
    assert gradients.keys() == fused_gradients.keys()
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, fused_gradients[name], rtol=1e-3, atol=1e-6), name
    with torch.no_grad(), model.disable_adapter():
        plain = model(input_ids=torch.arange(48).view(2, 24)).logits
    assert not torch.allclose(plain, logits, atol=1e-3)
    assert torch.allclose(plain, model.unload()(input_ids=torch.arange(48).view(2, 24)).logits, atol=1e-6)


@pytest.mark.parametrize("options", [{"lora_dropout": 0.1}, {"use_dora": True}, {"lora_bias": True}])
def test_other_layers_keep_pefts_forward(tiny_base: Path, options: dict[str, Any]) -> None:
    assert fuse_lora_layers(adapted(tiny_base, **options)) == 0


def test_a_layer_without_tokens_gives_none(tiny_base: Path) -> None:
    model = adapted(tiny_base)
    fuse_lora_layers(model)
    layer = next(module for name, module in model.named_modules() if name.endswith("up_proj"))
    assert layer(torch.zeros(0, 64)).shape == (0, 128)  # an expert to which no token was sent
