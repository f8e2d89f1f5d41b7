"""Checks a model's engine options before it is registered. vLLM itself would refuse them only when it starts.

Stored specs are not checked again, so that they stay readable.
"""

import re
from typing import Any

from models.compatibility.lora_support import LORA_RANKS
from models.errors import Invalid
from models.json_files import read_json
from models.spec import ModelSpec

_ARGUMENT = re.compile(r"--([a-z0-9][a-z0-9_.-]*)(=.*)?", re.DOTALL)
# Arguments that Parley sets itself, and those that would open an engine to others or make it run code.
_RESERVED = frozenset(
    (
        *("model", "served-model-name", "host", "port", "uds", "api-key", "root-path", "config", "chat-template"),
        *("enable-lora", "max-lora-rank", "max-loras", "max-cpu-loras", "lora-modules", "dtype", "max-model-len"),
        *("tensor-parallel-size", "tp", "pipeline-parallel-size", "pp", "data-parallel-size", "quantization"),
        *("gpu-memory-utilization", "kv-cache-memory-bytes", "trust-remote-code", "runner", "enable-sleep-mode"),
        *("tool-call-parser", "reasoning-parser", "enable-auto-tool-choice", "structured-outputs-config"),
        *("middleware", "tool-parser-plugin", "reasoning-parser-plugin", "logits-processors", "worker-cls"),
        *("worker-extension-cls", "headless", "nnodes", "node-rank", "master-addr", "ssl-keyfile", "ssl-certfile"),
        *("ssl-ca-certs", "allowed-origins", "allow-credentials"),
    )
)
_DTYPES = ("auto", "bfloat16", "float16", "half", "float32", "float")


def check_engine_options(spec: ModelSpec) -> None:
    """Checks the engine options of a base or merged model.

    Raises:
        Invalid: an extra argument is malformed or reserved, vLLM has no such number format or LoRA rank, or the model
            cannot be split across that many GPUs.
    """
    options = spec.engine
    if options.dtype not in _DTYPES:
        raise Invalid(f"There is no number format {options.dtype!r}: use {', '.join(_DTYPES)}.", param="dtype")
    if options.max_lora_rank > LORA_RANKS[-1]:
        raise Invalid(
            f"vLLM loads LoRA adapters of rank {LORA_RANKS[-1]} at most, not {options.max_lora_rank:,}: use "
            f"{', '.join(map(str, LORA_RANKS))}, and merge adapters of a higher rank (--merge).",
            param="max_lora_rank",
        )
    for argument in options.extra_args:
        match = _ARGUMENT.fullmatch(argument)
        if match is None:
            raise Invalid(
                f"{argument!r} is not an engine argument: write --name or --name=value, each as one argument.",
                param="engine",
            )
        if match[1].replace("_", "-").removeprefix("no-") in _RESERVED:
            raise Invalid(f"Parley sets --{match[1]} itself: remove this engine argument.", param="engine")
    config = _model_config(spec)
    heads, layers = config.get("num_attention_heads"), config.get("num_hidden_layers")
    if isinstance(heads, int) and heads % options.tensor_parallel_size:
        raise Invalid(
            f"{spec.id!r} has {heads} attention heads, which {options.tensor_parallel_size} GPUs cannot share equally: "
            f"choose a tensor parallel size that divides {heads}.",
            param="tensor_parallel_size",
        )
    if isinstance(layers, int) and layers < options.pipeline_parallel_size:
        raise Invalid(
            f"{spec.id!r} has {layers} layers: choose a pipeline parallel size of {layers} or less.",
            param="pipeline_parallel_size",
        )


def _model_config(spec: ModelSpec) -> dict[str, Any]:
    """The model's config.json, or its part about text; empty for a hub id or without the file."""
    config = read_json(spec.folder / "config.json") if spec.folder else {}
    text = config.get("text_config")
    return text if isinstance(text, dict) else config
