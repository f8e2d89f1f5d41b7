"""A model's chat template: its file, which the engine is started with, and the text of all its templates."""

import json
from pathlib import Path
from typing import Any

from models.spec import ModelSpec


def find_chat_template(spec: ModelSpec) -> Path | None:
    """The template file in the model's folder; None for a hub id, or if it is part of the tokenizer's config."""
    path = spec.folder and spec.folder / "chat_template.jinja"
    return path if path and path.is_file() else None


def read_chat_templates(folder: Path) -> str:
    """The text of all chat templates of a folder; empty if there are none."""
    files = [folder / "chat_template.jinja", *sorted(folder.glob("additional_chat_templates/*.jinja"))]
    texts = [path.read_text("utf-8", "replace") for path in files if path.is_file()]
    in_config = read_json(folder / "tokenizer_config.json").get("chat_template") if not texts else None
    if isinstance(in_config, str):
        texts.append(in_config)
    elif isinstance(in_config, list):
        texts += [str(entry.get("template", "")) for entry in in_config if isinstance(entry, dict)]
    return "\n".join(texts)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; empty if there is none."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
