"""Models from elsewhere that need work before they can be served: adapters to merge, GGUF files to unpack."""

import math
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from models.compatibility.engine_options import check_engine_options
from models.compatibility.folder_checks import expand_user
from models.errors import Invalid, Unavailable
from models.files.atomic import publish_folder
from models.registry.new_model import NewModel
from models.registry.registry import Registry, parse_spec
from models.settings.settings import Settings
from models.spec import ModelSpec
from models.weights import is_pointer
from train.publication.publish import check_name, publish_merge, register_folder
from train.run.progress import Progress, Stage
from train.trainers.loading_errors import translated_errors
from train.trainers.runtime import quiet

_PROBE_TOKENS = 16
_PART = re.compile(r"-\d{5}-of-(\d{5})\.gguf$", re.IGNORECASE)


def merge_adapter(registry: Registry, settings: Settings, new: NewModel, progress: Progress) -> ModelSpec:
    """Merges the adapter in `new.path` into its base and registers the weights as `new.name`.

    Raises:
        Invalid: it is not an adapter, its files are incomplete, or its base is not registered. Conflict: the name is
        taken. MergeRefused.
    """
    spec = replace(new, pin=False).complete(registry)
    if spec.kind != "adapter" or spec.folder is None:
        raise Invalid(
            f"--merge needs an adapter in a folder, but {new.path} is of kind {spec.kind}: leave --merge out.",
            param="merge",
        )
    registry.check_fallbacks(spec)
    progress(Stage(f"Merging {spec.folder.name} into {spec.base}"))
    merged = publish_merge(spec, new.name, registry=registry, settings=settings, progress=progress)
    progress(
        Stage(
            f"Merged: float32 logits differ from base + adapter by at most {merged.difference:.1e}; as stored, the "
            f"same next token at {merged.agreement:.1%} of the probe positions"
        )
    )
    return _pinned(registry, merged.model, new.pin)


def unpack_gguf(registry: Registry, settings: Settings, new: NewModel, progress: Progress) -> ModelSpec:
    """Unpacks the GGUF file in `new.path` into a folder of the home and registers it as `new.name`.

    Raises:
        Invalid: the file is damaged, or transformers cannot read this kind of GGUF file. Unavailable: the package gguf
        is missing. Conflict: the name is taken.
    """
    file = expand_user(str(new.path)).absolute()
    if new.kind == "adapter":
        raise Invalid(f"{file} holds whole weights: leave --kind out.", param="kind")
    check_name(registry, new.name)
    planned = parse_spec(
        id=new.name, kind="base", path=str(file), fallbacks=new.fallbacks, engine=dict(new.engine)
    )  # fmt: skip
    registry.check_fallbacks(planned)
    check_engine_options(planned)
    registry.sweep_unclaimed(settings.models_dir)
    with publish_folder(settings.models_dir) as pending:
        write_unpacked(file, pending.path, progress)
        described = replace(new, path=str(pending.path), pin=False, description=f"Unpacked from {file.name}").spec()
    spec = described.model_copy(update={"path": str(pending.final)})
    register_folder(registry, spec, pending.final)
    return _pinned(registry, spec.id, new.pin)


