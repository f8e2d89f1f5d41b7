"""The prompts and providers of a promptfooconfig.yaml as messages and models."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from evals.exchange.assertion_slots import Losses
from evals.exchange.assertions import model_name
from evals.exchange.folder import Folder, NotMapped, read_json
from evals.exchange.nunjucks import to_item_template

_TEXTS, _VALUES = (".txt", ".md", ".j2"), (".json", ".yaml", ".yml")
_CODE = (".py", ".js", ".cjs", ".mjs", ".ts", ".sh", ".rb", ".go")
_ROLES = ("system", "developer", "user", "assistant")
_DUMP = re.compile(r"\{\{-?\s*([\w.]+)\s*\|\s*dump\s*-?\}\}")
_SEPARATOR = "\n---\n"
# promptfoo's option → the run's sampling parameter.
_SAMPLING = {
    "temperature": "temperature", "top_p": "top_p", "seed": "seed", "max_tokens": "max_completion_tokens",
    "max_completion_tokens": "max_completion_tokens", "response_format": "response_format", "tools": "tools",
    "reasoning_effort": "reasoning_effort",
}  # fmt: skip
# Where and how a provider is called, which Parley's own registration of the model says.
_CONNECTION = ("apiBaseUrl", "apiHost", "apiKeyEnvar", "organization", "headers")
_OUTSIDE = ("file:", "exec:", "python:", "http:", "https:", "webhook", "package:", "golang:", "ruby:", "mcp", "browser")


@dataclass(frozen=True)
class Prompt:
    """A prompt's name and its `input_messages`, with variables of the item."""

    name: str
    messages: dict[str, Any]


@dataclass(frozen=True)
class Provider:
    """A model by the name in the configuration, and how it is sampled."""

    model: str
    sampling: Mapping[str, Any]


def read_prompts(prompts: Any, folder: Folder, losses: Losses) -> list[Prompt]:
    """All prompts; those that cannot be read are added to the losses."""
    if isinstance(prompts, dict) and "raw" not in prompts and "id" not in prompts:
        prompts = list(prompts)  # an old form: file → label
    read: list[Prompt] = []
    for number, entry in enumerate(prompts if isinstance(prompts, list) else [prompts], start=1):
        try:
            for label, raw in _raw_prompts(entry, folder):
                read.append(Prompt(label or f"prompt {number}", _messages(raw)))
        except NotMapped as error:
            losses.add(f"prompt {number}: {error}")
    return read


def read_providers(providers: Any, folder: Folder, losses: Losses) -> list[Provider]:
    """All models; those that cannot be called here are added to the losses."""
    read: list[Provider] = []
    for entry in _entries(providers, folder, losses):
        try:
            read.append(_provider(entry, losses))
        except NotMapped as error:
            losses.add(f"provider {error}")
    return read


def _raw_prompts(entry: Any, folder: Folder) -> Iterator[tuple[str, Any]]:
    """The label and content of each prompt of an entry."""
    label = ""
    if isinstance(entry, dict):
        label = str(entry.get("label") or "")
        entry = entry.get("raw", entry.get("file", entry.get("id")))
    if isinstance(entry, list):
        yield label, entry
        return
    if not isinstance(entry, str):
        raise NotMapped("it is not a text or a file")
    path = entry.removeprefix("file://")
    if entry == path and ("\n" in path or len(path) > 255 or not path.endswith((*_TEXTS, *_VALUES, *_CODE, ".jsonl"))):
        yield label, entry
        return
    for name in folder.glob(path):
        if name.endswith(_CODE) or name.rpartition(":")[0].endswith(_CODE):
            raise NotMapped(f"{name} is code, which is not run here")
        if name.endswith(_VALUES):
            yield label or name, folder.value(name) if not name.endswith(".json") else folder.text(name)
        elif name.endswith(".jsonl"):
            yield from ((f"{label or name} {place}", row) for place, row in enumerate(folder.rows(name), start=1))
        else:
            parts = [part.strip() for part in f"\n{folder.text(name)}\n".split(_SEPARATOR)]
            filled = [part for part in parts if part]
            yield from (
                (f"{label or name} {place}" if len(filled) > 1 else label or name, part)
                for place, part in enumerate(filled, start=1)
            )


