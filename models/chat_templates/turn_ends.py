"""The token that ends an answer: what a template writes after the assistant's text, and whether an engine stops there.

An engine stops at the tokenizer's end token and at those in generation_config.json. If the template ends a turn with
another token, a trained model generates that token and then continues.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from models.chat_templates.content_parts import takes_parts
from models.chat_templates.renderer import TemplateRefuses, compile_template

_ANSWER = "Plain words."
_TURNS = (("user", "A question."), ("assistant", _ANSWER))


@dataclass(frozen=True)
class TurnEnd:
    """How a template ends the assistant's turn.

    Attributes:
        text: the text after the assistant's message, without white space around it. If it is empty, training adds the
            end token.
        token: the id of the token at the beginning of this text; None if it is not a single token, so that no engine
            can stop there.
    """

    text: str
    token: int | None

    @property
    def unknown(self) -> bool:
        """Whether an answer ends with text that an engine cannot stop at."""
        return bool(self.text) and self.token is None


def find_turn_end(template: str, tokens: Mapping[str, str], added: Mapping[str, int]) -> TurnEnd:
    """How a template ends the assistant's turn; an empty `TurnEnd` if it refuses a plain conversation.

    Args:
        tokens: the tokenizer's named tokens, such as `eos_token`.
        added: the tokens that the tokenizer never splits, with their ids.
    """
    in_parts = takes_parts(template)
    turns = [{"role": role, "content": [{"type": "text", "text": text}] if in_parts else text} for role, text in _TURNS]
    try:
        _, answer, after = compile_template(template).render(turns, tokens).rpartition(_ANSWER)
    except TemplateRefuses:
        return TurnEnd("", None)
    text = after.strip() if answer else ""
    first = max((token for token in added if token.strip() and text.startswith(token.strip())), key=len, default=None)
    return TurnEnd(text, added[first] if first else None)
