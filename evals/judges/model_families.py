"""Which models are kin: of one base, or of one maker. A judge is warned of where it judges its own (self-preference).

Panickssery et al. 2024 (arXiv:2404.13076) found judges to favour what they recognise as their own. Nothing is asked
here; a name that says nothing about its maker is kin to nobody but its own base.
"""

import re
from collections.abc import Mapping

from models.spec import ModelSpec

_MAKERS = {
    "gpt": "OpenAI", "chatgpt": "OpenAI", "davinci": "OpenAI", "o": "OpenAI", "claude": "Anthropic",
    "gemini": "Google", "gemma": "Google", "qwen": "Alibaba", "qwq": "Alibaba", "llama": "Meta", "codellama": "Meta",
    "mistral": "Mistral", "mixtral": "Mistral", "ministral": "Mistral", "codestral": "Mistral",
    "magistral": "Mistral", "deepseek": "DeepSeek", "phi": "Microsoft", "smollm": "Hugging Face", "grok": "xAI",
    "command": "Cohere", "olmo": "Ai2", "granite": "IBM", "nemotron": "NVIDIA",
}  # fmt: skip


def kin(judge: ModelSpec, models: tuple[ModelSpec, ...], by_id: Mapping[str, ModelSpec]) -> list[tuple[str, str]]:
    """Those of the models that are of the judge's family, as (id, what they have in common)."""
    bottom, maker = _bottom(judge, by_id)
    found = []
    for spec in models:
        other, other_maker = _bottom(spec, by_id)
        if other == bottom:
            found.append((spec.id, f"both come from {bottom}"))
        elif maker is not None and maker == other_maker:
            found.append((spec.id, f"both are {maker}'s"))
    return found


def _bottom(spec: ModelSpec, by_id: Mapping[str, ModelSpec]) -> tuple[str, str | None]:
    """The id at the bottom of a model's line of bases, and its maker where the names tell."""
    seen = {spec.id}
    while spec.base and spec.base in by_id and spec.base not in seen:
        spec = by_id[spec.base]
        seen.add(spec.id)
    names = [spec.base, spec.upstream.model if spec.upstream else None, None if spec.folder else spec.path, spec.id]
    makers = (maker_of(name) for name in names if name)
    return spec.base or spec.id, next((maker for maker in makers if maker), None)


def maker_of(name: str) -> str | None:
    """Who made a model of this name: a hub id, a hosted model's name or a fine-tune's `ft:…`; None where unknown."""
    plain = name.removeprefix("ft:").partition(":")[0].rpartition("/")[2].lower()
    letters = re.match(r"(?:meta-)?([a-z]+)", plain)
    # «o» is OpenAI's only before a digit: o1, o3-mini.
    if letters is None or (letters[1] == "o" and not re.match(r"o\d", plain)):
        return None
    return _MAKERS.get(letters[1])