def _messages(raw: Any) -> dict[str, Any]:
    """A prompt as messages: a list in JSON or YAML is a conversation, anything else the user's text."""
    if isinstance(raw, str) and (whole := _DUMP.fullmatch(raw.strip())):
        return {"type": "item_reference", "item_reference": f"item.{whole[1]}"}
    return {"type": "template", "template": _template(raw)}


def _template(raw: Any) -> list[dict[str, Any]]:
    if isinstance(raw, str) and raw.lstrip().startswith("["):
        text = _DUMP.sub(lambda match: f'"{{{{{match[1]}}}}}"', raw)
        try:
            raw = read_json(text, "prompt")
        except NotMapped as error:
            if '"role"' in raw:
                raise NotMapped(f"it looks like messages, but its {error}") from error
    if isinstance(raw, str):
        return [{"role": "user", "content": to_item_template(raw)}]
    if not isinstance(raw, list) or not raw:
        raise NotMapped("it is not a text or a list of messages")
    return [_message(message) for message in raw]


def _message(message: Any) -> dict[str, Any]:
    if not isinstance(message, dict) or message.get("role") not in _ROLES:
        raise NotMapped(f"a message needs one of the roles {', '.join(_ROLES)}")
    content = message.get("content")
    if isinstance(content, str):
        return {"role": message["role"], "content": to_item_template(content)}
    if isinstance(content, list) and content:
        return {"role": message["role"], "content": [_part(part) for part in content]}
    raise NotMapped("a message has no content")


def _part(part: Any) -> dict[str, Any]:
    """A part of a chat message in the format of the evals API."""
    part = part if isinstance(part, dict) else {"type": "text", "text": part}
    match part:
        case {"type": "text" | "input_text", "text": str(text)}:
            return {"type": "input_text", "text": to_item_template(text)}
        case {"type": "image_url", "image_url": {"url": str(url)}} | {"type": "input_image", "image_url": str(url)}:
            return {"type": "input_image", "image_url": to_item_template(url)}
        case {"type": "input_audio", "input_audio": {"data": str(data), "format": "mp3" | "wav" as kind}}:
            return {"type": "input_audio", "input_audio": {"data": to_item_template(data), "format": kind}}
    raise NotMapped(f"a message has a part of the type {str(part.get('type'))[:40]!r}")


def _entries(providers: Any, folder: Folder, losses: Losses) -> Iterator[Any]:
    for entry in providers if isinstance(providers, list) else [providers] if providers else []:
        if isinstance(entry, str) and entry.startswith("file://") and entry.endswith(_VALUES):
            try:
                value = folder.value(entry)
            except NotMapped as error:
                losses.add(f"provider {error}")
                continue
            yield from value if isinstance(value, list) else [value]
        else:
            yield entry


def _provider(entry: Any, losses: Losses) -> Provider:
    if isinstance(entry, str):
        entry = {"id": entry}
    if isinstance(entry, dict) and "id" not in entry and len(entry) == 1:
        (name, options) = next(iter(entry.items()))
        entry = {"id": name, **(options if isinstance(options, dict) else {})}
    name = entry.get("id") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not name:
        raise NotMapped("without an id")
    if name.startswith(_OUTSIDE):
        raise NotMapped(f"{name[:80]}: only models are called, no programs or servers")
    config = entry.get("config") or {}
    if not isinstance(config, dict):
        raise NotMapped(f"{name[:80]}: its config is not an object")
    for key in sorted(set(config) - set(_SAMPLING) - set(_CONNECTION)):
        losses.add(f"provider {name[:80]}: the option {str(key)[:60]} is not supported")
    if connection := sorted(set(config) & set(_CONNECTION)):
        losses.add(
            f"provider {name[:80]}: {', '.join(connection)} not imported: register the model (`parley models add`)"
        )
    for key in sorted(set(entry) - {"id", "config", "label"}):
        losses.add(f"provider {name[:80]}: the field {str(key)[:60]} is not supported")
    sampling = {_SAMPLING[key]: value for key, value in config.items() if key in _SAMPLING and value is not None}
    return Provider(model_name(name)[:255], sampling)
