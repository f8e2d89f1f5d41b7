"""promptfoo's templates: plain variables, `{{name}}` and `{{name.field[0]}}`. Blocks and expressions are not read."""

import re
from collections.abc import Mapping
from typing import Any

from evals.exchange.folder import NotMapped
from evals.graders.templates import TemplateError, as_text, look_up

_TAG = re.compile(r"\{\{-?\s*([^{}]*?)\s*-?\}\}")
_NAME = re.compile(r"[A-Za-z_]\w*(?:\.\w+|\[\d+\])*", re.ASCII)
_RAW = re.compile(r"\{%-?\s*raw\s*-?%\}(.*?)\{%-?\s*endraw\s*-?%\}", re.DOTALL)
_SIMPLE = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_DEEPEST, _LONGEST = 5, 2**20  # of texts that name other texts


def variables(template: str) -> list[str]:
    """The variables of a template.

    Raises:
        NotMapped: it has a block, a filter or a call.
    """
    names = []
    plain = _RAW.sub("", template)
    if "{%" in plain or "{#" in plain or "{{" in _TAG.sub("", plain):
        raise NotMapped("the template has a block ({% … %}) or an expression, and only variables are read")
    for name in _TAG.findall(plain):
        if not _NAME.fullmatch(name):
            raise NotMapped(f"the template has the expression {{{{{name[:60]}}}}}, and only variables are read")
        if name.startswith("env."):
            raise NotMapped(f"the template reads {name[:60]} from the environment")
        names.append(name)
    return names


def to_item_template(template: str, others: Mapping[str, str] | None = None) -> str:
    """The template with `{{item.name}}` in place of `{{name}}`.

    Args:
        others: name → another variable or text in its place.

    Raises:
        NotMapped: see `variables`; or a raw block has braces.
    """
    variables(template)

    def replace(match: re.Match[str]) -> str:
        name = match[1]
        return others[name] if others and name in others else f"{{{{item.{name}}}}}"

    parts = _RAW.split(template)
    if any("{{" in raw for raw in parts[1::2]):
        raise NotMapped("the template has a raw block with braces")
    return "".join(part if place % 2 else _TAG.sub(replace, part) for place, part in enumerate(parts))


def from_item_template(template: str, others: Mapping[str, str] | None = None) -> str:
    """The reverse of `to_item_template`.

    Raises:
        NotMapped: a variable does not belong to the item and is not in `others`.
    """

    def replace(match: re.Match[str]) -> str:
        name = match[1]
        if others and name in others:
            return others[name]
        if not name.startswith("item.") or not _NAME.fullmatch(name.removeprefix("item.")):
            raise NotMapped(f"{{{{{name[:60]}}}}} is not a variable of promptfoo")
        return f"{{{{{name.removeprefix('item.')}}}}}"

    return _TAG.sub(replace, template) if "{%" not in template else _raise_block()


def _raise_block() -> str:
    raise NotMapped("the text has {%, which promptfoo reads as a block")


def fill(value: Any, values: Mapping[str, Any]) -> Any:
    """A value with the variables in its texts filled in; a text that is one variable becomes the variable's value.

    Raises:
        NotMapped: see `variables`.
    """
    if isinstance(value, list):
        return [fill(part, values) for part in value]
    if isinstance(value, dict):
        return {name: fill(part, values) for name, part in value.items()}
    if not isinstance(value, str) or "{" not in value:
        return value
    variables(value)
    if (match := _TAG.fullmatch(value)) is not None:
        return _value(match[1], values)
    parts = _RAW.split(value)
    return "".join(
        part if place % 2 else _TAG.sub(lambda match: as_text(_value(match[1], values)), part)
        for place, part in enumerate(parts)
    )


def _value(name: str, values: Mapping[str, Any]) -> Any:
    try:
        return look_up(name, values)
    except TemplateError:  # as nunjucks does
        return ""


def resolve_variables(values: Mapping[str, Any]) -> dict[str, Any]:
    """Variables whose texts name other variables, as promptfoo resolves them: `{{name}}` only, at most five deep."""
    resolved = dict(values)
    for _ in range(_DEEPEST):
        changed = False
        for name, value in resolved.items():
            match = next((each for each in named_variables(value) if each[1] in resolved), None)
            if match is not None and len(value) <= _LONGEST:
                resolved[name] = value.replace(match[0], as_text(resolved[match[1]]), 1)
                changed = True
        if not changed:
            break
    return resolved


def named_variables(value: Any) -> list[tuple[str, str]]:
    """The variables in a text, each as it is written and by its name."""
    found = _SIMPLE.finditer(value) if isinstance(value, str) else ()
    return [(match[0], match[1]) for match in found]
