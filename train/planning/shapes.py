"""The sizes of a base, from its config only: the model is built without memory (on torch's meta device)."""

from typing import TYPE_CHECKING, Any

from models.errors import Invalid
from train.planning.needs import Shape

if TYPE_CHECKING:
    from train.trainers.bases import Base


def find_shape(base: "Base") -> Shape:
    """The sizes of a base.

    Raises:
        Unavailable: the config cannot be loaded. Invalid: it is not a causal language model.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from train.trainers.bases import load_config
    from train.trainers.runtime import quiet

    config = load_config(base)
    try:
        with quiet(), torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=base.trust_remote_code)
    except ValueError as error:
        raise Invalid(f"{base.name} is not a causal language model known to transformers.", param="base") from error
    return shape_of(model)


def shape_of(model: Any) -> Shape:
    """The sizes of a causal language model, which may be on the meta device."""
    import torch

    config = model.config.get_text_config()
    head = model.get_output_embeddings()
    linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head]
    width = int(config.hidden_size)
    heads = _largest(config, "num_attention_heads")  # 0 for models without attention
    size = _largest(config, "head_dim") or width // max(1, heads)
    return Shape(
        parameters=sum(weight.numel() for weight in model.parameters()),
        linear=sum(layer.weight.numel() for layer in linear),
        adapter_per_rank=sum(layer.in_features + layer.out_features for layer in linear),
        layers=int(config.num_hidden_layers),
        width=width,
        attention=heads * size,
        keys=(_largest(config, "num_key_value_heads") or heads) * size,
        inner=_largest(config, "intermediate_size") or 4 * width,
        vocabulary=int(config.vocab_size),
        context=int(getattr(config, "max_position_embeddings", 0) or 0),
    )


def _largest(config: Any, name: str) -> int:
    """A size in a config, the largest where its layers differ; 0 if it has none."""
    value = getattr(config, name, None) or 0
    return max(map(int, value)) if isinstance(value, list | tuple) else int(value)
