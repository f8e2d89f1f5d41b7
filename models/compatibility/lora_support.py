"""Which adapters vLLM can serve: read from the source of the installed vLLM, without importing it.

vLLM's registry (`vllm/model_executor/models/registry.py`) maps an architecture to a class, and a class that supports
LoRA adapters has `SupportsLoRA` among its bases. Importing vLLM to look would take ten seconds and load torch.
"""

import ast
import re
from collections.abc import Collection, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

_REGISTRY = "vllm.model_executor.models.registry"
_MODELS = "vllm.model_executor.models"
_INTERFACE = "SupportsLoRA"
# Features of PEFT's adapters that vLLM's loader refuses: `vllm/lora/peft_helper.py`.
_REFUSED = {
    "use_dora": "it is a DoRA adapter, which vLLM cannot load",
    "lora_bias": "it has LoRA biases, which vLLM cannot load",
    "alora_invocation_tokens": "it is an activated LoRA, which vLLM cannot load",
    "layer_replication": "it replicates layers, which vLLM cannot load",
    "use_bdlora": "it is a block-diagonal LoRA, which vLLM cannot load",
    "use_qalora": "it is a QA-LoRA adapter, which vLLM cannot load",
}
# The ranks that an engine can reserve memory for: `MaxLoRARanks` in vllm/config/lora.py. It loads lower ones too.
LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_PLAIN_INITS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")
_LAYER = re.compile(r"\.(?:layers|h|blocks)\.(\d+)\.")
_MODULE = re.compile(r"\.(?:layers|h|blocks)\.\d+\.(.+?)(?:\.base_layer)*\.lora_[AB]\.")
_WEIGHT = re.compile(r"\.(?:layers|h|blocks)\.\d+\.(.+)$")
_LORA_TENSOR = re.compile(r"\.lora_[AB]\.weight$")  # `parse_fine_tuned_lora_name` in vllm/lora/utils.py
_FROM_HIDDEN = re.compile(r"\.(q_proj|k_proj|v_proj|gate_proj|up_proj)\.lora_A\.weight$")
_OTHER_PARTS = re.compile(r"vis|image|audio|encoder|projector")  # of multimodal models
_EMBEDDINGS = ("lm_head", "embed_tokens", "embed_in", "embed_out", "wte", "word_embeddings")


def must_be_merged(
    adapter: Mapping[str, Any],
    largest_rank: int = 64,
    base: Mapping[str, Any] = MappingProxyType({}),
    tensors: Collection[str] = (),
) -> str | None:
    """Why an engine cannot load an adapter unmerged, as a clause; None if it can.

    Args:
        adapter: its adapter_config.json. largest_rank: the limit of its base's engine.
        base: its base's config.json; empty if unknown.
        tensors: the names in its weight file, which may not all be in the configuration; empty if unknown.
    """
    method = str(adapter.get("peft_type") or "LORA")
    if method != "LORA":
        return f"it is an adapter of type {method}, and vLLM loads only LoRA adapters"
    ranks = [adapter.get("r"), *_mapping(adapter.get("rank_pattern")).values()]
    rank = max((value for value in ranks if isinstance(value, int)), default=0)
    if rank > largest_rank:
        return f"its rank {rank} is above {largest_rank}, the limit of its base's engine"
    if refused := next((reason for name, reason in _REFUSED.items() if adapter.get(name)), None):
        return refused
    init = adapter.get("init_lora_weights", True)
    if isinstance(init, str) and init.lower() not in _PLAIN_INITS:
        return f"its initialisation ({init}) changed the base's weights, which vLLM cannot repeat"
    if (biases := adapter.get("bias") or "none") != "none":
        return f"it trains biases (bias: {biases}), which vLLM cannot load"
    if adapter.get("modules_to_save"):
        return f"it trains whole modules ({_listed(adapter['modules_to_save'])})"
    if parameters := adapter.get("target_parameters"):
        return f"it changes single parameters ({_listed(parameters)}), which vLLM cannot load"
    if adapter.get("trainable_token_indices"):
        return "it trains the embeddings of single tokens, which vLLM cannot load"
    targets = adapter.get("target_modules")
    named = targets if isinstance(targets, list) else []
    heads = [name for name in named if isinstance(name, str) and name.rsplit(".", 1)[-1] in _EMBEDDINGS]
    heads = heads or sorted({part for name in tensors for part in name.split(".") if part in _EMBEDDINGS})
    if heads:
        return f"it changes {', '.join(heads)}"
    whole = next((name for name in tensors if not _LORA_TENSOR.search(name)), None)
    return f"it holds whole weights ({whole}), which vLLM cannot load" if whole else refuses_adapters(base)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _listed(names: Any) -> str:
    """The names of a list, or the one that a configuration has in place of a list."""
    return ", ".join(map(str, names)) if isinstance(names, list) else str(names)


