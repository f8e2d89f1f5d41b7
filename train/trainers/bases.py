"""The weights that a training starts from, and how transformers loads them.

A base is a registered model's id, a local folder, or a hub id. A hosted model is refused, because its weights are
elsewhere. An adapter must be merged first (`training`).
"""

import json
import os.path
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from models.compatibility.engine_support import quantisation, remote_code_files
from models.compatibility.folder_checks import expand_user, require_tokenizer
from models.compatibility.lora_support import serves
from models.errors import Invalid, NotFound, Unavailable
from models.json_files import read_json
from models.registry.registry import Registry
from models.spec import ModelSpec
from train.trainers.loading_errors import TOKENIZER, translated_errors


@dataclass(frozen=True)
class Base:
    """Weights to start from. `location` is what transformers loads: a folder or a hub id.

    `chat_template`: the text of a template to use instead of the one in its files.
    """

    name: str
    location: str
    spec: ModelSpec | None = None
    trust_remote_code: bool = False
    chat_template: str | None = None

    @property
    def is_adapter(self) -> bool:
        """Whether it must be merged before training."""
        return self.spec is not None and self.spec.kind == "adapter"


def find_base(base: str | Path, registry: Registry | None = None) -> Base:
    """A registered model, otherwise a local folder, otherwise a hub id.

    Raises:
        Invalid: a hosted model, or a name that is none of the three.
    """
    name = str(base)
    spec = _registered(name, registry)
    if spec is not None:
        if spec.kind == "hosted":
            raise Invalid(
                f"{name!r} is hosted: its weights are not here. Train on a base, merged or adapter model.",
                param="base",
            )
        return Base(spec.id, str(spec.path), spec, spec.engine.trust_remote_code, spec.engine.chat_template)
    folder = expand_user(name)
    if os.path.isdir(folder):
        if not (folder / "config.json").is_file():
            raise Invalid(f"{name} holds no config.json, so it is not a model's folder.", param="base")
        return Base(folder.resolve().name, str(folder.resolve()))
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return Base(name, name)
    raise Invalid(
        f"{name!r} is not a registered model, a folder or a hub id (owner/name). See `parley models list`.",
        param="base",
    )


def _registered(name: str, registry: Registry | None) -> ModelSpec | None:
    if registry is None:
        return None
    try:
        return registry.resolve(name)
    except NotFound:
        return None


def with_options(base: Base, chat_template: str | None, trust_remote_code: bool) -> Base:
    """The same base with another chat template, or with permission to run code that comes with it."""
    template = chat_template or base.chat_template
    return replace(base, chat_template=template, trust_remote_code=trust_remote_code or base.trust_remote_code)


def load_tokenizer(base: Base) -> Any:
    """The base's tokenizer, with the base's chat template.

    Raises:
        Unavailable: it cannot be loaded. Invalid: there is none.
    """
    from transformers import AutoTokenizer

    if (folder := Path(base.location)).is_dir():
        require_tokenizer(folder)
    with translated_errors(f"The base {base.name!r}", otherwise=TOKENIZER):
        tokenizer: Any = AutoTokenizer.from_pretrained(base.location, trust_remote_code=base.trust_remote_code)
    if base.chat_template:
        tokenizer.chat_template = base.chat_template
    if isinstance(tokenizer.chat_template, str):
        # Jinja and transformers replace these line ends too; otherwise equal templates would differ.
        tokenizer.chat_template = tokenizer.chat_template.replace("\r\n", "\n")
    return tokenizer


def load_config(base: Base) -> Any:
    """The base's config; of a multimodal model the text part."""
    from transformers import AutoConfig

    with translated_errors(f"The base {base.name!r}"):
        config = AutoConfig.from_pretrained(base.location, trust_remote_code=base.trust_remote_code)
    return config.get_text_config()


def find_config(base: Base) -> dict[str, Any]:
    """The base's config.json; empty if it has none. That of a hub id may be downloaded."""
    if (folder := Path(base.location)).is_dir():
        return read_json(folder / "config.json")
    from transformers import AutoConfig

    with translated_errors(f"The base {base.name!r}"):
        return AutoConfig.from_pretrained(base.location, trust_remote_code=base.trust_remote_code).to_dict()


