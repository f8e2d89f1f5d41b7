"""A local model's capabilities and context length, read from its files and its engine's options.

An adapter has the capabilities of its base's engine. No engine is needed, so stopped models are described too.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from models.spec import ModelSpec
from serve.fleet.model_files import ModelFiles, find_model_files
from serve.fleet.vllm_command import launch_options

# The keys of a config.json that limit the context: vLLM 0.32, transformers_utils/model_arch_config_convertor.py.
_LENGTH_KEYS = (
    "max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length", "max_target_positions",
    "max_sequence_length", "max_seq_length", "seq_len",
)  # fmt: skip
# RoPE types whose max_position_embeddings is already the scaled length.
_SCALED = frozenset({"su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling"})


@dataclass(frozen=True)
class Capabilities:
    """A model's capabilities. `context_length`: prompt and answer together, in tokens; None if unknown."""

    context_length: int | None = None
    chat: bool = True
    embeddings: bool = False
    tools: bool = False
    reasoning: bool = False
    vision: bool = False

    def to_json(self) -> dict[str, bool]:
        """The capabilities as `/v1/models` lists them."""
        return {
            "chat": self.chat, "completions": not self.embeddings, "embeddings": self.embeddings, "tools": self.tools,
            "structured_outputs": not self.embeddings, "reasoning": self.reasoning, "vision": self.vision,
            "logprobs": not self.embeddings,
        }  # fmt: skip


def read_capabilities(spec: ModelSpec, base: ModelSpec | None, *, adapters: bool) -> Capabilities | None:
    """The capabilities of a model; None for a hosted model, whose capabilities only its upstream knows.

    Args:
        base: the base of an adapter.
        adapters: whether its engine has adapters.
    """
    if spec.kind == "hosted":
        return None
    engine = spec if base is None else base
    weights = find_model_files(engine)
    if weights.folder is None:
        return _from_files(engine, adapters, ())
    names = ("config.json", "chat_template.jinja", "tokenizer_config.json")
    # The times change if the files are replaced.
    stamps = tuple(path.stat().st_mtime_ns if (path := weights.folder / name).is_file() else 0 for name in names)
    return _from_files(engine, adapters, stamps)


@lru_cache(maxsize=1024)
def _from_files(engine: ModelSpec, adapters: bool, stamps: tuple[int, ...]) -> Capabilities:
    """The capabilities, cached: reading the files of each model at each change of the registry would take too long.

    Args:
        stamps: the files' modification times, so that changed files are read again.
    """
    weights = find_model_files(engine)
    options = launch_options(engine, int(adapters))
    capabilities = Capabilities(context_length=_context_length(engine, weights))
    if options.embeds:
        return replace(capabilities, chat=False, embeddings=True)
    return replace(
        capabilities,
        # Without a chat template vLLM cannot chat. A model that is not downloaded yet most likely has one.
        chat=bool(weights.template) or weights.folder is None or bool(weights.config.get("is_mistral_format")),
        tools=options.parsers.tool_calls is not None,
        reasoning=options.parsers.reasoning is not None,
        vision="vision_config" in weights.config,
    )


def _context_length(engine: ModelSpec, weights: ModelFiles) -> int | None:
    """The length that the operator has set, or that vLLM derives (config/model.py, `_get_and_verify_max_len`)."""
    configured = engine.engine.max_model_len or _length_argument(engine.engine.extra_args)
    if configured:
        return configured
    config = weights.config
    lengths = [value for key in _LENGTH_KEYS if isinstance(value := config.get(key), int) and value > 0]
    if not lengths:
        return None
    rope = config.get("rope_parameters") or config.get("rope_scaling")
    rope = rope if isinstance(rope, dict) else {}
    kind = rope.get("rope_type", rope.get("type"))
    if kind == "longrope" and isinstance(original := config.get("original_max_position_embeddings"), int):
        return original
    factor = rope.get("factor") if kind not in _SCALED and weights.model_type != "gemma3_text" else None
    return int(min(lengths) * _number(factor))


def _length_argument(arguments: tuple[str, ...]) -> int | None:
    """The value of --max-model-len among an engine's extra arguments."""
    for place, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name == "--max-model-len":
            value = value or (arguments[place + 1] if place + 1 < len(arguments) else "")
            return int(value) if value.isdigit() else None
    return None


def _number(factor: Any) -> float:
    return float(factor) if isinstance(factor, (int, float)) and factor > 0 else 1.0
