"""Which models are related, by base model or vendor: a judge may favour its own family (self-preference).

Panickssery et al. 2024 (arXiv:2404.13076) found that judges favour text they recognise as their own. A name that does
not reveal its vendor is related to its own base model only.
"""

import re
from collections.abc import Mapping

from models.spec import ModelSpec

_VENDORS = {
    "gpt": "OpenAI", "chatgpt": "OpenAI", "davinci": "OpenAI", "o": "OpenAI", "claude": "Anthropic",
    "gemini": "Google", "gemma": "Google", "qwen": "Alibaba", "qwq": "Alibaba", "llama": "Meta", "codellama": "Meta",
    "mistral": "Mistral", "mixtral": "Mistral", "ministral": "Mistral", "codestral": "Mistral",
    "magistral": "Mistral", "deepseek": "DeepSeek", "phi": "Microsoft", "smollm": "Hugging Face", "grok": "xAI",
    "command": "Cohere", "olmo": "Ai2", "granite": "IBM", "nemotron": "NVIDIA",
}  # fmt: skip


def related_models(
    judge: ModelSpec, models: tuple[ModelSpec, ...], by_id: Mapping[str, ModelSpec]
) -> list[tuple[str, str]]:
    """Those of the models that are of the judge's family, as (id, what they have in common)."""
    base, vendor = _lineage(judge, by_id)
    related = []
    for spec in models:
        other_base, other_vendor = _lineage(spec, by_id)
        if other_base == base:
            related.append((spec.id, f"both are based on {base}"))
        elif vendor is not None and vendor == other_vendor:
            related.append((spec.id, f"both are from {vendor}"))
    return related


def _lineage(spec: ModelSpec, by_id: Mapping[str, ModelSpec]) -> tuple[str, str | None]:
    """The id of a model's lowest base, and its vendor if a name reveals it."""
    visited = {spec.id}
    while spec.base and spec.base in by_id and spec.base not in visited:
        spec = by_id[spec.base]
        visited.add(spec.id)
    names = [spec.base, spec.upstream.model if spec.upstream else None, None if spec.folder else spec.path, spec.id]
    vendors = (vendor_of(name) for name in names if name)
    return spec.base or spec.id, next((vendor for vendor in vendors if vendor), None)


def vendor_of(name: str) -> str | None:
    """The vendor of a model by its name: a hub id, a hosted model's name or a fine-tune's `ft:…`; None if unknown."""
    plain = name.removeprefix("ft:").partition(":")[0].rpartition("/")[2].lower()
    letters = re.match(r"(?:meta-)?([a-z]+)", plain)
    # "o" is OpenAI's only before a digit: o1, o3-mini.
    if letters is None or (letters[1] == "o" and not re.match(r"o\d", plain)):
        return None
    return _VENDORS.get(letters[1])
