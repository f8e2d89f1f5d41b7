"""Writes the output of a training: an adapter's two files, or whole weights after full tuning.

The same training writes the same bytes, without paths of this machine.
"""

import json
from copy import copy
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict
from safetensors.torch import save_file

from models.chat_templates.tokenizer_files import GENERATION_CONFIG
from train.hyperparameters import Chosen
from train.run.folder import write_json


def saved_dtype(values: Chosen, stored: torch.dtype) -> torch.dtype:
    """The precision of an adapter's files: as requested, otherwise the base's, in which an engine runs it.

    DoRA uses float32: its magnitudes are whole weights, and rounding them to 16 bits would exceed what was learnt. It
    is merged in any case.
    """
    if values.adapter_dtype != "auto":
        return getattr(torch, values.adapter_dtype)
    return torch.float32 if values.dora else stored


def round_trained(model: Any, dtype: torch.dtype) -> None:
    """Rounds the trained weights in place to the precision of the files, so that the saved weights are measured."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(dtype).to(parameter.dtype)


def save_adapter(model: Any, folder: Path, base_name: str, dtype: torch.dtype) -> None:
    """Writes adapter_model.safetensors and adapter_config.json, as peft and vLLM read them."""
    folder.mkdir(parents=True, exist_ok=True)
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    tensors = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in sorted(state.items())}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = copy(model.peft_config["default"])  # a copy, because the model goes on training
    config.inference_mode = True
    config.save_pretrained(str(folder))
    config_json = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    config_json["base_model_name_or_path"] = base_name
    # peft lists every layer by its full name, in random order. The last parts of the names mean the same for "all
    # linear layers", and are always the same.
    config_json["target_modules"] = sorted({name.rsplit(".", 1)[-1] for name in config_json["target_modules"]})
    write_json(folder / "adapter_config.json", config_json)


def save_weights(model: Any, tokenizer: Any, folder: Path, dtype: torch.dtype) -> None:
    """Writes a fully tuned model as transformers and vLLM load it: safetensors, tokenizer and chat template."""
    folder.mkdir(parents=True, exist_ok=True)
    original = [(parameter, parameter.data) for parameter in model.parameters()]
    use_cache = model.config.use_cache
    try:
        for parameter, data in original:  # weights only: buffers, such as rotary frequencies, stay in float32
            parameter.data = data.to(dtype)
        model.config.use_cache = True  # training turns it off, and an engine would read that from config.json
        write_model(model, folder)
    finally:
        # After a checkpoint the model goes on training, with its unrounded weights.
        for parameter, data in original:
            parameter.data = data
        model.config.use_cache = use_cache
    tokenizer.save_pretrained(str(folder))


def write_model(model: Any, folder: Path) -> None:
    """Writes a model's weights and settings as transformers does, also settings that it refuses to write.

    Many models have a temperature beside `do_sample: false` in their generation_config.json, which transformers only
    reads. Engines sample by the temperature alone, so it stays.
    """
    settings = model.generation_config
    try:
        settings.validate(strict=True)
    except ValueError:
        model.generation_config = type(settings)()
        try:
            model.save_pretrained(str(folder))
        finally:
            model.generation_config = settings
        settings.to_json_file(str(folder / GENERATION_CONFIG))
        return
    model.save_pretrained(str(folder))
