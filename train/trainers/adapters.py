"""What a training leaves: an adapter's two files, or whole weights after full tuning.

Written so that the same training gives the same bytes, with no path of this machine in them.
"""

import json
from copy import copy
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict
from safetensors.torch import save_file

from train.hyperparameters import Chosen
from train.run.folder import write_json


def saved_dtype(settings: Chosen, stored: torch.dtype) -> torch.dtype:
    """The precision of an adapter's files: what was asked for, else the base's own, which is what an engine runs it in.

    A DoRA's is float32: its lengths are whole weights, which 16 bits would round by more than they learnt, and it is
    merged in any case.
    """
    if settings.adapter_dtype != "auto":
        return getattr(torch, settings.adapter_dtype)
    return torch.float32 if settings.dora else stored


def round_trained(model: Any, dtype: torch.dtype) -> None:
    """Rounds the trained weights to what the files can hold, in place, so that what is measured is what is saved."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(dtype).to(parameter.dtype)


def save_adapter(model: Any, folder: Path, base_name: str, dtype: torch.dtype) -> None:
    """Writes adapter_model.safetensors and adapter_config.json, as peft and vLLM read them."""
    folder.mkdir(parents=True, exist_ok=True)
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    tensors = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in sorted(state.items())}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = copy(model.peft_config["default"])  # the model's own stays that of a model that learns
    config.inference_mode = True
    config.save_pretrained(str(folder))
    values = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    values["base_model_name_or_path"] = base_name
    # peft lists every layer by its whole name, in a set's order. Last names say the same of «all linear layers», and
    # the same each time.
    values["target_modules"] = sorted({name.rsplit(".", 1)[-1] for name in values["target_modules"]})
    write_json(folder / "adapter_config.json", values)


def save_weights(model: Any, tokenizer: Any, folder: Path, dtype: torch.dtype) -> None:
    """Writes a fully tuned model as transformers and vLLM load it: safetensors, tokenizer and chat template."""
    folder.mkdir(parents=True, exist_ok=True)
    learnt = [(parameter, parameter.data) for parameter in model.parameters()]
    use_cache = model.config.use_cache
    try:
        for parameter, data in learnt:  # weights only: buffers, such as rotary frequencies, stay in float32
            parameter.data = data.to(dtype)
        model.config.use_cache = True  # training turns it off, and an engine would read that from config.json
        model.save_pretrained(str(folder))
    finally:
        # A checkpoint is no end: the model goes on learning, with the weights that it had.
        for parameter, data in learnt:
            parameter.data = data
        model.config.use_cache = use_cache
    tokenizer.save_pretrained(str(folder))