def check_servable(base: Base) -> None:
    """Refuses a base that vLLM cannot serve, before anything is trained for nothing.

    Raises:
        Invalid: neither vLLM itself nor its backend for transformers' models serves the base's architecture.
    """
    config = find_config(base)
    architectures = tuple(map(str, config.get("architectures") or ()))
    if not architectures or any(serves(name) is not False for name in architectures):
        return
    import transformers

    known = [kind for name in architectures if (kind := getattr(transformers, name, None)) is not None]
    if base.trust_remote_code or any(kind.is_backend_compatible() for kind in known):
        return
    mend = "Train another base"
    if code := remote_code_files(config):
        mend += (
            f", or read the code that comes with it ({', '.join(code)}) and, if you trust it, add --trust-remote-code"
        )
    raise Invalid(
        f"vLLM cannot serve {base.name!r}: it does not support {', '.join(architectures)}. {mend}.", param="base"
    )


def require_plain_weights(base: Base) -> None:
    """Refuses quantised weights, which can be served, but neither trained nor merged exactly.

    Raises:
        Invalid: with the method.
    """
    if (method := quantisation(find_config(base))) is None:
        return
    original = find_config(base).get("_name_or_path")
    named = f" ({original})" if original and original != base.location else ""
    raise Invalid(
        f"The weights of {base.name!r} are quantised ({method}), so they can be served, but not trained or merged: "
        f"use the original weights{named}. To save memory, --tune qlora quantises them during training.",
        param="base",
    )


def load_model(base: Base, dtype: Any, device: str, quantised: bool = False) -> Any:
    """The base's weights on a device.

    Args:
        base: which.
        dtype: a torch dtype, or "auto" for the one it is stored in.
        device: "cpu" or "cuda".
        quantised: load the linear layers as NF4 with double quantisation (QLoRA).

    Raises:
        Unavailable: the weights are missing, incomplete or unreadable. Invalid: they are quantised.
    """
    import torch
    from transformers import AutoModelForCausalLM

    # The current GPU: with several processes, each has its own.
    where = torch.cuda.current_device() if device == "cuda" else "cpu"
    options: dict[str, Any] = {"dtype": dtype, "device_map": {"": where}}
    if quantised:
        from transformers import BitsAndBytesConfig

        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.float16 if dtype is torch.float16 else torch.bfloat16,
        )
    require_plain_weights(base)
    with translated_errors(f"The base {base.name!r}"):
        model, loading = AutoModelForCausalLM.from_pretrained(
            base.location, trust_remote_code=base.trust_remote_code, output_loading_info=True, **options
        )
    if missing := sorted(loading["missing_keys"]):  # transformers would use random numbers for them
        raise Unavailable(
            f"The base {base.name!r} cannot be loaded: its files do not contain {missing[0]}"
            f"{f' and {len(missing) - 1} more weights' if len(missing) > 1 else ''}, which its config.json requires. "
            "Download the whole folder again.",
            param="base",
        )
    for module in model.modules():
        # On a CPU bitsandbytes repacks a layer for inference when it is first evaluated, and cannot train it
        # afterwards.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def stored_dtype(base: Base) -> Any:
    """The torch dtype in which the base's weights are stored; float32 if its config does not say."""
    import torch

    dtype = load_config(base).dtype
    return dtype if isinstance(dtype, torch.dtype) else getattr(torch, str(dtype), torch.float32)


def count_parameters(config: Any) -> int:
    """Approximate parameter count of a decoder, from its config: its matrices, without biases and norms."""
    width, layers = int(getattr(config, "hidden_size", 0)), int(getattr(config, "num_hidden_layers", 0))
    heads = int(getattr(config, "num_attention_heads", 1) or 1)
    head_size = int(getattr(config, "head_dim", 0) or width // heads)
    key_heads = int(getattr(config, "num_key_value_heads", heads) or heads)
    attention = 2 * width * head_size * (heads + key_heads)
    mlp = 3 * width * int(getattr(config, "intermediate_size", 4 * width) or 4 * width)
    embeddings = (
        width * int(getattr(config, "vocab_size", 0)) * (1 if getattr(config, "tie_word_embeddings", False) else 2)
    )
    experts = int(getattr(config, "num_local_experts", 0) or getattr(config, "num_experts", 0) or 1)
    return layers * (attention + mlp * experts) + embeddings


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """An adapter's adapter_config.json.

    Raises:
        Invalid: the folder holds no adapter.
    """
    try:
        return json.loads((folder / "adapter_config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise Invalid(
            f"{folder} holds no readable adapter_config.json, so it is not an adapter.", param="adapter"
        ) from error
