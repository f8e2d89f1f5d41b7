"""Whether a chat template drops the reasoning in training data, or writes an empty reasoning block if there is none.

Neither is an error, but the model learns both, so each gives one warning for a whole data set.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from train.data.conversations import Example, Problem, reasoning_of

_NAMES = r"think|thinking|thought|reasoning|seed:think"
_EMPTY = re.compile(
    rf"<({_NAMES})>\s*</\1>|\[THINK\]\s*\[/THINK\]|<\|channel\|>analysis<\|message\|>\s*<\|end\|>"
    rf"|\A\s*</(?:{_NAMES})>",  # the generation prompt has opened it
    re.IGNORECASE,
)
_WRITTEN = re.compile(rf"<({_NAMES})>(.*?)</\1>", re.DOTALL | re.IGNORECASE)


def loses_earlier_thoughts(example: Example, tokenizer: Any, turns: Sequence[Sequence[int]]) -> bool:
    """Whether a template writes the reasoning of the last learnt turn and leaves out that of an earlier one.

    Args:
        turns: the token ids of the learnt turns, all in one row.
    """
    thoughts = [reasoning_of(example.conversation.messages[position]) for position in example.learnt]
    if not any(thoughts[:-1]):
        return False
    learnt = _letters("".join(tokenizer.decode(ids) for ids in turns))
    written = [_letters(thought) in learnt for thought in thoughts]
    return written[-1] and not all(written)


class ThoughtCheck:
    """Counts the examples whose reasoning is lost, and those that get an empty reasoning block."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        template = tokenizer.chat_template
        texts = template.values() if isinstance(template, dict) else [template]
        self._thinks = any(re.search(r"think|reasoning|thought", str(text), re.IGNORECASE) for text in texts)
        self._dropped: dict[int, None] = {}  # the lines, in order
        self._emptied: dict[int, None] = {}

    def add(self, example: Example, turns: Callable[[], Sequence[Sequence[int]]]) -> None:
        """Checks one example; `turns` returns the token ids of each learnt turn as the template writes it."""
        messages = [example.conversation.messages[position] for position in example.learnt]
        written = [match.group(2) for message in messages for match in _WRITTEN.finditer(message.content)]
        thoughts = [text for text in (*map(reasoning_of, messages), *written) if text.strip()]
        if not thoughts and not self._thinks:
            return
        texts = [self._tokenizer.decode(ids) for ids in turns()]
        learnt = _letters("".join(texts))
        if any(_letters(thought) not in learnt for thought in thoughts):
            self._dropped[example.line] = None
        in_data = any(not text.strip() for text in written)  # the data itself has an empty block
        if not in_data and any(_EMPTY.search(text) for text in texts):
            self._emptied[example.line] = None

    def problems(self) -> tuple[Problem, ...]:
        """One warning for each kind that occurred."""
        warnings = []
        if self._dropped:
            message = f"the chat template leaves out the reasoning of the answers{_where(list(self._dropped))}"
            mend = (
                "put the reasoning into the answers, or use a base or --chat-template that writes `reasoning_content`"
            )
            warnings.append(Problem(0, "warning", message, mend, "reasoning-dropped"))
        if self._emptied:
            where = _where(list(self._emptied))
            message = f"the chat template writes an empty reasoning block before answers without reasoning{where}"
            mend = "add `reasoning_content` to the answers, unless the model should answer without reasoning"
            warnings.append(Problem(0, "warning", message, mend, "empty-thought"))
        return tuple(warnings)


def _letters(text: str) -> str:
    """The text without white space, which tokenizers and templates change."""
    return "".join(text.split())


def _where(lines: Sequence[int]) -> str:
    number = len(lines)
    return f": line {lines[0]:,}" if number == 1 else f": {number:,} examples, the first is line {lines[0]:,}"
