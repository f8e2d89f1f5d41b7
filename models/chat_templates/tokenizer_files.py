"""Reads a model's folder: its chat template, its named tokens, and the tokens at which an engine stops."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from models.json_files import read_json

GENERATION_CONFIG = "generation_config.json"
_NAMED = ("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token")


def read_folder_template(folder: Path) -> str | None:
    """The chat template that an engine uses for a folder by default; None if there is none."""
    file = folder / "chat_template.jinja"
    with suppress(OSError):
        return file.read_text("utf-8", "replace")
    template = read_json(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default")
    return template if isinstance(template, str) and template else None


def read_named_tokens(folder: Path) -> dict[str, str]:
    """The named tokens, such as `eos_token`, as a template reads them."""
    settings = read_json(folder / "tokenizer_config.json")
    values = {name: settings.get(name) for name in _NAMED}
    texts = {name: value.get("content") if isinstance(value, dict) else value for name, value in values.items()}
    return {name: text for name, text in texts.items() if isinstance(text, str)}


def read_added_tokens(folder: Path) -> dict[str, int]:
    """The tokens that the tokenizer never splits, with their ids."""
    named = read_json(folder / "tokenizer_config.json").get("added_tokens_decoder")
    if isinstance(named, dict) and named:
        tokens = [(key, token) for key, token in named.items() if isinstance(token, dict) and key.isdecimal()]
        return _ids(token | {"id": int(key)} for key, token in tokens)
    # It may have 30 MB, so it is read only if the small file does not list the tokens.
    entries = read_json(folder / "tokenizer.json").get("added_tokens")
    return _ids(entries if isinstance(entries, list) else ())


def _ids(entries: Iterable[Any]) -> dict[str, int]:
    ids = [(token.get("content"), token.get("id")) for token in entries if isinstance(token, dict)]
    return {content: number for content, number in ids if isinstance(content, str) and isinstance(number, int)}


def read_stop_tokens(folder: Path) -> set[int]:
    """The ids at which an engine stops: those of generation_config.json, otherwise of config.json."""
    file = folder / GENERATION_CONFIG
    values = read_json(file if file.is_file() else folder / "config.json")
    text = values.get("text_config")
    value = values.get("eos_token_id", text.get("eos_token_id") if isinstance(text, dict) else None)
    return {token for token in (value if isinstance(value, list) else [value]) if isinstance(token, int)}


def with_stop_token(folder: Path, token: int) -> dict[str, Any]:
    """The content of a folder's generation_config.json with one more token to stop at."""
    values = read_json(folder / GENERATION_CONFIG)
    return values | {"eos_token_id": sorted(read_stop_tokens(folder) | {token})}
