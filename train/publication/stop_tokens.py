"""Writes the tokens at which a published model stops into its generation_config.json: its base's, and the token that
ends a turn. An adapter's file is for other programs; Parley's engines do not need it.
"""

import json
from pathlib import Path
from typing import Any

from models.chat_templates.tokenizer_files import GENERATION_CONFIG
from models.files.atomic import atomic_write
from train.trainers.bases import Base, load_config, load_tokenizer
from train.trainers.runtime import quiet
from train.trainers.templates import turn_end


def write_stop_tokens(folder: Path, base: Base) -> None:
    """Adds the token that ends a turn to a folder's generation_config.json, unless engines stop there."""
    with quiet():
        tokenizer = load_tokenizer(base)
        token = turn_end(tokenizer).token
        stops = _stop_tokens(base)
    if token is None or token in {*stops, tokenizer.eos_token_id}:
        return
    file = folder / GENERATION_CONFIG
    values: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    values["eos_token_id"] = sorted({*stops, token})
    atomic_write(file, (json.dumps(values, indent=2) + "\n").encode())


def _stop_tokens(base: Base) -> set[int]:
    """The ids at which the base's engine stops: those of its generation settings, otherwise of its config."""
    from transformers import GenerationConfig

    try:
        value = GenerationConfig.from_pretrained(base.location).eos_token_id
    except (OSError, ValueError):  # it has none, or none that can be read
        value = load_config(base).eos_token_id
    return {token for token in (value if isinstance(value, list) else [value]) if isinstance(token, int)}