def write_unpacked(file: Path, folder: Path, progress: Progress) -> None:
    """Writes a GGUF file's model as 16-bit safetensors, with its tokenizer and chat template.

    Quantised weights are unpacked to the values that llama.cpp computes with, rounded to bfloat16.

    Raises:
        Invalid, Unavailable: as `unpack_gguf`.
    """
    _check_file(file)
    with quiet(), translated_errors(f"The file {file.name!r}", "path"):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

        from train.trainers.adapters import write_model

        started = time.monotonic()
        reader = _open_gguf(file)
        tensors = reader.tensors
        weights = sum(int(tensor.n_elements) for tensor in tensors)
        _require_memory(file, weights)
        progress(Stage(f"Unpacking {file.name}: {weights:,} weights, {2 * weights / 1e9:.1f} GB when unpacked"))
        # float16 keeps all of a float16 file; quantised weights may need bfloat16's range.
        is_half = {tensor.tensor_type.name for tensor in tensors} <= {"F16", "F32"}
        model: Any = AutoModelForCausalLM.from_pretrained(
            str(file.parent), gguf_file=file.name, quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float16 if is_half and any(t.tensor_type.name == "F16" for t in tensors) else torch.bfloat16,
        )  # fmt: skip
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.config._name_or_path = file.stem
        progress(Stage("Reading its tokenizer"))
        tokenizer: Any = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
        if _starts_with_bos(reader.fields) and tokenizer.bos_token is not None:
            tokenizer.add_bos_token = True  # transformers leaves it out
        _check_finite(model, file)
        if model.generation_config.eos_token_id is None:
            model.generation_config.eos_token_id = tokenizer.eos_token_id
        progress(Stage("Writing safetensors"))
        write_model(model, folder)
        tokenizer.save_pretrained(str(folder))
    progress(Stage(f"Unpacked in {time.monotonic() - started:.0f} s"))


def _check_file(file: Path) -> None:
    """Refuses an incomplete GGUF file, and a machine without the package that reads it."""
    if is_pointer(file):
        raise Invalid(f"{file} is a Git LFS pointer, not the file itself: run `git lfs pull`, or download it again.")
    if part := _PART.search(file.name):
        raise Invalid(
            f"{file} is one of {int(part[1])} parts: join them first, with llama.cpp's `llama-gguf-split --merge`."
        )
    if find_spec("gguf") is None:
        raise Unavailable("Reading a GGUF file needs the package gguf, which `make setup` installs.", param="path")


def _open_gguf(file: Path) -> Any:
    """Reads the file's header with the package gguf. Raises Invalid: it is damaged, or holds no chat model."""
    try:
        # Imported by name, because the package is optional; `_check_file` reports if it is missing.
        reader = import_module("gguf").GGUFReader(file)
    except (LookupError, ValueError, OverflowError) as error:  # what the package raises on any other bytes
        raise Invalid(f"{file} is damaged, incomplete or no GGUF file: download it again.", param="path") from error
    architecture = reader.fields.get("general.architecture")
    if architecture is not None and architecture.contents() == "clip":
        raise Invalid(
            f"{file} is the part of a model that reads images (mmproj): give the GGUF file of the language model.",
            param="path",
        )
    return reader


def _starts_with_bos(fields: Mapping[str, Any]) -> bool:
    """Whether a text begins with the beginning-of-text token: the file's value, otherwise llama.cpp's default."""
    stored = fields.get("tokenizer.ggml.add_bos_token")
    kind = fields.get("tokenizer.ggml.model")
    return bool(stored.contents()) if stored is not None else kind is not None and kind.contents() == "llama"


def _require_memory(file: Path, weights: int) -> None:
    needed, free = 2.5 * weights, psutil.virtual_memory().available
    if needed > free:
        raise Unavailable(
            f"Unpacking {file.name} needs about {needed / 1e9:.0f} GB of memory, but only {free / 1e9:.0f} GB is "
            "free: free some memory, or use the original weights."
        )


def _check_finite(model: Any, file: Path) -> None:
    """Refuses weights whose logits are not finite, for example because they were unpacked wrongly."""
    import torch

    ids = torch.arange(_PROBE_TOKENS)[None] % model.get_input_embeddings().weight.shape[0]
    with torch.no_grad():
        total = float(model(input_ids=ids).logits.float().sum())
    if not math.isfinite(total):
        raise Invalid(f"{file} is damaged: its unpacked weights give no finite logits. Download it again.")


def _pinned(registry: Registry, name: str, pin: bool) -> ModelSpec:
    return registry.pin(name) if pin else registry.resolve(name)
