"""Templates of graders and eval runs: `{{item.question}}`, `{{sample.output_json.a.b}}`, `{{sample.choices[0]}}`.

A text is inserted as it is, any other value as JSON. There are no loops or conditions. Source: OpenAI's guide on
graders.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from models.errors import Invalid, ParleyError

NAMESPACES = ("item", "sample")
_VARIABLE = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
_PATH = re.compile(r"[^.\[\]]+(?:\.[^.\[\]]+|\[\d{1,6}\])*")
_STEP = re.compile(r"[^.\[\]]+")
_QUOTED = 60


class TemplateError(ParleyError):
    """A variable has no value. `code` is `invalid_variable_error`, or `sample_parse_error` for output_json."""


def render(template: str, values: Mapping[str, Any]) -> str:
    """The template with its variables replaced by their values.

    Args:
        values: `item` and `sample`, JSON objects.

    Raises:
        TemplateError: a variable has no value.
    """
    return _VARIABLE.sub(lambda match: as_text(look_up(match[1], values)), template)


def look_up(path: str, values: Mapping[str, Any]) -> Any:
    """The value at a path such as `item.turns[0].text`.

    Raises:
        TemplateError: there is none.
    """
    value: Any = values
    steps = _STEP.findall(path)
    if not steps:
        raise TemplateError(
            "{{}} names no variable: use item.NAME or sample.output_text.", code="invalid_variable_error"
        )
    for place, step in enumerate(steps):
        if isinstance(value, Mapping) and step in value:
            value = value[step]
        elif isinstance(value, Sequence) and not isinstance(value, str) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        elif place == 1 and step == "output_json":
            raise TemplateError(
                "The answer is not JSON, so sample.output_json has no value.", code="sample_parse_error"
            )
        else:
            raise TemplateError(f"{path[:_QUOTED]} has no value.", code="invalid_variable_error")
    return value


def as_text(value: Any) -> str:
    """A value as it is inserted into a text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def check_variables(template: str, param: str) -> None:
    """Checks that all variables of a template belong to `item` or `sample`.

    Raises:
        Invalid: one does not.
    """
    for name in _VARIABLE.findall(template):
        if not _PATH.fullmatch(name) or _STEP.findall(name)[0] not in NAMESPACES:
            raise Invalid(
                f"{{{{{name[:_QUOTED]}}}}} is not a variable: use item.NAME or sample.output_text.",
                param=param,
                code="invalid_variable_error",
            )


def sample_values(text: str, /, **others: Any) -> dict[str, Any]:
    """The namespace `sample` of an answer, with `output_json` only if the text is JSON. `others`: more names."""
    values = {"output_text": text, **others}
    try:
        values["output_json"] = json.loads(text)
    except (ValueError, RecursionError):
        values.pop("output_json", None)
    return values


def content_texts(content: Any) -> Iterator[str]:
    """The templates in a message's content, which is a text, a part, or a list of both."""
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            yield part
        elif part["type"] == "input_image":
            yield part["image_url"]
        else:
            yield part["input_audio"]["data"] if part["type"] == "input_audio" else part["text"]


def has_media(content: Any) -> bool:
    """Whether a message's content has images or audio."""
    parts = content if isinstance(content, list) else [content]
    return any(isinstance(part, Mapping) and part.get("type") in ("input_image", "input_audio") for part in parts)


def render_messages(
    messages: Sequence[Mapping[str, Any]], values: Mapping[str, Any], fill: Callable[..., str] = render
) -> list[dict[str, Any]]:
    """A template's messages as role and content: a text, or parts of a chat completion if there are images or audio.

    The role developer becomes system, which all models know.

    Raises:
        TemplateError: a variable has no value.
    """
    return [
        {
            "role": "system" if message["role"] == "developer" else message["role"],
            "content": _render_content(message["content"], values, fill),
        }
        for message in messages
    ]


def _render_content(content: Any, values: Mapping[str, Any], fill: Callable[..., str]) -> Any:
    if not has_media(content):
        return "\n".join(fill(text, values) for text in content_texts(content))
    parts = content if isinstance(content, list) else [content]
    return [chat_part(part, lambda text: fill(text, values)) for part in parts]


def chat_part(part: Any, fill: Callable[[str], str] = str) -> Any:
    """A part of a message of the evals API as a part of a chat completion; one that is none is returned as it is."""
    match part:
        case str():
            return {"type": "text", "text": fill(part)}
        case {"type": "input_text" | "output_text" | "text", "text": str(text)}:
            return {"type": "text", "text": fill(text)}
        case {"type": "input_image", "image_url": str(url)}:
            detail = {"detail": part["detail"]} if part.get("detail") else {}
            return {"type": "image_url", "image_url": {"url": fill(url)} | detail}
        case {"type": "input_audio", "input_audio": {"data": str(data), "format": kind}}:
            return {"type": "input_audio", "input_audio": {"data": fill(data), "format": kind}}
    return part
