"""Writes folders in the shapes of models and adapters, a few bytes each, for checks that read no weights."""

import json
import struct
from pathlib import Path
from typing import Any

LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
LORA = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 8, "target_modules": ["q_proj"]}


def write_tensors(file: Path, **shapes: tuple[int, ...]) -> Path:
    """Writes a safetensors file of zeros, float32. `shapes`: by name, with a double underscore for a dot."""
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        size = 4
        for length in shape:
            size *= length
        header[name.replace("__", ".")] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))
    return file


def write_model(folder: Path, **config: Any) -> Path:
    """A whole model's folder: weights, config.json and tokenizer.json."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / "model.safetensors", weight=(1,))
    (folder / "config.json").write_text(json.dumps(LLAMA | config))
    (folder / "tokenizer.json").write_text("{}")
    return folder


def write_adapter(folder: Path, **config: Any) -> Path:
    """A LoRA adapter's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tensor = "base_model__model__model__layers__0__self_attn__o_proj__lora_A__weight"
    write_tensors(folder / "adapter_model.safetensors", **{tensor: (1, 1)})
    (folder / "adapter_config.json").write_text(json.dumps(LORA | config))
    return folder
