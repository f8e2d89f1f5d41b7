"""Whether a chat template supports system messages."""

from collections.abc import Mapping

from models.chat_templates.content_parts import takes_parts
from models.chat_templates.renderer import TemplateRefuses, compile_template

_SYSTEM = "Plain orders."
_TURNS = (("system", _SYSTEM), ("user", "A question."))


def has_system_role(template: str, tokens: Mapping[str, str]) -> bool:
    """Whether a template renders a system message at the beginning. Others refuse it or leave it out."""
    in_parts = takes_parts(template)
    turns = [{"role": role, "content": [{"type": "text", "text": text}] if in_parts else text} for role, text in _TURNS]
    try:
        return _SYSTEM in compile_template(template).render(turns, tokens, add_generation_prompt=True)
    except TemplateRefuses:
        return False
