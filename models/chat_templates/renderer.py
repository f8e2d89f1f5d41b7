"""Renders a chat template as transformers and vLLM do, without loading either.

The environment is that of transformers 5 (`utils/chat_template_utils.py`): sandboxed, blocks trimmed, with loop
controls, `raise_exception`, `strftime_now` and a `tojson` that does not escape letters.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox


class TemplateRefuses(Exception):
    """The template cannot render this conversation; the message is the template's."""


class _Generation(jinja2.ext.Extension):
    """`{% generation %}`, which marks the assistant's text. Rendering only removes the marks."""

    tags = frozenset({"generation"})  # type: ignore[assignment] -- jinja2 declares a set, and never changes it

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        """The content of the block."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@dataclass(frozen=True)
class CompiledTemplate:
    """A template that is ready to render. `broken`: why it cannot be compiled; empty if it can."""

    template: jinja2.Template | None
    broken: str = ""

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tokens: Mapping[str, str],
        *,
        add_generation_prompt: bool = False,
    ) -> str:
        """The text of a conversation.

        Args:
            messages: each with a role and its content. tokens: the tokenizer's named tokens, such as `eos_token`.

        Raises:
            TemplateRefuses: the template is broken, or refuses the conversation.
        """
        if self.template is None:
            raise TemplateRefuses(self.broken)
        try:
            return self.template.render(
                messages=list(messages), tools=None, documents=None, add_generation_prompt=add_generation_prompt,
                **tokens,
            )  # fmt: skip
        except Exception as error:  # a template may fail with any error
            raise TemplateRefuses(" ".join(str(error).split()) or type(error).__name__) from error


@lru_cache(maxsize=32)
def compile_template(text: str) -> CompiledTemplate:
    """Compiles the text of a template."""
    try:
        functions = {"raise_exception": _refuse, "strftime_now": _now}
        return CompiledTemplate(_environment().from_string(text, functions))
    except Exception as error:  # also RecursionError, and ValueError for a number of thousands of digits
        return CompiledTemplate(None, " ".join(str(error).split()).rstrip(".") or type(error).__name__)


def parse_template(text: str) -> jinja2.nodes.Template | None:
    """A template's syntax tree; None if it is broken."""
    try:
        return _environment().parse(text)
    except Exception:  # as in `compile_template`
        return None


def _environment() -> jinja2.Environment:
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    return environment


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)


def _now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)
