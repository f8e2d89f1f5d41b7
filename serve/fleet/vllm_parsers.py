"""vLLM's tool-call and reasoning parsers for each model family.

The names are those of vLLM 0.32 (vllm/tool_parsers/__init__.py, vllm/reasoning/__init__.py); a test compares the tables
with the installed source. The mapping follows vLLM's docs/features/tool_calling.md.
"""

from dataclasses import dataclass

from models.spec import ModelSpec
from serve.fleet.model_files import ModelFiles

NO_PARSER = "none"  # in a spec: no parser


@dataclass(frozen=True)
class Parsers:
    """Parser names; None: no parser."""

    tool_calls: str | None = None
    reasoning: str | None = None


@dataclass(frozen=True)
class _Family:
    """Matches by `marks` in the chat template and `types` of `model_type`; empty matches any. The first match counts.

    `hubs`: prefixes of hub ids, for models that are not downloaded yet.
    """

    parser: str
    types: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    hubs: tuple[str, ...] = ()


# Marks in the template matter more than the family of the weights: a fine-tune may use another format.
_TOOLS = (
    _Family("qwen3_coder", marks=("<tool_call>", "<function="), hubs=("qwen/qwen3-coder", "qwen/qwen3.5")),
    _Family("glm45", marks=("<tool_call>", "<arg_key>"), hubs=("zai-org/glm-4.5", "zai-org/glm-4.6")),
    _Family("longcat", marks=("<longcat_tool_call>",)),
    _Family("minimax_m2", marks=("<minimax:tool_call>",), hubs=("minimaxai/minimax-m2",)),
    _Family("seed_oss", marks=("<seed:tool_call>",), hubs=("bytedance-seed/seed-oss",)),
    _Family("kimi_k2", marks=("<|tool_calls_section_begin|>",), hubs=("moonshotai/kimi-k2",)),
    _Family("functiongemma", marks=("<start_function_call>",), hubs=("google/functiongemma",)),
    _Family("gemma4", types=("gemma4", "gemma4_text"), hubs=("google/gemma-4",)),
    _Family("deepseek_v32", types=("deepseek_v32",), hubs=("deepseek-ai/deepseek-v3.2",)),
    _Family("deepseek_v3", marks=("<｜tool▁calls▁begin｜>", "```json"), hubs=("deepseek-ai/deepseek-v3-",)),
    _Family("deepseek_v31", marks=("<｜tool▁calls▁begin｜>",), hubs=("deepseek-ai/deepseek-v3.1",)),
    _Family("openai", types=("gpt_oss",), hubs=("openai/gpt-oss",)),
    _Family("lfm2", marks=("<|tool_call_start|>",), hubs=("liquidai/lfm2",)),
    _Family("jamba", types=("jamba",), hubs=("ai21labs/ai21-jamba",)),
    _Family("internlm", types=("internlm2",), hubs=("internlm/internlm2",)),
    _Family("granite4", types=("granitemoehybrid",), hubs=("ibm-granite/granite-4",)),
    _Family("granite", types=("granite", "granitemoe"), hubs=("ibm-granite/granite-3",)),
    _Family("cohere_command3", types=("cohere2",), hubs=("coherelabs/c4ai-command-a",)),
    _Family("hunyuan_a13b", types=("hunyuan_v1_moe",), hubs=("tencent/hunyuan-a13b",)),
    _Family("ernie45", types=("ernie4_5_moe",)),
    _Family("apertus", types=("apertus",), hubs=("swiss-ai/apertus",)),
    _Family("olmo3", types=("olmo3",), hubs=("allenai/olmo-3",)),
    _Family("step3", types=("step3_vl", "step3_text")),
    _Family("phi4_mini_json", types=("phi3", "phi4mm"), marks=("<|tool",), hubs=("microsoft/phi-4-mini",)),
    _Family("llama4_pythonic", types=("llama4", "llama4_text"), hubs=("meta-llama/llama-4",)),
    _Family("mistral", marks=("[TOOL_CALLS]",), hubs=("mistralai/",)),
    _Family("hermes", marks=("<tool_call>",), hubs=("qwen/qwen2.5", "qwen/qwen3", "qwen/qwq", "nousresearch/hermes")),
    _Family("llama3_json", marks=("python_tag",)),
    _Family("llama3_json", types=("llama", "mllama"), marks=("ipython",), hubs=("meta-llama/llama-3.",)),
)
# These always reason, so their fine-tunes do too.
_REASONING = (
    _Family("openai_gptoss", types=("gpt_oss",), hubs=("openai/gpt-oss",)),
    _Family("deepseek_r1", marks=("<think>\\n'}}{% endif",), hubs=("deepseek-ai/deepseek-r1",)),
    _Family("deepseek_r1", types=("qwen2",), marks=("<think>\\n' }}",), hubs=("qwen/qwq",)),
    _Family("qwen3", types=("qwen3", "qwen3_moe"), marks=("<think>\\n' }}",)),
    _Family("minimax_m2", types=("minimax_m2",), hubs=("minimaxai/minimax-m2",)),
    _Family("mistral", marks=("[THINK]",), hubs=("mistralai/magistral",)),
    _Family("seed_oss", types=("seed_oss",), hubs=("bytedance-seed/seed-oss",)),
)
# These reason unless told not to. Their parsers take everything before `</think>` as reasoning, so a fine-tune that
# answers directly would lose its whole answer: only a base without adapters gets one.
_OPTIONAL_REASONING = (
    _Family("qwen3", types=("qwen3", "qwen3_moe", "qwen3_next"), marks=("enable_thinking",), hubs=("qwen/qwen3",)),
    _Family("glm45", types=("glm4_moe",), marks=("enable_thinking",), hubs=("zai-org/glm-4.5", "zai-org/glm-4.6")),
    _Family("granite", types=("granite",), marks=("thinking",)),
)
_NEVER_REASONS = ("qwen/qwen3-coder", "-instruct-2507", "qwen/qwen3-embedding", "qwen/qwen3-reranker")


