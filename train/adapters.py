"""An adapter's two files, written so that the same training gives the same bytes, with no path of this machine."""

import json
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict
from safetensors.torch import save_file

from train.runs import write_json


def saved_dtype(asked: str, stored: torch.dtype) -> torch.dtype:
    """The precision of the files: what was asked for, else the base's own, which is what an engine runs it in."""
    return stored if asked == "auto" else getattr(torch, asked)


def round_adapter(model: Any, dtype: torch.dtype) -> None:
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
    config = model.peft_config["default"]
    config.inference_mode = True
    config.save_pretrained(str(folder))
    values = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    values["base_model_name_or_path"] = base_name
    # peft lists every layer by its whole name, in a set's order. Last names say the same of «all linear layers», and
    # the same each time.
    values["target_modules"] = sorted({name.rsplit(".", 1)[-1] for name in values["target_modules"]})
    write_json(folder / "adapter_config.json", values)