def misfit(
    tensors: Mapping[str, tuple[int, ...]], base: Mapping[str, Any], weights: Collection[str] = ()
) -> str | None:
    """Why an adapter belongs to another base, as a clause, by the shapes of its tensors; None if it fits or is unknown.

    Args:
        tensors: name → shape of the adapter's tensors. base: its base's config.json; empty if unknown.
        weights: the names of the base's tensors; empty if unknown.
    """
    text = base.get("text_config")
    config = text if isinstance(text, Mapping) else base
    layers, width = config.get("num_hidden_layers"), config.get("hidden_size")
    tensors = {name: shape for name, shape in tensors.items() if not _OTHER_PARTS.search(name)}
    numbers = [int(match[1]) for name in tensors if (match := _LAYER.search(name))]
    if isinstance(layers, int) and numbers and max(numbers) >= layers:
        return f"it changes layer {max(numbers) + 1}, and the base has {layers} layers"
    changed = {match[1] for name in tensors if (match := _MODULE.search(name))}
    modules = {match[1] for name in weights if (match := _WEIGHT.search(name))}
    # Prefixes and experts' names differ between releases of a family, and vLLM maps them; other modules keep theirs.
    known = modules and not any("expert" in name for name in changed)
    if changed and known and not any(module.startswith(name) for name in changed for module in modules):
        return f"it changes {min(changed)} of a layer, and the base's layers have no such part"
    inputs = {shape[1] for name, shape in tensors.items() if _FROM_HIDDEN.search(name) and len(shape) == 2}
    if isinstance(width, int) and inputs and inputs != {width}:
        return f"its layers are {max(inputs):,} wide, and the base's are {width:,} wide"
    return None


def refuses_adapters(base: Mapping[str, Any]) -> str | None:
    """Why vLLM serves no adapters on a base, as a clause; None if it does.

    Args:
        base: its config.json.
    """
    without = next((name for name in base.get("architectures") or () if supports_lora(str(name)) is False), None)
    if without:
        return f"vLLM serves {without} without LoRA adapters"
    if _has_experts(base) and _is_cpu_build():
        # With LoRA enabled, its expert layers want Triton's kernels, also for adapters that leave the experts alone.
        return "vLLM's build for CPUs serves models with experts without LoRA adapters"
    return None


def _has_experts(config: Mapping[str, Any]) -> bool:
    parts = [config, *(part for part in config.values() if isinstance(part, Mapping))]
    counts = [part.get(name) for part in parts for name in _EXPERTS]
    return any(isinstance(count, int) and count > 1 for count in counts)


def _is_cpu_build() -> bool:
    """Whether the installed vLLM is the build for CPUs, which is a package of its own."""
    try:
        distribution("vllm")
    except PackageNotFoundError:
        return find_source(_REGISTRY) is not None
    return False


def serves(architecture: str) -> bool | None:
    """Whether the registry of the installed vLLM names an architecture; None if there is no vLLM here.

    vLLM also serves some architectures that it does not name, by their implementation in transformers.
    """
    return architecture in _registered_classes() if find_source(_REGISTRY) else None


@cache
def supports_lora(architecture: str) -> bool | None:
    """Whether the installed vLLM serves adapters on an architecture, such as LlamaForCausalLM.

    None if that is unknown: there is no vLLM here, or its registry does not name the architecture.
    """
    if (place := _registered_classes().get(architecture)) is None:
        return None
    module, name = place
    return _has_interface(module if "." in module else f"{_MODELS}.{module}", name, frozenset())


@cache
def _registered_classes() -> dict[str, tuple[str, str]]:
    """Architecture → module and class, from the dictionaries of vLLM's registry."""
    tree = parse_source(_REGISTRY)
    classes = {}
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                try:
                    architecture, (module, name) = ast.literal_eval(key), ast.literal_eval(value)  # type: ignore[arg-type] -- checked by trying
                except (ValueError, TypeError):
                    continue
                if all(isinstance(part, str) for part in (architecture, module, name)):
                    classes.setdefault(architecture, (module, name))
    return classes


def _has_interface(module: str, name: str, seen: frozenset[tuple[str, str]]) -> bool | None:
    """Whether a class or one of its bases is the interface; None if it cannot be followed to its definition."""
    if name == _INTERFACE:
        return True
    if not module.startswith("vllm.") or (module, name) in seen:
        return False
    tree = parse_source(module)
    if tree is None:
        return None
    seen |= {(module, name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == name:
            answers = [_has_interface(module, base, seen) for base in map(_base_name, node.bases) if base]
            return True if True in answers else None if None in answers else False
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _has_interface(_resolve(module, node), alias.name, seen)
    return None


def _base_name(node: ast.expr) -> str:
    """The name of a base class; "" for another module's, as in `nn.Module`; "?" for an expression."""
    if isinstance(node, ast.Subscript):
        node = node.value
    if isinstance(node, ast.Attribute):
        return ""
    return node.id if isinstance(node, ast.Name) else "?"


def _resolve(module: str, node: ast.ImportFrom) -> str:
    """The absolute name of the module that `module` imports from."""
    if not node.level:
        return node.module or ""
    path = find_source(module)
    package = module.split(".") if path and path.name == "__init__.py" else module.split(".")[:-1]
    return ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])


@cache
def parse_source(module: str) -> ast.Module | None:
    """The syntax tree of an installed module's source, without importing it; None if there is none."""
    path = find_source(module)
    try:
        return ast.parse(path.read_text("utf-8")) if path else None
    except (OSError, SyntaxError, ValueError):
        return None


@cache
def find_source(module: str) -> Path | None:
    """The file of an installed module, without importing it; None if there is none."""
    package, *rest = module.split(".")
    root = find_spec(package)  # a top-level package: this finds it without loading it
    for folder in (root.submodule_search_locations if root else None) or ():
        path = Path(folder, *rest)
        for file in (path / "__init__.py", path.with_name(f"{path.name}.py")):
            if file.is_file():
                return file
    return None