def parser_names() -> tuple[set[str], set[str]]:
    """Every tool-call parser and every reasoning parser in the tables."""
    return {family.parser for family in _TOOLS}, {family.parser for family in (*_REASONING, *_OPTIONAL_REASONING)}


def parsers(spec: ModelSpec, weights: ModelFiles, *, adapters: bool) -> Parsers:
    """The parsers for a model's engine: those in its spec, otherwise by its family.

    Args:
        adapters: whether the model has adapters.
    """
    options = spec.engine
    tools = options.tool_call_parser or _tools(spec, weights)
    reasoning = options.reasoning_parser or _reasoning(spec, weights, adapters=adapters)
    return Parsers(None if tools == NO_PARSER else tools, None if reasoning == NO_PARSER else reasoning)


def _tools(spec: ModelSpec, weights: ModelFiles) -> str | None:
    if weights.folder is None:
        return _by_hub(_TOOLS, spec)
    # A template that does not use `tools` cannot show them to the model.
    return _by_files(_TOOLS, weights) if "tools" in weights.template else None


def _reasoning(spec: ModelSpec, weights: ModelFiles, *, adapters: bool) -> str | None:
    tables = _REASONING + (_OPTIONAL_REASONING if spec.kind == "base" and not adapters else ())
    if weights.folder is None:
        return None if _never_reasons(spec) else _by_hub(tables, spec)
    return _by_files(tables, weights)


def _by_files(table: tuple[_Family, ...], weights: ModelFiles) -> str | None:
    for family in table:
        if family.types and weights.model_type not in family.types:
            continue
        if all(mark in weights.template for mark in family.marks):
            return family.parser
    return None


def _by_hub(table: tuple[_Family, ...], spec: ModelSpec) -> str | None:
    name = (spec.path or "").lower()
    return next((family.parser for family in table if any(name.startswith(start) for start in family.hubs)), None)


def _never_reasons(spec: ModelSpec) -> bool:
    return any(part in (spec.path or "").lower() for part in _NEVER_REASONS)
